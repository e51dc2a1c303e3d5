"""What is there: lists by every filter, pages, exports, pruning, and unknown workflows."""

import json
import logging
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from cryptography.fernet import Fernet
from interruption import Gate
from waiting import runner_of, until_waiting

from plait import SignalPrimitive, step, workflow
from plait.durable import (
    DurableRunner,
    EncryptedCodec,
    FolderBlobStore,
    JsonCodec,
    Queue,
    RunNotFoundError,
)
from plait.durable._blobs import Blobs

pytestmark = pytest.mark.anyio

greet = (step(str.title) >> "Hello {}".format).named("greet")
ask = SignalPrimitive("answer").named("ask")


@step
async def fail(message):
    raise ConnectionError(message)


async def ids(runner, **filters):
    return [info.run_id for info in await runner.list(**filters)]


async def test_runs_are_listed_by_each_of_their_facts(journal):
    async with runner_of(journal, greet, ask, queues=[Queue("mail")]) as runner:
        await runner.run(greet, "ada", run_id="first", metadata={"tier": "gold", "n": 1})
        between = datetime.now(UTC)
        await runner.run(greet, "bob", run_id="second", metadata={"tier": "gold", "n": 2})
        await (await runner.start(greet, "eve", run_id="queued", queue="mail")).result()
        await runner.start(ask, None, run_id="asking")
        await until_waiting(runner, "asking")
        await runner.start(greet, "later", run_id="later", delay=60)
        with pytest.raises(ConnectionError):
            await runner.run(fail, "down", run_id="failed")

        assert await ids(runner) == ["failed", "later", "asking", "queued", "second", "first"]
        assert await ids(runner, workflow="ask") == ["asking"]
        assert await ids(runner, status="queued") == ["later"]
        assert await ids(runner, status=["waiting", "failed"]) == ["failed", "asking"]
        assert await ids(runner, metadata={"tier": "gold"}) == ["second", "first"]
        assert await ids(runner, metadata={"tier": "gold", "n": 1}) == ["first"]
        assert await ids(runner, queue="mail") == ["queued"]
        assert await ids(runner, created_before=between) == ["first"]
        assert await ids(runner, created_after=between, status="completed") == ["queued", "second"]
        assert await ids(runner, workflow="greet", status="failed") == []


async def test_a_long_list_goes_on_page_by_page(journal):
    async with runner_of(journal, greet) as runner:
        for number in range(7):
            await runner.run(greet, "ada", run_id=f"run-{number}")
        found, before = [], None
        while page := await ids(runner, before=before, limit=3):
            found += page
            before = page[-1]
        assert found == [f"run-{number}" for number in reversed(range(7))]
        with pytest.raises(RunNotFoundError):
            await runner.list(before="nobody")


@pytest.mark.parametrize("limit", [0, -1])
async def test_a_list_of_nothing_is_refused(journal, limit):
    async with runner_of(journal) as runner:
        with pytest.raises(ValueError, match=f"limit={limit} of a list"):
            await runner.list(limit=limit)


async def test_an_export_has_everything_a_line_each(journal):
    async with runner_of(journal, greet) as runner:
        await runner.run(greet, "ada", run_id="first", metadata={"tier": "gold"})
        with pytest.raises(ConnectionError):
            await runner.run(fail, "down", run_id="second")
        lines = [json.loads(line) async for line in runner.export()]
        assert [line["run_id"] for line in lines if line["type"] == "run"] == ["second", "first"]
        run, *records = [line for line in lines if line["run_id"] == "first"]
        assert (run["workflow"], run["status"]) == ("greet", "completed")
        assert (run["input"], run["outcome"]) == ("ada", "Hello Ada")
        assert (run["metadata"], run["parent"], run["queue"]) == ({"tier": "gold"}, None, None)
        assert run["created"] <= run["updated"]
        assert [(line["path"], line["kind"], line["payload"]) for line in records] == [
            ("greet/1:title", "value", "Ada"),
            ("greet/2:format", "value", "Hello Ada"),
        ]
        chosen = [json.loads(line) async for line in runner.export("second")]
        assert {line["run_id"] for line in chosen} == {"second"}
        with pytest.raises(RunNotFoundError):
            [line async for line in runner.export("nobody")]


async def test_an_export_of_many_runs_leaves_none_out(journal):
    async with runner_of(journal, greet) as runner, anyio.create_task_group() as tasks:
        for number in range(250):
            tasks.start_soon(runner.run, greet, f"run {number}")
    async with runner_of(journal, greet) as runner:
        lines = [json.loads(line) async for line in runner.export()]
    assert len({line["run_id"] for line in lines}) == 250
    assert len(lines) == 3 * 250


