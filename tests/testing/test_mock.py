from collections.abc import Awaitable
from dataclasses import dataclass

import anyio
import pytest

from plait import MockPrimitive, RetryPrimitive, WorkflowContext, WorkflowPrimitive, step
from plait.primitives import Arguments
from plait.recovery import constant

pytestmark = pytest.mark.anyio

CONTEXT = WorkflowContext()


async def test_a_mock_returns_what_it_is_told_and_remembers_its_calls():
    charge = MockPrimitive("charge", return_value="paid")
    assert await charge({"total": 1}) == "paid"
    assert await charge({"total": 2}) == "paid"
    assert charge.call_count == 2
    assert charge.calls == [{"total": 1}, {"total": 2}]
    assert charge.last_input == {"total": 2}


async def test_by_default_a_mock_returns_none():
    assert await MockPrimitive()("in") is None


def test_a_mock_has_a_name():
    assert MockPrimitive("charge").name == "charge"
    assert MockPrimitive().name == "Mock"


@pytest.mark.parametrize("error", [ConnectionError("down"), ConnectionError])
async def test_a_side_effect_may_be_an_exception(error):
    mock = MockPrimitive(return_value="never", side_effect=error)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await mock("in")
    assert mock.call_count == 2


async def test_a_side_effect_may_be_a_function():
    assert await MockPrimitive(return_value="never", side_effect=str.upper)("in") == "IN"


async def test_a_side_effect_may_be_an_async_function():
    async def later(value):
        await anyio.lowlevel.checkpoint()
        return value * 2

    assert await MockPrimitive(side_effect=later)("in") == "inin"


@pytest.mark.parametrize("make", [list, iter, tuple])
async def test_a_side_effect_may_be_a_sequence_one_for_each_call(make):
    mock = MockPrimitive(
        "m", side_effect=make([ConnectionError("down"), ConnectionError, None, 3, str.upper])
    )
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await mock("in")
    assert [await mock("in") for _ in range(3)] == [None, 3, "IN"]
    with pytest.raises(AssertionError, match="m has no side effect for call 6"):
        await mock("in")


async def test_a_mock_takes_as_long_as_it_is_told(clock):
    await MockPrimitive(delay=30).execute("in", clock.context())
    assert clock.sleeps == [30]


async def test_a_call_is_remembered_before_the_delay():
    mock = MockPrimitive(delay=60)
    with anyio.move_on_after(0.001):
        await mock("in")
    assert mock.calls == ["in"]


async def test_a_mock_composes_like_any_primitive():
    mock = MockPrimitive(return_value=[1, 2])
    context = WorkflowContext()
    assert await (mock >> len | mock).execute("in", context) == (2, [1, 2])
    assert mock.call_count == 2


async def test_a_side_effect_may_take_the_context():
    async def effect(value, context):
        context.data["seen"] = value
        return context.path

    context = WorkflowContext()
    mock = MockPrimitive("m", side_effect=[effect, effect])
    assert await (mock >> mock).execute("in", context) == "sequential/2:m"
    assert context.data == {"seen": "sequential/1:m"}


def test_a_side_effect_that_is_none_of_these_is_refused():
    with pytest.raises(TypeError, match="return_value=3"):
        MockPrimitive(side_effect=3)


async def test_the_history_says_where_and_when_each_call_was_made(clock):
    mock = MockPrimitive("m", side_effect=[ConnectionError, "out"])
    context = clock.context(correlation_id="run-1")
    await RetryPrimitive(mock, backoff=constant(60), jitter=False).execute("in", context)
    assert [(call.path, call.attempt, call.time) for call in mock.history] == [
        ("m/attempt 1", 1, 1000.0),
        ("m/attempt 2", 2, 1060.0),
    ]
    assert {call.correlation_id for call in mock.history} == {"run-1"}


async def called(*inputs):
    mock = MockPrimitive("charge")
    for input_data in inputs:
        await (mock >> str).execute(input_data, WorkflowContext())
    return mock


def told(demand, *arguments):
    with pytest.raises(AssertionError) as caught:
        demand(*arguments)
    return str(caught.value)


async def test_what_holds_is_not_complained_of():
    (await called()).assert_not_called()
    mock = await called(1)
    mock.assert_called()
    mock.assert_called_once()
    mock.assert_called_once_with(1)
    mock = await called(1, 2)
    mock.assert_called_with(2)
    mock.assert_any_call(1)
    mock.assert_calls(1, 2)
    mock.reset()
    mock.assert_not_called()


