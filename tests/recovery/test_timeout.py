import math

import anyio
import pytest

from plait import (
    MapPrimitive,
    MockPrimitive,
    PlaitError,
    RetryPrimitive,
    StepTimeoutError,
    TimeoutPrimitive,
    WorkflowContext,
    step,
    workflow,
)
from plait.primitives import Runtime
from plait.recovery import constant

pytestmark = pytest.mark.anyio


async def test_what_is_fast_enough_is_left_alone():
    assert await TimeoutPrimitive(len, 1)("abc") == 3


async def test_what_takes_too_long_is_cancelled():
    ended = []

    async def slow(_):
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("slow")

    with pytest.raises(StepTimeoutError, match=r"'slow' did not finish within 0\.01 s") as caught:
        await TimeoutPrimitive(slow, 0.01).execute(0, WorkflowContext(workflow_id="orders"))
    assert ended == ["slow"]
    assert caught.value.seconds == 0.01
    assert caught.value.__notes__ == ["in step 'slow' (orders/timed)"]


async def test_it_waits_until_what_it_cancelled_has_ended():
    events = []

    async def slow(_):
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
            events.append("ended")

    with pytest.raises(StepTimeoutError):
        await TimeoutPrimitive(MapPrimitive(slow), 0.01)([1, 2])
    assert events == ["ended", "ended"]


async def test_the_error_is_a_timeout_error_and_one_of_plaits():
    with pytest.raises(TimeoutError) as caught:
        await TimeoutPrimitive(MockPrimitive(delay=60), 0.001)(0)
    assert isinstance(caught.value, PlaitError)
    assert caught.value.__cause__ is None


async def test_a_timeout_error_from_inside_stays_what_it_is():
    error = TimeoutError("the bank took too long")
    with pytest.raises(TimeoutError) as caught:
        await TimeoutPrimitive(MockPrimitive("charge", side_effect=error), 60)(0)
    assert caught.value is error
    assert caught.value.__notes__ == ["in step 'charge' (charge/timed)"]


async def test_a_deadline_of_anyio_inside_stays_what_it_is():
    async def slow(_):
        with anyio.fail_after(0.001):
            await anyio.sleep_forever()

    with pytest.raises(TimeoutError) as caught:
        await TimeoutPrimitive(slow, 60)(0)
    assert not isinstance(caught.value, StepTimeoutError)


async def test_of_two_timeouts_the_one_that_passed_is_named():
    inner = TimeoutPrimitive(MockPrimitive("inner", delay=60), 0.001)
    outer = TimeoutPrimitive((step(abs) >> inner).named("outer"), 60)
    with pytest.raises(StepTimeoutError, match=r"'inner' did not finish within 0\.001 s"):
        await outer(0)
    patient = TimeoutPrimitive(MockPrimitive("inner", delay=60), 60)
    outer = TimeoutPrimitive((step(abs) >> patient).named("outer"), 0.001)
    with pytest.raises(StepTimeoutError, match=r"'outer' did not finish within 0\.001 s"):
        await outer(0)


async def test_a_deadline_that_a_step_sets_for_itself_is_not_the_timeouts():
    async def own_deadline(_, context):
        await context.within(0.001, anyio.sleep_forever)

    with pytest.raises(StepTimeoutError) as caught:
        await TimeoutPrimitive(own_deadline, 60)(0)
    assert caught.value.seconds == 0.001


async def test_a_deadline_that_passed_in_a_runtime_is_not_the_timeouts():
    async def own_deadline(_, context):
        await Runtime().within(0.001, anyio.sleep_forever, context)

    (failed,) = await MapPrimitive(TimeoutPrimitive(own_deadline, 60), errors="collect")([0])
    assert not isinstance(failed.error, StepTimeoutError)


async def test_a_failure_is_raised_as_it_is():
    with pytest.raises(KeyError, match="missing") as caught:
        await TimeoutPrimitive(MockPrimitive("read", side_effect=KeyError("missing")), 60)(0)
    assert caught.value.__notes__ == ["in step 'read' (read/timed)"]


async def test_a_failure_while_it_is_cancelled_is_raised_in_place_of_the_timeout():
    async def slow(_):
        try:
            await anyio.sleep_forever()
        finally:
            raise KeyError("cleanup")

    with pytest.raises(KeyError, match="cleanup"):
        await TimeoutPrimitive(slow, 0.001)(0)