async def test_an_export_of_what_is_encrypted_stays_so(journal):
    codec = EncryptedCodec(JsonCodec(), [Fernet.generate_key()])
    async with runner_of(journal, greet, codec=codec) as runner:
        await runner.run(greet, "ada", run_id="run")
        lines = [line async for line in runner.export("run")]
    assert not any("Ada" in line for line in lines)
    assert isinstance(json.loads(lines[0])["input"], str)


async def test_an_export_has_what_is_kept_in_blobs(journal, tmp_path):
    async with runner_of(journal, greet, blobs=FolderBlobStore(tmp_path / "blobs")) as runner:
        await runner.run(greet, "a" * 100_000, run_id="run")
        lines = [json.loads(line) async for line in runner.export("run")]
    assert lines[0]["input"] == "a" * 100_000


async def test_old_runs_are_removed_with_all_that_is_recorded_of_them(journal):
    async with runner_of(journal, greet, ask) as runner:
        for name in ("ada", "bob"):
            await runner.run(greet, name, run_id=name)
        with pytest.raises(ConnectionError):
            await runner.run(fail, "down", run_id="failed")
        await runner.start(ask, None, run_id="asking")
        assert await runner.prune(3600) == 0
        assert await runner.prune(timedelta(hours=1), status="completed") == 0
        assert await runner.prune(0, status="failed") == 1
        assert await ids(runner) == ["asking", "bob", "ada"]
        assert await runner.prune(timedelta()) == 2
        assert await ids(runner) == ["asking"]
        with pytest.raises(RunNotFoundError):
            await runner.info("ada")
        assert await runner.run(greet, "other", run_id="ada") == "Hello Other"


async def test_runs_that_have_not_ended_are_not_pruned(journal):
    async with runner_of(journal) as runner:
        with pytest.raises(ValueError, match="runs that are running, waiting have not ended"):
            await runner.prune(0, status=["waiting", "running", "failed"])


async def test_many_runs_are_pruned(journal):
    async with runner_of(journal, greet) as runner:
        async with anyio.create_task_group() as tasks:
            for number in range(450):
                tasks.start_soon(runner.run, greet, f"run {number}")
        assert await runner.prune(0) == 450
        assert await runner.list() == []


async def test_runs_of_unknown_workflows_are_left_alone_and_reported_once(journal, caplog):
    gate = Gate()

    @workflow
    async def old(_: None) -> None:
        await step(gate)(None)

    async with runner_of(journal, old, ask) as runner:
        await runner.start(old, None, run_id="run")
        await runner.start(ask, None, run_id="asking")
        await gate.reached.wait()
        await until_waiting(runner, "asking")
    assert caplog.records == []
    gate.open()
    async with runner_of(journal, greet) as runner:
        assert (await runner.info("run")).status == "running"
        with pytest.raises(ValueError, match=r"of workflow 'old', which this runner does not have"):
            await runner.resume("run")
        assert await runner.run(greet, "ada") == "Hello Ada"
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("plait.durable", logging.WARNING)
    assert "left alone: 'ask', 'old'; pass them in workflows=" in record.getMessage()
    async with runner_of(journal, old, ask) as runner:
        await (await runner.get("run")).result()
    assert len(caplog.records) == 1


async def test_a_runner_is_entered_before_it_is_asked_for_anything(journal):
    runner = DurableRunner(journal, listeners={"event": [greet]})
    for ask_it in (lambda: runner.start(greet, "ada"), lambda: runner.publish("event", "ada")):
        with pytest.raises(RuntimeError, match="enter the DurableRunner first"):
            await ask_it()


async def test_a_runner_is_entered_once(journal):
    async with DurableRunner(journal) as runner:
        with pytest.raises(RuntimeError, match="entered already; make another one"):
            await runner.__aenter__()


async def test_the_blobs_of_pruned_runs_are_removed_unless_others_refer_to_them(journal, tmp_path):
    @step
    async def enlarge(letters: str) -> str:
        return letters * 1000

    store = FolderBlobStore(tmp_path / "blobs")
    workflow = (enlarge >> str.lower).named("large")
    blobs = Blobs(store, threshold_bytes=256)
    async with runner_of(journal, workflow, blobs=blobs) as runner:
        await runner.run(workflow, "a", run_id="first")
        await runner.run(workflow, "b", run_id="second")
        await runner.fork("second", new_run_id="fork")
        assert await (await runner.get("fork")).result() == "b" * 1000
        assert len([blob async for blob in store.list()]) == 2
        assert await runner.prune(0, blobs_older_than=3600) == 3
        assert len([blob async for blob in store.list()]) == 2
        await runner.run(workflow, "b", run_id="third")
        assert await runner.prune(3600, blobs_older_than=timedelta(seconds=-10)) == 0
        assert len([blob async for blob in store.list()]) == 1
        assert await (await runner.get("third")).result() == "b" * 1000
