"""Runs that start other runs: once, awaited or on their own, cancelled with who awaits them."""

import anyio
import pytest
from interruption import Gate
from waiting import runner_of, until, until_status, until_waiting

from plait import RetryPrimitive, WorkflowContext, step, workflow
from plait.durable import RunCancelledError, RunConflictError, RunNotFoundError
from plait.recovery import constant

pytestmark = pytest.mark.anyio


@pytest.fixture
def runners():
    """The runners that are there; the last one is the one that lives."""
    return []


@workflow
async def double(number: int, context: WorkflowContext) -> int:
    return await context.step("double", lambda n: 2 * n, number)


@workflow
async def ask(_: object, context: WorkflowContext) -> str:
    return await context.wait_for("answer", str)


@step
async def fail(message):
    raise ConnectionError(message)


def awaiting(runners, child, name="parent"):
    @workflow(name=name)
    async def parent(value, context: WorkflowContext):
        run = await runners[-1].start(child, value)
        return await run.result()

    return parent


async def test_a_run_starts_another_and_waits_for_its_result(journal, runners):
    parent = awaiting(runners, double)
    async with runner_of(journal, parent, double) as runner:
        runners.append(runner)
        assert await runner.run(parent, 21, run_id="run") == 42
        child, own = await runner.list()
        assert (own.parent, child.parent) == (None, "run")
        assert child.run_id == "run:parent/#start"
        assert [info.run_id for info in await runner.list(parent="run")] == [child.run_id]


async def test_a_child_carries_on_its_parents_correlation(journal, runners):
    @step
    async def look(_, context: WorkflowContext):
        return context.correlation_id

    parent = awaiting(runners, look)
    async with runner_of(journal, parent, look) as runner:
        runners.append(runner)
        assert await runner.run(parent, None, correlation_id="request-1") == "request-1"


async def test_a_parent_leaves_memory_while_it_waits(journal, runners):
    parent = awaiting(runners, ask)
    async with runner_of(journal, parent, ask) as runner:
        runners.append(runner)
        run = await runner.start(parent, None, run_id="run")
        info = await until_waiting(runner, "run", "run:parent/#start")
        assert info.waits[0].signal == "answer"
        await runner.signal("run:parent/#start", "answer", "yes")
        assert await run.result() == "yes"


async def test_a_child_is_started_once_wherever_its_parent_is_interrupted(journal, runners):
    gate, begun = Gate(), []

    @workflow
    async def parent(value, context: WorkflowContext):
        runs = [await runners[-1].start(note, n) for n in range(3)]
        await context.step("gate", gate, None)
        return [await run.result() for run in runs]

    @step
    async def note(value):
        begun.append(value)
        return value

    async with runner_of(journal, parent, note) as runner:
        runners.append(runner)
        await runner.start(parent, None, run_id="run")
        await gate.reached.wait()
    gate.open()
    async with runner_of(journal, parent, note) as runner:
        runners.append(runner)
        assert await (await runner.get("run")).result() == [0, 1, 2]
        assert len(await runner.list(parent="run")) == 3
        verification = await runner.verify("run")
        assert verification.fits
        assert len(await runner.list()) == 4
    assert sorted(begun) == [0, 1, 2]


async def test_verifying_a_parent_starts_nothing(journal, runners):
    gate = Gate()

    @workflow
    async def parent(value, context: WorkflowContext):
        await context.step("gate", gate, None)
        run = await runners[-1].start(double, 1)
        await runners[-1].publish("doubled", 1)
        return await run.result()

    async with runner_of(journal, parent, double, listeners={"doubled": [double]}) as runner:
        runners.append(runner)
        await runner.start(parent, None, run_id="run")
        await gate.reached.wait()
        verification = await runner.verify("run")
        assert (verification.fits, verification.stopped_at) == (True, "parent/1:gate")
        gate.open()
        assert await (await runner.get("run")).result() == 2
        assert len(await runner.list()) == 3
        assert (await runner.verify("run")).fits
        assert len(await runner.list()) == 3


