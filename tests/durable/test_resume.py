"""A failed run is resumed from what failed; what had been handled stays as it was."""

import time

import anyio
import pytest
from interruption import Gate, fail, resume

from plait import (
    CachePrimitive,
    FallbackPrimitive,
    MapPrimitive,
    ParallelPrimitive,
    ReducePrimitive,
    RetryPrimitive,
    StepTimeoutError,
    TimeoutPrimitive,
    WorkflowContext,
    WorkflowPrimitive,
    step,
)
from plait.durable import DurableRunner
from plait.recovery import constant

pytestmark = pytest.mark.anyio

AT_ONCE = constant(0)


class Line:
    """A step that fails while the line is down."""

    def __init__(self):
        self.is_up = False
        self.calls = []

    async def __call__(self, value):
        self.calls.append(value)
        if not self.is_up:
            raise ConnectionError("line is down")
        return value


@pytest.fixture
def line():
    return Line()


@pytest.fixture
def calls():
    """What `note` was called with."""
    return []


@pytest.fixture
def note(calls):
    @step
    async def note(value):
        calls.append(value)
        return value

    return note


async def test_only_the_step_that_failed_is_done_again(journal, line, note, calls):
    workflow = (note >> line >> str).named("workflow")
    await fail(journal, workflow, 42)
    line.is_up = True
    assert await resume(journal, workflow) == "42"
    assert (calls, line.calls) == ([42], [42, 42])


async def test_a_run_may_fail_and_be_resumed_again(journal, line):
    workflow = step(line)
    await fail(journal, workflow, 42)
    with pytest.raises(ConnectionError, match="line is down"):
        await resume(journal, workflow)
    line.is_up = True
    assert await resume(journal, workflow) == 42
    assert line.calls == [42] * 3


async def test_a_run_is_resumed_by_the_runner_in_which_it_failed(journal, line):
    workflow = step(line)
    async with DurableRunner(journal) as runner:
        run = await runner.start(workflow, 42, run_id="run")
        with pytest.raises(ConnectionError):
            await run.result()
        line.is_up = True
        assert await (await run.resume()).result() == 42
        assert (await run.info()).status == "completed"
        with pytest.raises(ConnectionError):
            await run.result()


async def test_a_resumed_run_that_is_interrupted_is_carried_on(journal, line, note, calls):
    gate = Gate()
    workflow = (note >> line >> gate).named("workflow")
    await fail(journal, workflow, 42)
    line.is_up = True
    async with DurableRunner(journal, workflows=[workflow], grace_seconds=0) as runner:
        await runner.resume("run")
        await gate.reached.wait()
    gate.open()
    async with DurableRunner(journal, workflows=[workflow]) as runner:
        assert await (await runner.get("run")).result() == 42
    assert (calls, line.calls) == ([42], [42, 42])


async def test_what_has_not_failed_is_not_resumed(journal, note, calls):
    gate = Gate()
    workflow = (note >> gate).named("workflow")
    async with DurableRunner(journal) as runner:
        await runner.start(workflow, 42, run_id="run")
        under_way = await runner.resume("run")
        gate.open()
        assert await under_way.result() == 42
        assert await (await runner.resume("run")).result() == 42
    assert calls == [42]


