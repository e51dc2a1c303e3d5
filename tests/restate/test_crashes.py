"""Whatever dies on the way, a run goes on from what had finished, and comes to the same."""

import anyio
import carried
import httpx
import pytest
from effects import effects_of, until_begun
from restate_process import Worker
from wire import Wire

from plait import StepTimeoutError
from plait.durable import StepInterruptedError

pytestmark = pytest.mark.anyio


async def check(run):
    assert await run.result() == carried.JOURNEY_RESULT
    effects = effects_of(run.run_id)
    assert set(effects.lines) == {line for line in effects.lines if line[0] <= 12}
    assert len(set(effects.lines)) == carried.JOURNEY_EFFECTS
    effects.check_nothing_finished_ran_again()


async def journeys(client, count):
    return [await client.start(carried.journey, carried.JOURNEY_INPUT) for _ in range(count)]


async def test_worker_killed_at_each_step(client, worker):
    with worker.revived() as deaths:
        runs = [
            await client.start(carried.journey, carried.JOURNEY_INPUT, data={"die_at": effect})
            for effect in range(1, carried.JOURNEY_EFFECTS + 1, 3)
        ]
        for run in runs:
            with anyio.fail_after(40):
                await check(run)
    assert 2 <= len(deaths) <= carried.JOURNEY_EFFECTS
    assert set(deaths) == {-9}


async def test_step_that_may_run_at_most_once_is_not_executed_again(client, worker):
    with worker.revived() as deaths:
        run = await client.start(carried.careful, 1, data={"die_at": 2})
        with pytest.raises(StepInterruptedError, match="may run at most once"):
            await run.result()
    assert len(deaths) == 1
    effects_of(run.run_id).check_each_ran_once()


async def test_server_killed_in_mid_run(client, server):
    runs = await journeys(client, 5)
    waiting = await client.start(carried.approval, 1)
    await until_begun(runs[0], 3)
    async with anyio.create_task_group() as tasks:
        # Who waits for a result goes on waiting.
        tasks.start_soon(check, runs[0])
        await anyio.sleep(0.01)
        server.kill()
        await anyio.to_thread.run_sync(server.start)
    await waiting.signal("approved", True)
    assert await waiting.result() is True
    for run in runs:
        await check(run)


async def test_network_between_server_and_worker_is_cut(client, server, worker):
    with Wire(worker.port) as wire:
        await anyio.to_thread.run_sync(server.register, wire.url)
        runs = await journeys(client, 5)
        for effects in (2, 6, 11):
            await until_begun(runs[0], effects)
            wire.cut()
            await anyio.sleep(0.1)
            wire.mend()
        for run in runs:
            await check(run)

        stuck = await client.start(carried.stuck_run, 1)
        await until_begun(stuck, 2)
        wire.cut()
        await until_begun(stuck, 3)
        wire.mend()
        await until_begun(stuck, 4)
    stages = [stage for stage, _ in effects_of(stuck.run_id).lines]
    assert stages[:4] == [1, 2, 3, 2], "a step whose process is cut off is cancelled, then repeated"
    await anyio.to_thread.run_sync(server.register, worker.url)


async def test_run_goes_on_with_the_version_that_it_began_with(
    client, server, worker, effects_file
):
    old = await client.start(carried.versioned, 1)
    newer = Worker(effects_file, PLAIT_TEST_VERSION="2")
    newer.start()
    try:
        await anyio.to_thread.run_sync(server.register, newer.url)
        new = await client.start(carried.versioned, 1)
        for run in (old, new):
            await run.signal("go")
        assert await old.result() == "1 by version 1"
        assert await new.result() == "1 by version 2"
    finally:
        newer.stop()
        await anyio.to_thread.run_sync(server.register, worker.url)


async def test_run_that_its_workflow_no_longer_fits_is_left_until_it_does(
    client, server, worker, effects_file
):
    reasons = {
        carried.renamed: "mismatch",
        carried.rerouted: "is no longer there: the workflow was changed since",
        carried.retyped: "cannot be decoded",
    }
    runs = {workflow: await client.start(workflow, 1) for workflow in reasons}
    for run in runs.values():
        with pytest.raises(StepTimeoutError):
            await run.event("never", timeout=0.1)
    worker.stop()
    changed = Worker(effects_file, PLAIT_TEST_VERSION="2")
    changed.port = worker.port
    changed.start()
    try:
        for workflow, run in runs.items():
            await run.signal("go")
            await until_failed(server, run, reasons[workflow])
    finally:
        changed.stop()
        worker.start()
    assert await runs[carried.renamed].result() == 2
    assert await runs[carried.rerouted].result() == -1
    assert await runs[carried.retyped].result() == 1


async def until_failed(server, run, reason):
    """Wait until Restate says that it could not carry a run on for a reason."""
    query = (
        "SELECT last_failure FROM sys_invocation "
        f"WHERE target_service_key = '{run.run_id}' AND target_handler_name = 'run'"
    )
    failure = None
    async with httpx.AsyncClient(headers={"accept": "application/json"}) as http:
        for _ in range(200):
            answer = await http.post(f"http://{server.admin}/query", json={"query": query})
            failure = answer.json()["rows"][0].get("last_failure")
            if failure is not None and reason in failure.lower():
                return
            await anyio.sleep(0.05)
    raise TimeoutError(f"{run}: {failure}")
