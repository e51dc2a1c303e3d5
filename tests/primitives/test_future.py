"""Futures: calls that are described first and made when they are awaited."""

import dataclasses
import threading
from typing import NamedTuple

import anyio
import pydantic
import pytest
from anyio.lowlevel import checkpoint

from plait import Future, MockPrimitive, WorkflowContext, step, workflow

pytestmark = pytest.mark.anyio


@step
async def double(number: int) -> int:
    return number * 2


@step
async def add(left: int, right: int = 1) -> int:
    return left + right


@step
def same(value: object) -> object:
    return value


async def test_a_future_runs_nothing_until_it_is_awaited():
    mock = MockPrimitive(return_value="done")
    future = mock.future("in")
    await checkpoint()
    assert mock.call_count == 0
    assert await future == "done"
    assert mock.calls == ["in"]


async def test_a_future_takes_the_functions_own_arguments():
    assert await add.future(1, right=2) == 3
    assert await add.future(left=1) == 2


async def test_an_argument_may_be_a_future():
    assert await add.future(double.future(2), right=double.future(double.future(1))) == 8


async def test_a_builtin_without_a_signature_has_futures_too():
    assert await step(max).future([1, double.future(2)]) == 4


async def test_a_composition_has_futures_too():
    assert await (double >> double).future(double.future(1)) == 8


async def test_awaited_again_it_gives_the_same_result():
    mock = MockPrimitive(return_value=[])
    future = mock.future(1)
    assert await future is await future
    assert mock.call_count == 1


async def test_what_several_need_is_executed_once():
    mock = MockPrimitive(return_value=2, delay=0.001)
    shared = mock.future(0)
    assert await add.future(double.future(shared), add.future(shared, shared)) == 8
    assert mock.call_count == 1


async def test_what_does_not_depend_on_each_other_runs_at_the_same_time(gauge):
    @step
    async def work(number: int) -> int:
        with gauge:
            await anyio.sleep(0.005)
        return number

    assert await same.future([work.future(n) for n in range(5)]) == [0, 1, 2, 3, 4]
    assert gauge.peak == 5


class Pair(NamedTuple):
    left: object
    right: object


@dataclasses.dataclass(frozen=True)
class Order:
    item: object
    count: int = 1


class Model(pydantic.BaseModel):
    name: str
    value: object


@pytest.mark.parametrize(
    ("hold", "expected"),
    [
        (lambda future: [1, future], [1, 4]),
        (lambda future: (1, future), (1, 4)),
        (lambda future: {"a": future}, {"a": 4}),
        (lambda future: {future}, {4}),
        (lambda future: frozenset({future}), frozenset({4})),
        (lambda future: Pair(future, 2), Pair(4, 2)),
        (Order, Order(4)),
        (lambda future: Model(name="a", value=future), Model(name="a", value=4)),
        (lambda future: [{"a": (Order([future]),)}], [{"a": (Order([4]),)}]),
    ],
)
async def test_a_future_may_be_inside_of_an_argument(hold, expected):
    future = double.future(2)
    held = hold(future)
    result = await same.future(held)
    assert result == expected
    assert type(result) is type(expected)
    assert future in same.future(held).needs()


async def test_arguments_without_futures_are_handed_on_as_they_are():
    value = {"a": [Order("tea")], "type": Order}
    assert await same.future(value) is value


async def test_a_map_is_a_future():
    future = double.map([1, double.future(1), 3])
    assert isinstance(future, Future)
    assert await future == [2, 4, 6]
    assert await double.map(same.future([1, 2])) == [2, 4]


async def test_a_map_is_bounded(gauge):
    @step
    async def work(number: int) -> None:
        with gauge:
            await anyio.sleep(0.001)

    await work.map(range(10), max_concurrency=3)
    assert gauge.peak == 3


async def test_a_reduce_is_a_future():
    assert await add.reduce([1, 2, 3], 10) == 16
    assert await add.reduce(double.map([1, 2, 3]), 0) == 12
    assert await add.reduce([], 5) == 5


