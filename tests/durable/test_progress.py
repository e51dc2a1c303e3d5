"""Progress: what a run says of itself while it is under way."""

import queue
import sqlite3

import pytest
from interruption import Gate
from waiting import runner_of, until

from plait import SerializationError, WorkflowContext, step, workflow
from plait.durable import JournalError, JsonCodec, SqliteJournal

pytestmark = pytest.mark.anyio


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def work(gate):
    @step
    async def work(count, context: WorkflowContext):
        for number in range(count):
            context.progress(number + 1, count, f"item {number}")
        await gate(None)
        context.progress(count, message="finished")

    return work


async def said(runner, **expected):
    async def is_said():
        progress = (await runner.info("run")).progress
        return progress is not None and all(
            getattr(progress, name) == value for name, value in expected.items()
        )

    await until(is_said)


async def test_a_run_says_how_far_it_has_come(journal, gate, work):
    async with runner_of(journal) as runner:
        run = await runner.start(work, 100, run_id="run")
        await said(runner, path="work", done=100, total=100, message="item 99")
        gate.open()
        await run.result()
        await said(runner, done=100, total=None, message="finished")


async def test_a_step_says_it_from_a_thread(journal):
    @step(thread=True)
    def work(count, context: WorkflowContext):
        context.progress(1, count)
        moments.get(timeout=10)
        context.progress(2, count)

    moments = queue.SimpleQueue()
    async with runner_of(journal) as runner:
        run = await runner.start(work, 3, run_id="run")
        await said(runner, done=1)
        moments.put(None)
        await run.result()
        await said(runner, done=2)


async def test_what_cannot_be_kept_fails_the_step_that_says_it(journal):
    @step
    async def work(is_fit, context: WorkflowContext):
        context.progress(1, message="done" if is_fit else object())

    async with runner_of(journal) as runner:
        with pytest.raises(SerializationError, match="message"):
            await runner.run(work, False)
        assert await runner.run(work, True) is None


async def test_nothing_is_said_by_a_run_that_stops_as_it_says_it(journal):
    class KeyIsLost(JsonCodec):
        def digest(self, value, like=b""):
            if like:
                raise ValueError
            return super().digest(value)

    @workflow
    async def order(_: None, context: WorkflowContext) -> None:
        context.progress(1)
        await context.step("pay", str, 42)

    async with runner_of(journal, order, codec=KeyIsLost()) as runner:
        run = await runner.start(order, None)
        with pytest.raises(JournalError, match="cannot be decoded"):
            await run.result()
        assert (await run.info()).progress is None


async def test_another_runner_sees_it(journal, gate, work):
    async with runner_of(journal) as runner, runner_of(journal) as other:
        await runner.start(work, 3, run_id="run")
        await said(other, done=3)
        gate.open()


async def test_what_was_said_last_is_kept_when_a_run_leaves_memory(journal):
    @workflow
    async def order(_: None, context: WorkflowContext) -> None:
        context.progress(1, 2)
        context.progress(2, 2, "waiting")
        await context.wait_for("go")

    async with runner_of(journal, order) as runner:
        await runner.start(order, None, run_id="run")
        await said(runner, path="order", done=2, message="waiting")


async def test_progress_that_cannot_be_kept_ends_no_run(journal, gate, work, monkeypatch):
    progress, failed = SqliteJournal.progress, []

    async def failing(self, key, payload):
        if not failed:
            failed.append(key)
            raise JournalError("full")
        await progress(self, key, payload)

    monkeypatch.setattr(SqliteJournal, "progress", failing)
    async with runner_of(journal) as runner:
        run = await runner.start(work, 3, run_id="run")
        await until(lambda: failed)
        gate.open()
        await run.result()
        await said(runner, message="finished")


async def test_progress_that_cannot_be_read_is_none(journal, file, gate, work):
    async with runner_of(journal) as runner:
        await runner.start(work, 3, run_id="run")
        await said(runner, done=3)
        with sqlite3.connect(file) as connection:
            connection.execute("UPDATE runs SET progress = x'7b'")
        connection.close()
        assert (await runner.info("run")).progress is None
        gate.open()
