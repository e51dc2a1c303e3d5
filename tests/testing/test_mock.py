import anyio
import pytest

from plait import MockPrimitive, WorkflowContext

pytestmark = pytest.mark.anyio


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


async def test_assert_called_once_with_demands_one_call_with_that_input():
    mock = MockPrimitive("m")
    with pytest.raises(AssertionError, match="called once with 'in'; it was called with nothing"):
        mock.assert_called_once_with("in")
    await mock("in")
    mock.assert_called_once_with("in")
    with pytest.raises(AssertionError, match="called once with 'out'; it was called with 'in'"):
        mock.assert_called_once_with("out")
    await mock("in")
    with pytest.raises(AssertionError, match="it was called with 'in', 'in'"):
        mock.assert_called_once_with("in")


def test_without_a_call_there_is_no_last_input():
    with pytest.raises(AssertionError, match="m was never called"):
        _ = MockPrimitive("m").last_input


def test_the_delay_must_not_be_negative():
    with pytest.raises(ValueError, match="delay=-1 must not be negative"):
        MockPrimitive(delay=-1)
