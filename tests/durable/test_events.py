"""Events: what a run publishes while it is under way, for others to wait for."""

import sqlite3

import anyio
import pytest
from interruption import Gate
from waiting import runner_of, until_waiting

from plait import StepTimeoutError, WorkflowContext, workflow
from plait.durable import JournalError, RunEndedError, RunNotFoundError

pytestmark = pytest.mark.anyio


@workflow
async def order(number: int, context: WorkflowContext) -> str:
    await context.set_event("charged", {"number": number})
    return await context.wait_for("shipped", str)


@workflow
async def silent(_: None, context: WorkflowContext) -> None:
    await context.wait_for("go")


def watching(runners):
    """A workflow that waits for an event of the run whose id it is given."""

    @workflow
    async def watch(run_id: str, context: WorkflowContext) -> object:
        run = await runners[-1].get(run_id)
        return await run.event("charged")

    return watch


async def test_an_event_is_waited_for_and_has_a_value(journal):
    async with runner_of(journal, order) as runner:
        run = await runner.start(order, 42)
        assert await run.event("charged") == {"number": 42}


async def test_an_event_stays_when_its_run_has_ended(journal):
    async with runner_of(journal, order) as runner:
        run = await runner.start(order, 42, run_id="run")
        await run.signal("shipped", "by sea")
        await run.result()
    async with runner_of(journal) as runner:
        assert await runner.event("run", "charged") == {"number": 42}


async def test_an_event_that_is_set_again_has_the_new_value(journal):
    @workflow
    async def count(_: None, context: WorkflowContext) -> None:
        for number in range(3):
            await context.set_event("count", number)

    async with runner_of(journal, count) as runner:
        run = await runner.start(count, None)
        await run.result()
        assert await run.event("count") == 2


async def test_an_event_is_not_set_again_by_a_run_that_goes_on(journal):
    gate = Gate()
    values = ["first", "second"]

    @workflow
    async def tell(_: None, context: WorkflowContext) -> None:
        await context.set_event("said", values.pop(0))
        await context.step("gate", gate, None)

    async with runner_of(journal, tell) as runner:
        await runner.start(tell, None, run_id="run")
        await gate.reached.wait()
    gate.open()
    async with runner_of(journal, tell) as runner:
        run = await runner.get("run")
        await run.result()
        assert await run.event("said") == "first"


async def test_a_step_may_set_an_event(journal):
    @workflow
    async def outer(_: None, context: WorkflowContext) -> None:
        await context.step("tell", tell)

    async def tell(context: WorkflowContext) -> None:
        await context.set_event("said", 1)

    async with runner_of(journal, outer) as runner:
        run = await runner.start(outer, None)
        assert await run.event("said") == 1


async def test_a_run_that_ends_without_its_event_says_so(journal):
    async with runner_of(journal, silent) as runner:
        run = await runner.start(silent, None, run_id="run")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run.signal, "go")
            with pytest.raises(RunEndedError, match="'run' has completed without an event 'said'"):
                await run.event("said")
        with pytest.raises(RunEndedError):
            await run.event("said")


async def test_an_event_that_does_not_come_in_time(journal):
    async with runner_of(journal, silent) as runner:
        run = await runner.start(silent, None, run_id="run")
        with pytest.raises(StepTimeoutError, match=r"'run' set no event 'said' within 0.05 s"):
            await run.event("said", timeout=0.05)


async def test_a_run_that_is_not_there_has_no_events(journal):
    async with runner_of(journal) as runner:
        with pytest.raises(RunNotFoundError):
            await runner.event("nobody", "said")


async def test_an_event_of_another_runner_is_waited_for(journal):
    async with runner_of(journal, order) as first, runner_of(journal) as second:
        got = []

        async def wait():
            got.append(await second.event("run", "charged"))

        await first.start(order, 42, run_id="run", delay=0.1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
        assert got == [{"number": 42}]


async def test_a_value_that_cannot_be_read_is_an_error_of_the_journal(journal, file):
    async with runner_of(journal, order) as runner:
        run = await runner.start(order, 42)
        await run.event("charged")
        with sqlite3.connect(file) as connection:
            connection.execute("UPDATE events SET payload = x'7b'")
        connection.close()
        with pytest.raises(JournalError, match=r"event 'charged' of run .* cannot be decoded"):
            await run.event("charged")


async def test_a_run_waits_out_of_memory_for_an_event_of_another(journal):
    runners = []
    watch = watching(runners)
    async with runner_of(journal, order, watch) as runner:
        runners.append(runner)
        await runner.start(order, 42, run_id="order", delay=0.3)
        run = await runner.start(watch, "order", run_id="watch")
        info = await until_waiting(runner, "watch")
        assert {wait.path for wait in info.waits} == {"watch/#event of:order:charged"}
        assert await run.result() == {"number": 42}


async def test_an_event_that_a_run_was_told_is_told_again(journal):
    runners = []
    gate = Gate()

    @workflow
    async def count(_: None, context: WorkflowContext) -> None:
        await context.set_event("count", 1)
        await context.wait_for("go")
        await context.set_event("count", 2)

    @workflow
    async def watch(run_id: str, context: WorkflowContext) -> object:
        seen = await runners[-1].event(run_id, "count")
        await context.step("gate", gate, None)
        return seen

    async with runner_of(journal, count, watch) as runner:
        runners.append(runner)
        counting = await runner.start(count, None, run_id="count")
        await runner.start(watch, "count", run_id="watch")
        await gate.reached.wait()
        await counting.signal("go")
        await counting.result()
    gate.open()
    async with runner_of(journal, count, watch) as runner:
        runners.append(runner)
        assert await runner.event("count", "count") == 2
        assert await (await runner.get("watch")).result() == 1


async def test_a_run_is_woken_when_the_other_ends_without_the_event(journal):
    runners = []
    watch = watching(runners)
    async with runner_of(journal, silent, watch) as runner:
        runners.append(runner)
        other = await runner.start(silent, None, run_id="silent")
        run = await runner.start(watch, "silent", run_id="watch")
        await until_waiting(runner, "watch")
        await other.signal("go")
        with pytest.raises(RunEndedError, match="'silent' has completed without"):
            await run.result()
    async with runner_of(journal, silent, watch) as runner:
        runners.append(runner)
        with pytest.raises(RunEndedError):
            await (await runner.resume("watch")).result()


async def test_a_run_waits_for_an_event_only_so_long(journal):
    runners = []
    gate = Gate()

    @workflow
    async def watch(run_id: str, context: WorkflowContext) -> str:
        try:
            return await runners[-1].event(run_id, "charged", timeout=0.1)
        except StepTimeoutError as error:
            await context.step("gate", gate, None)
            return str(error)

    async with runner_of(journal, order, watch) as runner:
        runners.append(runner)
        await runner.start(order, 42, run_id="order", delay=60)
        await runner.start(watch, "order", run_id="watch")
        await gate.reached.wait()
    gate.open()
    async with runner_of(journal, order, watch) as runner:
        runners.append(runner)
        run = await runner.get("watch")
        assert await run.result() == "run 'order' set no event 'charged' within 0.1 s"