async def test_a_childs_id_may_be_given(journal, runners):
    @workflow
    async def parent(value, context: WorkflowContext):
        run = await runners[-1].start(double, value, run_id="child")
        return run.run_id, await run.result()

    async with runner_of(journal, parent, double) as runner:
        runners.append(runner)
        assert await runner.run(parent, 1) == ("child", 2)
        with pytest.raises(RunConflictError):
            await runner.run(parent, 2)


async def test_a_child_that_fails_fails_its_parent(journal, runners):
    parent = awaiting(runners, fail)
    async with runner_of(journal, parent, fail) as runner:
        runners.append(runner)
        with pytest.raises(ConnectionError, match="line is down"):
            await runner.run(parent, "line is down", run_id="run")
        assert {info.status for info in await runner.list()} == {"failed"}


async def test_a_child_that_is_resumed_mends_its_parent(journal, runners):
    is_up = []

    @step
    async def call(value):
        if not is_up:
            raise ConnectionError
        return value

    parent = awaiting(runners, call)
    async with runner_of(journal, parent, call) as runner:
        runners.append(runner)
        with pytest.raises(ConnectionError):
            await runner.run(parent, 42, run_id="run")
        is_up.append(True)
        await (await runner.resume("run:parent/#start")).result()
        assert await (await runner.resume("run")).result() == 42


async def test_a_child_that_nobody_awaits_goes_on_by_itself(journal, runners):
    @workflow
    async def parent(value, context: WorkflowContext):
        await runners[-1].start(ask, None, run_id="child")
        return value

    async with runner_of(journal, parent, ask) as runner:
        runners.append(runner)
        assert await runner.run(parent, 1) == 1
        await until_waiting(runner, "child")
        await runner.signal("child", "answer", "yes")
        assert await (await runner.get("child")).result() == "yes"


@pytest.mark.parametrize("suspend_after", [0.02, 60])
async def test_cancelling_a_parent_cancels_the_child_that_it_awaits(
    journal, runners, suspend_after
):
    @workflow
    async def parent(value, context: WorkflowContext):
        await runners[-1].start(ask, None, run_id="detached")
        run = await runners[-1].start(ask, None, run_id="awaited")
        return await run.result()

    async with runner_of(journal, parent, ask, suspend_after=suspend_after) as runner:
        runners.append(runner)
        run = await runner.start(parent, None, run_id="run")
        await until_status(runner, "detached", "running", "waiting")
        await until_status(runner, "awaited", "running", "waiting")
        await anyio.sleep(0.1)
        assert await run.cancel()
        with pytest.raises(RunCancelledError, match="'run' was cancelled"):
            await run.result()
        assert (await until_status(runner, "awaited", "cancelled")).is_cancelled
        assert (await runner.info("detached")).status != "cancelled"


async def test_a_child_that_was_cancelled_is_a_failure_of_its_parent(journal, runners):
    parent = awaiting(runners, ask)
    async with runner_of(journal, parent, ask) as runner:
        runners.append(runner)
        run = await runner.start(parent, None, run_id="run")
        await until_waiting(runner, "run:parent/#start")
        await runner.cancel("run:parent/#start")
        with pytest.raises(RunCancelledError, match="'run:parent/#start' was cancelled"):
            await run.result()
        assert (await run.info()).status == "failed"


async def test_a_deadline_over_a_child_cancels_it(journal, runners):
    gate = Gate()

    @workflow
    async def parent(value, context: WorkflowContext):
        run = await runners[-1].start(ask, None, run_id="child")
        try:
            await context.within(0.1, run.result)
        except TimeoutError:
            await context.step("gate", gate, None)
        return "gave up"

    async with runner_of(journal, parent, ask) as runner:
        runners.append(runner)
        await runner.start(parent, None, run_id="run")
        await gate.reached.wait()
        await until_status(runner, "child", "cancelled")
    gate.open()
    async with runner_of(journal, parent, ask) as runner:
        runners.append(runner)
        assert await (await runner.get("run")).result() == "gave up"