async def test_a_timeout_error_while_it_is_cancelled_is_raised_too():
    async def slow(_):
        try:
            await anyio.sleep_forever()
        finally:
            raise TimeoutError("cleanup took too long")

    with pytest.raises(TimeoutError, match="cleanup took too long"):
        await TimeoutPrimitive(slow, 0.001)(0)


async def test_a_result_in_spite_of_the_deadline_counts():
    async def stubborn(_):
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            return "anyway"

    assert await TimeoutPrimitive(stubborn, 0.001)(0) == "anyway"


async def test_the_deadline_covers_everything_inside():
    slow = MockPrimitive(side_effect=OSError, delay=0.004)
    with pytest.raises(StepTimeoutError):
        await TimeoutPrimitive(RetryPrimitive(slow, 99, backoff=constant(0)), 0.01)(0)


async def test_a_retry_around_it_tries_again():
    @step
    async def slow_at_first(_: int, context: WorkflowContext) -> int:
        if context.attempt == 1:
            await anyio.sleep_forever()
        return context.attempt

    workflow = RetryPrimitive(TimeoutPrimitive(slow_at_first, 0.01), backoff=constant(0))
    assert await workflow(0) == 2


async def test_runs_at_the_same_time_have_deadlines_of_their_own():
    sleep = TimeoutPrimitive(anyio.sleep, 0.05)
    failed, done = await MapPrimitive(sleep, errors="collect")([60, 0])
    assert isinstance(failed.error, StepTimeoutError)
    assert done.value is None


@pytest.mark.parametrize("seconds", [0, -1, math.nan])
def test_the_deadline_must_be_positive(seconds):
    with pytest.raises(ValueError, match=f"timeout_seconds={seconds} must be positive"):
        TimeoutPrimitive(str, seconds)


async def test_observers_are_told_where_the_deadline_passed(runtime):
    inner = TimeoutPrimitive(MockPrimitive("slow", delay=60), 0.001)
    with pytest.raises(StepTimeoutError):
        await TimeoutPrimitive(inner, 60).execute(0, runtime.context(workflow_id="w"))
    assert runtime.events == [("timeout", "w/timed/timed", {"seconds": 0.001})]


# What is inside knows its deadline


def left(context):
    return None if context.deadline is None else context.deadline - context.time()


@step
async def time_left(_: object, context: WorkflowContext) -> float | None:
    return left(context)


async def test_a_step_knows_how_much_time_is_left():
    assert await time_left(0) is None
    assert 59 < await TimeoutPrimitive(time_left, 60)(0) <= 60
    assert 59 < await TimeoutPrimitive(step(abs) >> (time_left | time_left) >> max, 60)(0) <= 60
    assert await (TimeoutPrimitive(step(abs), 60) >> time_left)(0) is None


@pytest.mark.parametrize("seconds", [(30, 60), (60, 30)])
async def test_of_nested_deadlines_the_nearest_counts(seconds):
    inner, outer = seconds
    assert 29 < await TimeoutPrimitive(TimeoutPrimitive(time_left, inner), outer)(0) <= 30


async def test_the_deadlines_of_workflows_and_steps_count_too():
    @workflow(timeout=60)
    async def run(_: int, context: WorkflowContext) -> list[float | None]:
        async def inside():
            return await time_left(0)

        return [await context.within(30, inside), await time_left(0), left(context)]

    near, *far = await run(0)
    assert 29 < near <= 30
    assert all(59 < seconds <= 60 for seconds in far)


async def test_a_thread_knows_the_deadline():
    @step(thread=True)
    def blocking(_: int, context: WorkflowContext) -> float | None:
        return left(context)

    assert 59 < await TimeoutPrimitive(blocking, 60)(0) <= 60


async def test_the_deadline_is_on_the_clock_of_the_run(clock):
    @step
    async def deadline(_: int, context: WorkflowContext) -> float | None:
        return context.deadline

    assert await TimeoutPrimitive(deadline, 60).execute(0, clock.context()) == clock.now + 60


async def test_a_task_that_is_cancelled_by_others_too_is_cancelled():
    with anyio.move_on_after(0.01) as scope:
        await TimeoutPrimitive(MockPrimitive(delay=60), 0.01)(0)
    assert scope.cancelled_caught
