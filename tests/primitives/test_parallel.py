import asyncio
from functools import partial

import anyio
import pytest

from plait import Failure, MockPrimitive, ParallelPrimitive, Success, WorkflowContext, step

pytestmark = pytest.mark.anyio


async def test_results_are_in_the_order_of_the_branches():
    slow = MockPrimitive(return_value="slow", delay=0.01)
    assert await (slow | MockPrimitive(return_value="fast"))(1) == ("slow", "fast")


async def test_branches_run_at_the_same_time():
    here, there = anyio.Event(), anyio.Event()

    async def meet(_, mine, other):
        mine.set()
        await other.wait()
        return "met"

    with anyio.fail_after(1):
        workflow = step(partial(meet, mine=here, other=there)) | partial(
            meet, mine=there, other=here
        )
        assert await workflow(None) == ("met", "met")


async def test_every_branch_gets_the_same_input():
    value = {"a": 1}
    first, second = MockPrimitive(), MockPrimitive()
    await (first | second)(value)
    assert first.last_input is second.last_input is value


async def test_branches_share_the_data_of_the_run():
    def write(key, context: WorkflowContext):
        context.data[key] = True

    context = WorkflowContext()
    await (step(partial(write, "a")) | partial(write, "b")).execute(0, context)
    assert context.data == {"a": True, "b": True}


async def test_the_first_failure_cancels_the_others_and_waits_until_they_have_ended():
    events = []

    async def wait(_):
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
            events.append("cleaned up")

    async def fail(_):
        await anyio.wait_all_tasks_blocked()
        events.append("failed")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await (step(wait) | fail | wait)(None)
    assert events == ["failed", "cleaned up", "cleaned up"]


async def test_failures_of_the_others_become_notes_of_the_first():
    async def fail_in_cleanup(_):
        try:
            await anyio.sleep_forever()
        finally:
            raise KeyError("cleanup")

    async def fail(_):
        await anyio.wait_all_tasks_blocked()
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken") as caught:
        await (step(fail_in_cleanup) | fail)(None)
    assert caught.value.__notes__ == [
        "in step 'fail' (parallel/2:fail)",
        "another failed too: KeyError('cleanup')",
    ]


async def test_branches_that_fail_together_are_both_reported():
    async def fail(_, error):
        raise error

    errors = [ValueError("one"), ValueError("two")]
    with pytest.raises(ValueError, match=r"one|two") as caught:
        await ParallelPrimitive([partial(fail, error=error) for error in errors])(None)
    errors.remove(caught.value)
    assert caught.value.__notes__[-1] == f"another failed too: {errors[0]!r}"


async def test_a_branch_that_fails_before_it_awaits_is_named():
    class Refuses(MockPrimitive):
        def execute(self, input_data, context):
            raise ValueError(f"{self.name} refuses")

    with pytest.raises(ValueError, match="one refuses") as caught:
        await (Refuses("one") | Refuses("two"))(None)
    assert caught.value.__notes__ == ["in step 'one' (parallel/1:one)"]


async def test_a_branch_that_raises_stop_iteration_is_a_failure():
    class Stops(MockPrimitive):
        def execute(self, input_data, context):
            raise StopIteration("over")

    with pytest.raises((StopIteration, RuntimeError)):
        await (Stops() | MockPrimitive())(None)


async def test_a_result_in_spite_of_cancellation_is_dropped():
    async def stubborn(_):
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            return "anyway"

    async def fail(_):
        await anyio.wait_all_tasks_blocked()
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await (step(stubborn) | fail)(None)


async def test_max_concurrency_bounds_how_many_run_at_once(gauge):
    async def work(number):
        with gauge:
            await anyio.sleep(0.001)
        return number

    workflow = ParallelPrimitive([work] * 7, max_concurrency=3)
    assert await workflow(1) == (1,) * 7
    assert (gauge.peak, gauge.total) == (3, 7)


async def test_without_a_limit_all_run_at_once(gauge):
    async def work(_):
        with gauge:
            await anyio.sleep(0.001)

    await ParallelPrimitive([work] * 50)(None)
    assert gauge.peak == 50


async def test_after_a_failure_no_further_branch_starts():
    waiting = MockPrimitive()
    failing = MockPrimitive(side_effect=ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        await ParallelPrimitive([failing, waiting], max_concurrency=1)(None)
    assert waiting.call_count == 0


async def test_collecting_makes_failures_values_and_cancels_nobody():
    error = ValueError("broken")
    slow = MockPrimitive(return_value="done", delay=0.01)
    workflow = ParallelPrimitive([MockPrimitive(side_effect=error), slow], errors="collect")
    assert await workflow(1) == (Failure(error), Success("done"))


async def test_a_collected_failure_says_where_it_happened():
    workflow = ParallelPrimitive([str, int], errors="collect")
    _, failed = await workflow.execute("x", WorkflowContext(workflow_id="read"))
    assert isinstance(failed, Failure)
    assert failed.error.__notes__ == ["in step 'int' (read/2:int)"]
    assert failed.path == "read/2:int"


async def test_collecting_is_bounded_too(gauge):
    async def work(_):
        with gauge:
            await anyio.sleep(0.001)
            raise ValueError

    outcomes = await ParallelPrimitive([work] * 6, max_concurrency=2, errors="collect")(None)
    assert [type(outcome) for outcome in outcomes] == [Failure] * 6
    assert gauge.peak == 2


async def test_a_dict_of_branches_gives_a_dict_of_results():
    result = await ParallelPrimitive({"low": min, "high": max, "same": list})([3, 1, 2])
    assert list(result.items()) == [("low", 1), ("high", 3), ("same", [3, 1, 2])]


async def test_a_dict_of_branches_collects_outcomes_by_key():
    result = await ParallelPrimitive({"int": int, "text": str}, errors="collect")("x")
    assert isinstance(result["int"], Failure)
    assert result["text"] == Success("x")


async def test_a_failure_in_a_dict_of_branches_names_the_key():
    with pytest.raises(ValueError, match="invalid literal") as caught:
        await ParallelPrimitive({"text": str, "number": int})("x")
    assert caught.value.__notes__ == ["in step 'int' (parallel/number)"]


async def test_parallels_nest():
    inner = (step(str) | repr).named("inner")
    assert await (inner | (lambda n: n + 1))(1) == (("1", "1"), 2)


async def test_a_failure_deep_inside_stops_everything_around_it():
    ended = []

    async def wait(_):
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("wait")

    async def fail(_):
        await anyio.wait_all_tasks_blocked()
        raise ValueError("deep")

    inner = (step(wait) | fail).named("inner")
    with pytest.raises(ValueError, match="deep") as caught:
        await (inner | wait)(None)
    assert ended == ["wait", "wait"]
    assert caught.value.__notes__ == ["in step 'fail' (parallel/1:inner/2:fail)"]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_must_be_positive(limit):
    with pytest.raises(ValueError, match=f"max_concurrency={limit} of a ParallelPrimitive"):
        ParallelPrimitive([str], max_concurrency=limit)


def test_errors_are_raised_or_collected():
    with pytest.raises(ValueError, match="errors='ignore' of a ParallelPrimitive"):
        ParallelPrimitive([str], errors="ignore")


def test_a_branch_that_cancels_itself_cancels_the_whole_under_asyncio():
    ended = []

    async def wait(_):
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("wait")

    async def give_up(_):
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    async def main():
        with pytest.raises(asyncio.CancelledError):
            await (step(wait) | give_up)(None)

    asyncio.run(main())
    assert ended == ["wait"]