async def test_a_run_is_resumed_once_when_several_ask(journal, line):
    workflow = step(line)
    await fail(journal, workflow, 42)
    line.is_up = True
    results = []

    async def ask(runner):
        results.append(await (await runner.resume("run")).result())

    async with (
        DurableRunner(journal, workflows=[workflow]) as runner,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(5):
            tasks.start_soon(ask, runner)
    assert (results, line.calls) == ([42] * 5, [42] * 2)


async def test_a_run_of_a_workflow_that_a_runner_does_not_have_is_not_resumed(journal, line):
    await fail(journal, step(line), 42)
    async with DurableRunner(journal) as runner:
        with pytest.raises(ValueError, match=r"'run' is of workflow 'Line'.* workflows="):
            await runner.resume("run")
        assert (await runner.info("run")).status == "failed"


async def test_a_retry_gets_its_attempts_again(journal, line):
    workflow = RetryPrimitive(line, 2, backoff=AT_ONCE).named("workflow")
    error = await fail(journal, workflow, 42)
    assert error.__notes__[-1].startswith("gave up after 3 attempts")
    with pytest.raises(ConnectionError):
        await resume(journal, workflow)
    assert len(line.calls) == 6
    line.is_up = True
    assert await resume(journal, workflow) == 42
    assert len(line.calls) == 7


async def test_a_fallback_that_was_taken_stays_taken(journal, line, note, calls):
    handled = Line()
    workflow = (FallbackPrimitive(handled, [note]) >> line).named("workflow")
    await fail(journal, workflow, 42)
    handled.is_up = line.is_up = True
    assert await resume(journal, workflow) == 42
    assert (handled.calls, calls) == ([42], [42])


async def test_attempts_that_led_to_a_success_stay_spent(journal, line):
    attempts = []

    @step
    async def second_time(value, context: WorkflowContext):
        attempts.append(context.attempt)
        if context.attempt == 1:
            raise ConnectionError
        return value

    workflow = (RetryPrimitive(second_time, backoff=AT_ONCE) >> line).named("workflow")
    await fail(journal, workflow, 42)
    line.is_up = True
    assert await resume(journal, workflow) == 42
    assert attempts == [1, 2]


async def test_a_fallback_whose_ways_all_failed_starts_with_its_primary(journal, line):
    other = Line()
    workflow = FallbackPrimitive(line, [other]).named("workflow")
    error = await fail(journal, workflow, 42)
    assert "fallback 1 (Line) failed: ConnectionError('line is down')" in error.__notes__
    line.is_up = True
    assert await resume(journal, workflow) == 42
    assert (len(line.calls), len(other.calls)) == (2, 1)


async def test_branches_that_had_finished_stay(journal, line, note, calls):
    workflow = ((note >> line) | note).named("workflow")
    await fail(journal, workflow, 42)
    line.is_up = True
    assert await resume(journal, workflow) == (42, 42)
    assert calls == [42, 42]


async def test_a_branch_that_had_finished_stays_whatever_its_name(journal, line, note, calls):
    workflow = ParallelPrimitive({"deadline": note, "line": note >> line}).named("workflow")
    await fail(journal, workflow, 42)
    line.is_up = True
    assert await resume(journal, workflow) == {"deadline": 42, "line": 42}
    assert calls == [42, 42]


async def test_items_that_had_finished_stay(journal, line, note, calls):
    @step
    async def third(value):
        return await line(value) if value == 3 else value

    workflow = MapPrimitive(note >> third, max_concurrency=1).named("workflow")
    await fail(journal, workflow, [1, 2, 3, 4])
    line.is_up = True
    assert await resume(journal, workflow) == [1, 2, 3, 4]
    assert calls == [1, 2, 3, 4]


async def test_items_that_were_reduced_stay(journal, line, note, calls):
    @step
    async def third(value):
        return await line(value) if value == 3 else value

    total = ReducePrimitive(lambda total, n: total + n, 0)
    workflow = (MapPrimitive(note >> third, max_concurrency=1) >> total).named("workflow")
    await fail(journal, workflow, [1, 2, 3, 4])
    line.is_up = True
    assert await resume(journal, workflow) == 10
    assert calls == [1, 2, 3, 4]


async def test_collected_failures_stay_handled(journal, line):
    handled = Line()
    workflow = (MapPrimitive(handled, errors="collect") >> len >> line).named("workflow")
    await fail(journal, workflow, [1])
    handled.is_up = line.is_up = True
    assert await resume(journal, workflow) == 1
    assert handled.calls == [1]


@pytest.mark.parametrize(
    "wrap", [lambda inner: TimeoutPrimitive(inner, 60), lambda inner: CachePrimitive(inner, 60)]
)
async def test_what_had_finished_inside_of_a_wrapper_stays(journal, line, note, calls, wrap):
    workflow = wrap(note >> line).named("workflow")
    await fail(journal, workflow, 42)
    line.is_up = True
    assert await resume(journal, workflow) == 42
    assert calls == [42]


async def test_what_a_primitive_of_the_users_own_had_done_stays(journal, line, note, calls):
    calling = step(line)

    class Checkout(WorkflowPrimitive):
        async def execute(self, input_data, context):
            charged = await note.execute(input_data, context)
            return await calling.execute(charged, context)

    workflow = Checkout()
    await fail(journal, workflow, 42)
    line.is_up = True
    assert await resume(journal, workflow) == 42
    assert calls == [42]


async def test_what_a_step_had_called_stays(journal, line, note, calls):
    @step
    async def shop(value):
        return await step(line)(await note(value))

    await fail(journal, shop, 42)
    line.is_up = True
    assert await resume(journal, shop) == 42
    assert calls == [42]


async def test_a_failure_that_a_step_handled_stays_handled(journal, line, note, calls):
    handled = Line()

    @step
    async def shop(value):
        try:
            return await step(handled)(value)
        except ConnectionError:
            return await note(value)

    workflow = (shop >> line).named("workflow")
    await fail(journal, workflow, 42)
    handled.is_up = line.is_up = True
    assert await resume(journal, workflow) == 42
    assert (handled.calls, calls) == ([42], [42])


async def test_a_deadline_that_passed_starts_anew(journal):
    gate = Gate()
    workflow = TimeoutPrimitive(gate, 0.5).named("workflow")
    assert isinstance(await fail(journal, workflow, 42), StepTimeoutError)
    gate.open()
    assert await resume(journal, workflow) == 42


async def test_a_failure_that_a_step_handled_before_it_failed_stays_handled(
    journal, line, note, calls
):
    handled = Line()

    @step
    async def shop(value):
        try:
            await step(handled)(value)
        except ConnectionError:
            await note(value)
        return await step(line)(value)

    await fail(journal, shop, 42)
    handled.is_up = line.is_up = True
    assert await resume(journal, shop) == 42
    assert (handled.calls, calls) == ([42], [42])


async def test_a_retry_waits_again_between_the_attempts_that_it_gets_again(journal, line):
    workflow = RetryPrimitive(line, 1, backoff=constant(0.2), jitter=False).named("workflow")
    await fail(journal, workflow, 42)
    started = time.monotonic()
    with pytest.raises(ConnectionError):
        await resume(journal, workflow)
    assert time.monotonic() - started > 0.15
