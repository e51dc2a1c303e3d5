"""What a client may do with a run: start, signal, ask for events, cancel."""

import uuid

import anyio
import carried
import httpx
import pytest
from effects import effects_of, until_begun

from plait import RecordedError, StepTimeoutError
from plait.durable import JournalError, RunCancelledError, RunEndedError, RunNotFoundError
from plait.durable.restate import RestateClient

pytestmark = pytest.mark.anyio


async def test_body_of_a_workflow_asks_for_everything(client):
    run = await client.start(
        carried.imperative, 1, data={"user": "ada"}, metadata={"tenant": 1}, correlation_id="c-1"
    )
    assert await run.event("begun") in {1, 2}
    await run.signal("item", "one")
    await run.signal("item", "two", signal_id="second")
    await run.signal("item", "two", signal_id="second")
    result = await run.result()
    assert result["results"] == [1, 1, 2, 7]
    assert result["signals"][:2] == ["one", "two"]
    assert "no signal 'never' within 0.05 s" in result["signals"][2]
    assert result["waited"]
    assert result["data"] == {"user": "ada", "first": 1}
    assert result["patched"]
    assert uuid.UUID(result["uuid"]).version == 4
    assert await run.event("begun") == 2, "set again, it has the new value"
    effects_of(run.run_id).check_each_ran_once()


async def test_starting_a_run_twice_is_the_same_as_once(client):
    run_id = uuid.uuid4().hex
    first = await client.run(carried.journey, carried.JOURNEY_INPUT, run_id=run_id)
    again = await client.run(carried.journey, carried.JOURNEY_INPUT, run_id=run_id)
    run = await client.start(carried.journey, carried.JOURNEY_INPUT, run_id=run_id)
    assert first == again == await run.result() == carried.JOURNEY_RESULT
    assert effects_of(run_id).count_all() == carried.JOURNEY_EFFECTS


async def test_each_of_several_branches_takes_one_signal(client):
    run = await client.start(carried.from_both_sides, 3)
    async with anyio.create_task_group() as senders:
        for number in range(3):
            senders.start_soon(run.signal, "item", number)
    assert await run.result() == [0, 1, 2]


async def test_event_that_is_not_set_in_time(client):
    run = await client.start(carried.approval, 1)
    with pytest.raises(StepTimeoutError, match=r"set no event 'shipped' within 0\.05 s"):
        await run.event("shipped", timeout=0.05)
    await run.cancel()


async def test_event_that_is_set_in_time(client):
    run = await client.start(carried.imperative, 1)
    assert await run.event("begun", timeout=10) in {1, 2}
    await run.cancel()


async def test_cancelled_wait_is_compensated(client):
    run = await client.start(carried.approval, 1)
    await until_begun(run, 1)
    assert await run.cancel()
    with pytest.raises(RunCancelledError, match=run.run_id):
        await run.result()
    assert [stage for stage, _ in effects_of(run.run_id).lines] == [1, 100]
    assert not await run.cancel()
    with pytest.raises(RunCancelledError):
        await client.run(carried.approval, 1, run_id=run.run_id)


async def test_signal_to_a_run_that_has_ended_or_never_was(client):
    run = await client.start(carried.typed, carried.Order(1, 2))
    await run.result()
    with pytest.raises(RunEndedError, match="has ended, and takes no signal 'approved'"):
        await run.signal("approved", True)
    unknown = client.get(carried.typed, "nobody")
    assert repr(unknown) == "<RestateRun typed/'nobody'>"
    for ask in (unknown.result, unknown.cancel, lambda: unknown.signal("approved")):
        with pytest.raises(RunNotFoundError, match="there is no run 'nobody' of 'typed'"):
            await ask()


async def test_plain_http_calls_start_and_signal_runs(client, server):
    as_json = {"content-type": "application/json"}
    async with httpx.AsyncClient(base_url=server.url, timeout=30, headers=as_json) as http:
        run_id = uuid.uuid4().hex
        order = {"number": 1, "total": "1.50"}
        answer = await http.post(f"/typed/{run_id}/run", json=order)
        assert answer.status_code == 200, answer.text
        result = await client.get(carried.typed, run_id).result()
        assert result == carried.Order(1, carried.Decimal("6.00"))

        await http.post(f"/approval/{run_id}/run/send", json=1)
        answer = await http.post(f"/approval/{run_id}/signal", json=["approved"])
        assert answer.status_code == 400, answer.text
        assert "a signal is an object such as" in answer.json()["message"]
        answer = await http.post(
            f"/approval/{run_id}/signal", json={"name": "approved", "payload": True}
        )
        assert answer.status_code == 200, answer.text
        assert await client.get(carried.approval, run_id).result() is True

        answer = await http.post(f"/typed/{uuid.uuid4().hex}/run", json={"number": "many"})
        assert answer.status_code == 400
        assert "the input does not fit 'typed'" in answer.json()["message"]
        refused = client.get(carried.typed, answer.request.url.path.split("/")[2])
        with pytest.raises(RecordedError, match="the input does not fit 'typed'"):
            await refused.result()

        locate = b'{"$plait":{"kind":"locate","size":4},"data":null,"payload":null}'
        answer = await http.post(
            f"/typed/{uuid.uuid4().hex}/run",
            content=locate,
            headers={"content-type": "application/json"},
        )
        assert "there is no run" in answer.json()["message"]


async def test_workflow_that_the_server_does_not_know(client):
    with pytest.raises(JournalError, match="404: service 'unknown' not found"):
        await client.start(carried.typed.named("unknown"), carried.Order(1, 2))


async def test_waiting_for_many_results_leaves_room_for_signals(client):
    runs = [await client.start(carried.approval, 1) for _ in range(110)]
    results = []

    async def wait(run):
        results.append(await run.result())

    async with anyio.create_task_group() as waiting:
        for run in runs:
            waiting.start_soon(wait, run)
        await anyio.sleep(0.1)
        for run in runs:
            waiting.start_soon(run.signal, "approved", True)
    assert results == [True] * 110


async def test_address_at_which_something_else_is(server, worker):
    async with RestateClient(f"http://{server.admin}") as client:
        with pytest.raises(JournalError, match="the Restate server answers 40"):
            await client.start(carried.typed, carried.Order(1, 2))


async def test_address_at_which_no_server_is():
    async with RestateClient("http://127.0.0.1:1", patience_seconds=0.3) as client:
        with pytest.raises(JournalError, match="no answer from the Restate server"):
            await client.start(carried.typed, carried.Order(1, 2))


@pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
async def test_client_works_on_trio(server, worker):
    async with RestateClient(server.url) as client:
        run = await client.start(carried.approval, 1)
        await run.signal("approved", True)
        assert await run.result() is True