async def test_what_does_not_hold_is_told_with_the_calls():
    never, once, twice = await called(), await called({"total": 1}), await called(1, 2)
    assert told(never.assert_called) == "charge was never called"
    assert told(never.assert_called_once_with, 1) == (
        "charge was to be called once with 1; it was never called"
    )
    assert told(once.assert_not_called) == (
        "charge was not to be called; it was called with {'total': 1} at sequential/1:charge"
    )
    assert told(once.assert_called_with, 2) == (
        "charge was last to be called with 2; "
        "it was called with {'total': 1} at sequential/1:charge"
    )
    assert told(once.assert_any_call, 2).startswith("charge was to be called with 2 at some time; ")
    assert told(twice.assert_called_once) == (
        "charge was to be called once; it was called 2 times, with\n"
        "  1. 1 at sequential/1:charge\n"
        "  2. 2 at sequential/1:charge"
    )
    assert told(twice.assert_calls, 2, 1).startswith("charge was to be called with 2, 1; ")


@dataclass
class Order:
    total: int


@step
async def charge(order: Order) -> str:
    raise NotImplementedError


@step
def add(left: int, *, right: int = 0) -> int:
    raise NotImplementedError


class Scale(WorkflowPrimitive[float, float]):
    async def execute(self, input_data: float, context: WorkflowContext) -> float:
        raise NotImplementedError


@step
def anything(value):
    raise NotImplementedError


async def test_a_mock_of_a_primitive_has_its_name_and_its_types():
    mock = MockPrimitive.of(charge, return_value="paid")
    assert mock.name == "charge"
    assert await mock(Order(42)) == "paid"
    with pytest.raises(AssertionError) as caught:
        await mock({"total": 42})
    assert str(caught.value) == (
        "charge takes order: Order, and its mock was called with {'total': 42} (dict)"
    )


@pytest.mark.parametrize("result", [None, 3, b"paid"])
def test_a_mock_returns_what_the_primitive_may_return(result):
    with pytest.raises(TypeError, match="charge returns str, and its mock"):
        MockPrimitive.of(charge, return_value=result)


async def test_a_side_effect_returns_what_the_primitive_may_return():
    mock = MockPrimitive.of(charge, side_effect=[ConnectionError, lambda order: order.total])
    with pytest.raises(ConnectionError):
        await mock(Order(42))
    with pytest.raises(AssertionError, match=r"charge returns str, and its mock 42 \(int\)"):
        await mock(Order(42))


async def test_a_mock_of_a_step_of_several_arguments_checks_each():
    mock = MockPrimitive.of(add, return_value=3)
    assert await add.with_mocks({"add": mock}).execute(Arguments((1,), {"right": 2}), CONTEXT) == 3
    with pytest.raises(AssertionError, match="add takes right: int, and its mock was called with"):
        await mock(Arguments((1,), {"right": "2"}))
    with pytest.raises(AssertionError, match=r"add takes .*unexpected keyword argument 'up'"):
        await mock(Arguments((1,), {"up": 2}))


async def test_a_mock_of_a_primitive_class_checks_its_types():
    mock = MockPrimitive.of(Scale(), return_value=2.5)
    assert await mock(1.5) == 2.5
    with pytest.raises(AssertionError, match="Scale takes input_data: float"):
        await mock("1.5")


async def test_without_annotations_there_is_nothing_to_check():
    assert await MockPrimitive.of(anything, return_value=object)(object) is object


def test_what_a_function_promises_to_await_is_what_it_returns():
    def find(_) -> Awaitable[str]: ...

    MockPrimitive.of(step(find), return_value="found")
    with pytest.raises(TypeError, match="find returns str"):
        MockPrimitive.of(step(find))


async def test_annotations_that_are_not_there_are_no_types():
    def find(value: "Missing"): ...  # noqa: F821

    assert await MockPrimitive.of(step(find), return_value=3)("anything") == 3


class Unknown:
    pass


def test_types_that_have_no_schema_are_checked_by_their_class():
    def find(_) -> Unknown: ...

    MockPrimitive.of(step(find), return_value=Unknown())
    with pytest.raises(TypeError, match="find returns Unknown"):
        MockPrimitive.of(step(find), return_value=3)


def test_without_a_call_there_is_no_last_input():
    with pytest.raises(AssertionError, match="m was never called"):
        _ = MockPrimitive("m").last_input


def test_the_delay_must_not_be_negative():
    with pytest.raises(ValueError, match="delay=-1 must not be negative"):
        MockPrimitive(delay=-1)


def test_a_mock_of_what_is_no_primitive_is_refused():
    with pytest.raises(TypeError, match=r"takes the primitive to stand in for, got <built-in"):
        MockPrimitive.of(len)
