"""Cancelling: a run stops where it stands, what it has to undo is undone, and it can go on."""

import anyio
import pytest
from interruption import Gate
from waiting import runner_of, until, until_status, until_waiting

from plait import ParallelPrimitive, SignalPrimitive, WorkflowContext, step, workflow
from plait.durable import Queue, RunCancelledError, RunNotFoundError, SqliteJournal

pytestmark = pytest.mark.anyio


@pytest.fixture
def done():
    """What steps did, in order."""
    return []


@pytest.fixture
def careful(done):
    """A workflow that undoes what it did when it is stopped."""

    @step
    async def note(what):
        done.append(what)

    @workflow
    async def careful(_: None, context: WorkflowContext) -> str:
        await note("reserve")
        try:
            return await context.wait_for("approval", str)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await note("release")
                await undo(None)
            raise

    undo = step(lambda _: done.append("notify"), name="undo")
    return careful


async def cancelled(run):
    with anyio.fail_after(20), pytest.raises(RunCancelledError, match=f"run '{run.run_id}' was"):
        await run.result()


async def test_a_run_is_stopped_in_the_middle_of_a_step(journal):
    gate = Gate()
    async with runner_of(journal) as runner:
        run = await runner.start(step(gate), 42, run_id="run")
        await gate.reached.wait()
        assert await run.cancel() is True
        await cancelled(run)
        assert (await run.info()).status == "cancelled"
        assert await run.cancel() is False
    assert gate.passed == 0


async def test_branches_are_stopped_together(journal):
    gates = [Gate(), Gate()]
    both = ParallelPrimitive([*gates, SignalPrimitive("go")]).named("both")
    async with runner_of(journal, both) as runner:
        run = await runner.start(both, 42, run_id="run")
        for gate in gates:
            await gate.reached.wait()
        await run.cancel()
        await cancelled(run)
    assert [gate.passed for gate in gates] == [0, 0]


async def test_a_run_that_is_not_there_cannot_be_cancelled(journal):
    async with runner_of(journal) as runner:
        with pytest.raises(RunNotFoundError):
            await runner.cancel("nobody")


@pytest.mark.parametrize("is_in_memory", [True, False])
async def test_what_a_waiting_run_did_is_undone(journal, careful, done, is_in_memory):
    async with runner_of(journal, careful, suspend_after=60 if is_in_memory else 0.02) as runner:
        run = await runner.start(careful, None, run_id="run")
        await until_status(runner, "run", "running" if is_in_memory else "waiting")
        await until(lambda: done)
        await run.cancel()
        await cancelled(run)
    assert done == ["reserve", "release", "notify"]


async def test_a_run_is_cancelled_by_another_runner(journal, careful, done):
    async with runner_of(journal, careful, suspend_after=60) as first, runner_of(journal) as second:
        run = await first.start(careful, None, run_id="run")
        await until(lambda: done)
        assert await second.cancel("run")
        await cancelled(run)
    assert done == ["reserve", "release", "notify"]


async def test_a_run_is_cancelled_while_nobody_executes_it(journal, careful, done):
    async with runner_of(journal, careful) as runner:
        await runner.start(careful, None, run_id="run")
        await until_waiting(runner, "run")
    async with runner_of(journal) as runner:
        assert await runner.cancel("run")
        assert (await runner.info("run")).is_cancelled
    async with runner_of(journal, careful) as runner:
        await cancelled(await runner.get("run"))
    assert done == ["reserve", "release", "notify"]


async def test_a_signal_that_came_in_the_meantime_does_not_keep_it_from_stopping(
    journal, careful, done
):
    async with runner_of(journal, careful) as runner:
        await runner.start(careful, None, run_id="run")
        await until_waiting(runner, "run")
    async with runner_of(journal) as runner:
        await runner.signal("run", "approval", "ada")
        await runner.cancel("run")
    async with runner_of(journal, careful) as runner:
        await cancelled(await runner.get("run"))
    assert done == ["reserve", "release", "notify"]


async def test_what_was_undone_before_an_interruption_is_not_undone_again(journal):
    done, gate = [], Gate()

    @workflow
    async def order(_: None, context: WorkflowContext) -> None:
        await context.step("reserve", done.append, "reserve")
        try:
            await context.sleep(0.3)
            await context.step("charge", done.append, "charge")
        finally:
            with anyio.CancelScope(shield=True):
                await context.step("release", done.append, "release")
                await context.step("gate", gate, None)
                await context.step("notify", done.append, "notify")

    async def open_soon():
        await anyio.sleep(0.1)
        gate.open()

    async with (
        anyio.create_task_group() as tasks,
        runner_of(journal, order, suspend_after=60) as runner,
    ):
        run = await runner.start(order, None, run_id="run")
        await until(lambda: done)
        await run.cancel()
        await gate.reached.wait()
        # What undoes something is shielded: who leaves waits for it, and keeps nothing of it.
        tasks.start_soon(open_soon)
    # By now its timer is over, which it was not when it was stopped.
    await anyio.sleep(0.4)
    async with runner_of(journal, order) as runner:
        await cancelled(await runner.get("run"))
    assert done == ["reserve", "release", "notify"]


async def test_a_run_that_has_not_begun_never_begins(journal, done):
    work = step(done.append, name="work")
    async with runner_of(journal, work) as runner:
        run = await runner.start(work, 42, run_id="run", delay=60)
        assert (await run.info()).status == "queued"
        await run.cancel()
        await cancelled(run)
    assert done == []


