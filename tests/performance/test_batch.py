import math
import pickle

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plait import (
    BatchPrimitive,
    ConcurrencyLimitPrimitive,
    Failure,
    MapPrimitive,
    PermanentError,
    Success,
    TimeoutPrimitive,
    WorkflowContext,
    step,
    workflow,
)
from plait.primitives._errors import Abort

pytestmark = pytest.mark.anyio


class Doubles:
    """Doubles each number of a list; `batches` are the lists."""

    def __init__(self, delay=0):
        self.batches = []
        self._delay = delay

    async def __call__(self, numbers, context: WorkflowContext):
        self.batches.append(numbers)
        await context.sleep(self._delay)
        return [2 * number for number in numbers]


async def test_calls_at_the_same_time_are_one():
    double = Doubles()
    batch = BatchPrimitive(double, 100, max_wait_seconds=0.005)
    assert await MapPrimitive(batch)(range(5)) == [0, 2, 4, 6, 8]
    assert [sorted(numbers) for numbers in double.batches] == [[0, 1, 2, 3, 4]]


async def test_a_full_batch_does_not_wait():
    double = Doubles()
    batch = BatchPrimitive(double, 3, max_wait_seconds=3600)
    with anyio.fail_after(5):
        assert await MapPrimitive(batch)(range(9)) == [2 * number for number in range(9)]
    assert [len(numbers) for numbers in double.batches] == [3, 3, 3]


async def test_a_batch_waits_no_longer_than_it_may(virtual):
    double = Doubles()
    batch, ended = BatchPrimitive(double, 100, max_wait_seconds=1), []

    async def call(number):
        assert await batch.execute(number, virtual.context()) == 2 * number
        ended.append(virtual.now)

    async def calls():
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(call, number)
                await virtual.sleep(0.4, None)

    await virtual.drive(calls)
    assert double.batches == [[0, 1, 2], [3]]
    assert ended == pytest.approx([1001, 1001, 1001, 1002.2])


async def test_without_a_wait_what_is_ready_is_gathered():
    double = Doubles()
    batch = BatchPrimitive(double, 100, max_wait_seconds=0)
    assert await batch(1) == 2
    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(batch, number)
    assert 1 < len(double.batches) < 5


async def test_the_next_batch_is_gathered_while_one_is_executed(gauge):
    async def double(numbers):
        with gauge:
            await anyio.sleep(0.01)
        return [2 * number for number in numbers]

    await MapPrimitive(BatchPrimitive(double, 2, 0.001))(range(6))
    assert gauge.peak == 3
    one_at_a_time = ConcurrencyLimitPrimitive(double, 1)
    gauge.peak = 0
    await MapPrimitive(BatchPrimitive(one_at_a_time, 2, 0.001))(range(6))
    assert gauge.peak == 1


async def test_a_failure_is_each_calls_own_where_the_primitive_says_so():
    inverse = MapPrimitive(lambda number: 1 / number, errors="collect")
    batch = BatchPrimitive(inverse, 100, max_wait_seconds=0.005)
    results = await MapPrimitive(batch, errors="collect")([1, 0, 2])
    assert results[0] == Success(1)
    assert results[2] == Success(0.5)
    assert isinstance(results[1].error, ZeroDivisionError)
    assert any("/batch[" in note for note in results[1].error.__notes__)


async def test_a_failure_of_the_whole_batch_is_everyones():
    async def fail(numbers):
        raise OSError("down")

    batch = BatchPrimitive(fail, 3, max_wait_seconds=60)
    results = await MapPrimitive(batch, errors="collect")(range(3))
    assert all(isinstance(result, Failure) for result in results)
    assert {str(result.error) for result in results} == {"down"}
    with pytest.raises(OSError, match="down") as caught:
        await BatchPrimitive(fail, 1, 0)(0)
    assert caught.value.__notes__ == ["in step 'fail' (fail/batch)"]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ([1, 2], "'load' returned 2 results for a batch of 3 inputs"),
        (None, "'load' was given a list of 3 inputs and must return a list, got None"),
        ({1, 2, 3}, "'load' was given a list of 3 inputs and must return a list"),
    ],
)
async def test_each_input_must_have_its_result(result, message):
    async def load(numbers):
        return result

    batch = BatchPrimitive(load, 3, max_wait_seconds=60)
    results = await MapPrimitive(batch, errors="collect")(range(3))
    for outcome in results:
        assert isinstance(outcome.error, PermanentError)
        assert str(outcome.error).startswith(message)


async def test_a_call_that_is_cancelled_while_a_batch_is_gathered_is_not_in_it(virtual):
    double, results = Doubles(), []
    batch = BatchPrimitive(double, 100, max_wait_seconds=10)

    async def call(number, patience):
        impatient = TimeoutPrimitive(batch, patience)
        try:
            results.append(await impatient.execute(number, virtual.context()))
        except TimeoutError:
            results.append(f"{number} gave up")

    async def calls():
        async with anyio.create_task_group() as tasks:
            for number, patience in enumerate((2, 60, 4, 60)):
                tasks.start_soon(call, number, patience)
                await virtual.sleep(0.1, None)

    await virtual.drive(calls)
    assert results[:2] == ["0 gave up", "2 gave up"]
    assert sorted(results[2:]) == [2, 6]
    assert double.batches == [[1, 3]]