async def test_a_failure_is_raised_where_it_is_awaited_and_keeps_others_from_running():
    later, failing = MockPrimitive(), MockPrimitive("failing", side_effect=ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        await later.future(failing.future(1))
    assert later.call_count == 0


async def test_a_failure_is_raised_again_without_running_again():
    failing = MockPrimitive("failing", side_effect=ValueError("broken"))
    future = failing.future(1)
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            await future
    assert failing.call_count == 1


async def test_a_failure_cancels_what_runs_beside_it():
    ended = []

    @step
    async def wait(_: int) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("wait")

    @step
    async def fail(_: int) -> None:
        await anyio.wait_all_tasks_blocked()
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await same.future([wait.future(1), fail.future(2)])
    assert ended == ["wait"]


async def test_a_future_that_was_cancelled_is_made_when_it_is_awaited_again():
    calls = []

    @step
    async def slow_at_first(number: int) -> int:
        calls.append(number)
        if len(calls) == 1:
            await anyio.sleep_forever()
        return number

    future = slow_at_first.future(3)
    with anyio.move_on_after(0.001) as scope:
        await future
    assert scope.cancelled_caught
    assert await add.future(future) == 4
    assert calls == [3, 3]


async def test_two_tasks_that_await_a_future_share_it():
    mock = MockPrimitive(return_value="done", delay=0.001)
    future, results = mock.future(1), []

    async def call():
        results.append(await future)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        tasks.start_soon(call)
    assert results == ["done", "done"]
    assert mock.call_count == 1


async def test_a_task_that_awaits_a_future_takes_over_when_the_other_is_cancelled():
    calls, results = [], []

    @step
    async def slow_at_first(number: int) -> int:
        calls.append(number)
        if len(calls) == 1:
            await anyio.sleep_forever()
        return number

    future = slow_at_first.future(3)

    async def call():
        results.append(await future)

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as first:
                first.start_soon(call)
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(call)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
    assert results == [3]
    assert calls == [3, 3]


async def test_a_graph_may_be_deeper_than_the_stack():
    future = double.future(0)
    for _ in range(3000):
        future = add.future(future)
    assert await future == 3000


async def test_a_call_cannot_need_its_own_result():
    arguments = []
    future = same.future(double.future(arguments))
    arguments.append(future)
    with pytest.raises(ValueError, match="own result: same needs double needs same"):
        await future


async def test_a_future_belongs_to_the_event_loop_that_makes_it(anyio_backend_name):
    release = threading.Event()

    @step(thread=True)
    def block(_: int) -> bool:
        return release.wait(5)

    future = block.future(0)

    async def call(_):
        return await future

    def call_elsewhere():
        try:
            step(call).run_sync(0, backend=anyio_backend_name)
        finally:
            release.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, 0)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(RuntimeError, match="of block> is being made on another event loop"):
            await anyio.to_thread.run_sync(call_elsewhere)
    assert await future is True


@pytest.mark.parametrize(
    ("describe", "message"),
    [
        (add.future, r"add.future\(...\): missing a required argument: 'left'"),
        (lambda: add.future(1, 2, 3), r"too many positional arguments; it takes \(left: "),
        (lambda: add.future(1, size=2), "got an unexpected keyword argument 'size'"),
    ],
)
def test_arguments_that_do_not_fit_the_signature_are_refused_at_once(describe, message):
    with pytest.raises(TypeError, match=message):
        describe()


async def test_the_context_is_no_argument_of_a_future():
    @step
    async def where(number: int, context: WorkflowContext) -> str:
        return f"{number} at {context.path}"

    @workflow
    async def outer(number: int) -> str:
        return await where.future(number)

    assert await outer(3) == "3 at outer/1:where"


async def test_calls_take_their_places_in_the_order_of_the_graph(runtime):
    @workflow
    async def outer(number: int) -> int:
        return await add.future(double.future(number), double.future(double.future(number)))

    assert await outer.execute(1, runtime.context(workflow_id="w")) == 6
    assert sorted(runtime.paths) == ["w", "w/1:double", "w/2:double", "w/3:double", "w/4:add"]


async def test_a_failure_names_the_call():
    failing = MockPrimitive("failing", side_effect=ValueError("broken"))

    @workflow
    async def outer(number: int) -> object:
        return await same.future(failing.future(number))

    with pytest.raises(ValueError, match="broken") as caught:
        await outer.execute(1, WorkflowContext(workflow_id="w"))
    assert caught.value.__notes__ == ["in step 'failing' (w/1:failing)"]


def test_a_future_shows_its_call():
    assert repr(double.future(1)) == "<Future of double>"