async def test_a_run_in_a_queue_is_cancelled_without_its_turn(journal, done):
    gate = Gate()
    gated, work = step(gate).named("gated"), step(done.append, name="work")
    async with runner_of(journal, gated, work, queues=[Queue("one", 1)]) as runner:
        first = await runner.start(gated, 1, queue="one")
        run = await runner.start(work, 42, run_id="run", queue="one")
        await gate.reached.wait()
        await run.cancel()
        await cancelled(run)
        gate.open()
        assert await first.result() == 1
    assert done == []


async def test_a_failure_while_undoing_is_how_the_run_ends(journal):
    @step
    async def undo(_):
        raise ConnectionError("cannot undo")

    @workflow
    async def order(_: None, context: WorkflowContext) -> None:
        try:
            await context.wait_for("go")
        finally:
            with anyio.CancelScope(shield=True):
                await undo(None)

    async with runner_of(journal, order) as runner:
        run = await runner.start(order, None, run_id="run")
        await until_waiting(runner, "run")
        await run.cancel()
        with pytest.raises(ConnectionError, match="cannot undo"):
            await run.result()
        assert (await run.info()).status == "failed"


async def test_a_run_that_is_cancelled_once_it_has_ended_has_ended(journal):
    async with runner_of(journal) as runner:
        run = await runner.start(step(str), 42, run_id="run")
        await run.result()
        assert await run.cancel() is False
        assert (await run.info()).status == "completed"


async def test_a_cancelled_run_is_resumed_where_it_stood(journal, done):
    @workflow
    async def order(_: None, context: WorkflowContext) -> str:
        await context.step("reserve", done.append, "reserve")
        return await context.wait_for("approval", str)

    async with runner_of(journal, order) as runner:
        run = await runner.start(order, None, run_id="run")
        await until_waiting(runner, "run")
        await run.cancel()
        await cancelled(run)
        run = await runner.resume("run")
        await run.signal("approval", "ada")
        assert await run.result() == "ada"
        assert not (await run.info()).is_cancelled
    assert done == ["reserve"]


async def test_a_run_that_waits_for_something_of_its_own_is_stopped_too(journal):
    reached = anyio.Event()

    @workflow
    async def odd(_: None, context: WorkflowContext) -> None:
        reached.set()
        await anyio.sleep_forever()

    async with runner_of(journal, odd) as runner:
        run = await runner.start(odd, None, run_id="run")
        await reached.wait()
        await run.cancel()
        await cancelled(run)


async def test_a_replay_that_comes_to_nothing_is_stopped_too(journal, monkeypatch):
    from plait.durable import _waits

    monkeypatch.setattr(_waits, "_STUCK_SECONDS", 0.1)

    @workflow
    async def odd(_: None, context: WorkflowContext) -> None:
        await context.step("note", str, 1)
        reached.append(True)
        await anyio.sleep_forever()

    reached = []
    async with runner_of(journal, odd) as runner:
        await runner.start(odd, None, run_id="run")
        await until(lambda: reached)
    async with runner_of(journal, odd) as runner:
        await until(lambda: len(reached) == 2)
        run = await runner.get("run")
        await run.cancel()
        await cancelled(run)


async def test_a_failed_sibling_does_not_keep_a_resumed_run_waiting(journal):
    """Calls and waits that were cut off by a failure are made again when it is resumed."""
    is_up, gate = [], Gate()

    @step
    async def call(value):
        await anyio.sleep(0.05)
        if not is_up:
            raise ConnectionError
        return value

    @workflow
    async def order(_: None, context: WorkflowContext) -> list:
        return await context.gather(
            call("called"), context.wait_for("go"), context.step("gate", gate, "passed")
        )

    async with runner_of(journal, order) as runner:
        run = await runner.start(order, None, run_id="run")
        with pytest.raises(ConnectionError):
            await run.result()
        is_up.append(True)
        gate.open()
        run = await runner.resume("run")
        await run.signal("go", "went")
        assert await run.result() == ["called", "went", "passed"]


async def test_many_runs_are_cancelled_at_the_same_time(journal, careful, done):
    async with runner_of(journal, careful) as runner:
        runs = [await runner.start(careful, None) for _ in range(50)]
        for run in runs:
            await run.cancel()
        for run in runs:
            await cancelled(run)
    assert done.count("reserve") == done.count("release") == done.count("notify")


@pytest.fixture
def ending(monkeypatch):
    """Holds up what ends a run in the journal; tells when it has come to that."""
    gate, finish = Gate(), SqliteJournal.finish

    async def finish_late(self, *arguments):
        await gate(None)
        await finish(self, *arguments)

    monkeypatch.setattr(SqliteJournal, "finish", finish_late)
    return gate


async def test_who_cancels_a_run_whose_end_is_being_recorded_comes_too_late(journal, ending):
    async with runner_of(journal) as runner:
        run = await runner.start(step(str), 42, run_id="run")
        await ending.reached.wait()
        await run.cancel()
        execution = runner._executor.executions["run"]
        await until(lambda: execution.runtime.is_cancelled)
        ending.open()
        assert await run.result() == "42"
        assert (await run.info()).status == "completed"


async def test_a_program_that_is_cancelled_waits_for_an_end_that_is_being_recorded(journal, ending):
    async def stop():
        await ending.reached.wait()
        program.cancel()
        await anyio.wait_all_tasks_blocked()
        ending.open()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop)
        with anyio.CancelScope() as program:
            async with runner_of(journal) as runner:
                await runner.start(step(str), 42, run_id="run")
                await anyio.sleep_forever()
    async with runner_of(journal) as runner:
        assert (await runner.info("run")).status == "completed"