async def test_where_the_call_that_executes_is_cancelled_another_one_does(virtual):
    double, results = Doubles(delay=5), []
    batch = BatchPrimitive(double, 3, max_wait_seconds=1)

    async def call(number, patience):
        try:
            await TimeoutPrimitive(batch, patience).execute(number, virtual.context())
            results.append((number, virtual.now))
        except TimeoutError:
            results.append((f"{number} gave up", virtual.now))

    async def calls():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, 0, 2)
            for _ in range(5):
                await checkpoint()
            tasks.start_soon(call, 1, 60)
            tasks.start_soon(call, 2, 60)

    await virtual.drive(calls)
    assert results[0] == ("0 gave up", 1002)
    assert sorted(results[1:]) == [(1, 1007), (2, 1007)]
    assert [sorted(numbers) for numbers in double.batches] == [[0, 1, 2], [1, 2]]


async def test_a_batch_that_nobody_waits_for_any_more_is_not_executed():
    double = Doubles()
    batch = BatchPrimitive(double, 100, max_wait_seconds=0.01)
    with anyio.move_on_after(0.001):
        await MapPrimitive(batch)(range(3))
    await anyio.sleep(0.02)
    assert double.batches == []
    assert await batch(1) == 2


async def test_an_end_of_the_run_that_executes_is_not_that_of_the_others():
    begun = []

    async def load(numbers):
        begun.append(sorted(numbers))
        await checkpoint()
        if len(begun) == 1:
            raise Abort(OSError("the journal is full"))
        return numbers

    batch, ended = BatchPrimitive(load, 3, max_wait_seconds=60), []

    async def call(number):
        try:
            ended.append(await batch(number))
        except Abort:
            ended.append("aborted")

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(call, number)
    assert ended.count("aborted") == 1
    assert len(begun) == 2
    assert set(begun[1]) < {0, 1, 2}


@given(
    max_size=st.integers(1, 4),
    max_wait=st.sampled_from([0, 1, 3]),
    calls=st.lists(
        st.tuples(st.integers(0, 2), st.none() | st.floats(0.1, 6)), min_size=1, max_size=20
    ),
)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_each_call_has_its_own_result_whoever_is_cancelled(
    make_virtual, max_size, max_wait, calls
):
    virtual, double, ended = make_virtual(), Doubles(delay=2), {}
    batch = BatchPrimitive(double, max_size, max_wait)

    async def call(number, patience):
        primitive = batch if patience is None else TimeoutPrimitive(batch, patience)
        try:
            ended[number] = await primitive.execute(number, virtual.context())
        except TimeoutError:
            ended[number] = None

    async def run():
        async with anyio.create_task_group() as tasks:
            for number, (pause, patience) in enumerate(calls):
                await virtual.sleep(pause, None)
                tasks.start_soon(call, number, patience)

    await virtual.drive(run)
    assert batch._gathering.get() is None
    assert all(len(numbers) <= max_size for numbers in double.batches)
    for number, (_, patience) in enumerate(calls):
        assert ended[number] == 2 * number or (ended[number] is None and patience is not None)


async def test_each_call_is_a_node_of_its_own_and_the_batch_is_below_the_one_that_executes(runtime):
    batch = BatchPrimitive(Doubles(), 2, max_wait_seconds=60)
    both = await (batch | (step(abs) >> batch)).execute(1, runtime.context(workflow_id="w"))
    assert both == (2, 2)
    assert [path for path in runtime.paths if path.endswith("/batch")] in (
        ["w/1:Doubles/batch"],
        ["w/2:sequential/2:Doubles/batch"],
    )


async def test_steps_that_the_primitive_calls_are_not_nodes_of_the_workflow_it_is_called_in(
    runtime,
):
    @step
    async def double(number: int) -> int:
        return 2 * number

    async def load(numbers):
        return [await double(number) for number in numbers]

    batch = BatchPrimitive(load, 1, max_wait_seconds=0)

    @workflow
    async def calls(number: int) -> int:
        return await batch(number) + await double(number)

    assert await calls.execute(1, runtime.context()) == 4
    assert runtime.paths == ["calls", "calls/1:load", "calls/1:load/batch", "calls/2:double"]


def test_it_serves_one_event_loop_after_another():
    double = Doubles()
    batch = BatchPrimitive(double, 100, max_wait_seconds=0.001)
    for backend in ("asyncio", "trio", "asyncio"):
        assert MapPrimitive(batch).run_sync([1, 2], backend=backend) == [2, 4]


async def test_a_copy_gathers_for_itself():
    batch = BatchPrimitive(MapPrimitive(str), 2, max_wait_seconds=60)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(batch, 1)
        await anyio.wait_all_tasks_blocked()
        assert await MapPrimitive(pickle.loads(pickle.dumps(batch)))([1, 2]) == ["1", "2"]
        assert await batch(2) == "2"


@pytest.mark.parametrize(
    ("max_size", "max_wait_seconds", "message"),
    [
        (0, 1, "max_size=0 must be at least 1"),
        (1, -1, "max_wait_seconds=-1 must not be negative"),
        (1, math.nan, "max_wait_seconds=nan must not be negative"),
    ],
)
def test_a_number_out_of_its_range_is_refused(max_size, max_wait_seconds, message):
    with pytest.raises(ValueError, match=message):
        BatchPrimitive(str, max_size, max_wait_seconds)