async def test_a_body_may_cancel_a_run(journal, runners):
    @workflow
    async def stop(run_id: str, context: WorkflowContext):
        return [await runners[-1].cancel(run_id) for _ in range(2)]

    async with runner_of(journal, stop, ask) as runner:
        runners.append(runner)
        await runner.start(ask, None, run_id="child")
        assert (await runner.run(stop, "child", run_id="run"))[0] is True
        await until_status(runner, "child", "cancelled")
        assert await runner.run(stop, "child") == [False, False]
        assert (await runner.verify("run")).error is None
        with pytest.raises(RunNotFoundError):
            await runner.run(stop, "nobody")


async def test_a_child_may_have_been_pruned_before_its_parent_goes_on(journal, runners):
    gate, begun = Gate(), []

    @step
    async def note(value):
        begun.append(value)
        return value

    @workflow
    async def parent(value, context: WorkflowContext):
        run = await runners[-1].start(note, value)
        result = await run.result()
        await context.step("gate", gate, None)
        return result

    async with runner_of(journal, parent, note) as runner:
        runners.append(runner)
        await runner.start(parent, 1, run_id="run")
        await gate.reached.wait()
        assert await runner.prune(0) == 1
    gate.open()
    async with runner_of(journal, parent, note) as runner:
        runners.append(runner)
        assert await (await runner.get("run")).result() == 1
    assert begun == [1]


async def test_a_step_may_start_a_run_once_for_all_its_attempts(journal, runners):
    attempts = []

    @step
    async def delegate(value):
        attempts.append(value)
        run = await runners[-1].start(double, value)
        if len(attempts) == 1:
            raise ConnectionError
        return await run.result()

    retried = RetryPrimitive(delegate, backoff=constant(0)).named("retried")
    async with runner_of(journal, retried, double) as runner:
        runners.append(runner)
        assert await runner.run(retried, 21, run_id="run") == 42
        assert len(await runner.list(parent="run")) == 1


async def test_a_run_of_another_journal_may_be_started_and_awaited(journal, runners, tmp_path):
    parent = awaiting(runners, double)
    async with (
        runner_of(journal, parent) as runner,
        runner_of(f"sqlite:///{tmp_path}/other.db", double) as other,
    ):
        runners.append(other)
        assert await runner.run(parent, 21, run_id="run") == 42
        (info,) = await other.list()
        assert (info.run_id, info.parent) == ("run:parent/#start", None)


async def test_a_run_that_would_wait_for_itself_is_told(journal, runners):
    @workflow
    async def lonely(_: None, context: WorkflowContext):
        return await (await runners[-1].get("run")).result()

    async with runner_of(journal, lonely) as runner:
        runners.append(runner)
        with pytest.raises(RuntimeError, match="'run' waits for its own end"):
            await runner.run(lonely, None, run_id="run")


async def test_a_published_event_starts_its_listeners_once_from_a_body(journal, runners):
    gate = Gate()

    @workflow
    async def parent(value, context: WorkflowContext):
        (run,) = await runners[-1].publish("numbered", value)
        await context.step("gate", gate, None)
        return await run.result()

    options = {"listeners": {"numbered": [double]}}
    async with runner_of(journal, parent, **options) as runner:
        runners.append(runner)
        await runner.start(parent, 21, run_id="run")
        await gate.reached.wait()
    gate.open()
    async with runner_of(journal, parent, **options) as runner:
        runners.append(runner)
        assert await (await runner.get("run")).result() == 42
        assert len(await runner.list(workflow="double")) == 1


async def test_many_children_are_awaited_at_the_same_time(journal, runners):
    @workflow
    async def parent(count: int, context: WorkflowContext):
        runs = [await runners[-1].start(double, n) for n in range(count)]
        return await context.gather(*(run.result() for run in runs))

    async with runner_of(journal, parent, double) as runner:
        runners.append(runner)
        assert await runner.run(parent, 50) == [2 * n for n in range(50)]


async def test_a_child_executed_by_another_runner_is_awaited(journal, runners, tmp_path):
    """The parent's runner has no such workflow: it is started by the one that has."""
    parent = awaiting(runners, double)
    async with runner_of(journal, double) as worker, runner_of(journal, parent) as runner:
        runners.append(worker)
        run = await runner.start(parent, 21)
        assert await run.result() == 42

        async def is_there():
            return len(await runner.list()) == 2

        await until(is_there)
