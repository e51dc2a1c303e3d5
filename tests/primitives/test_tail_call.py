"""A step that returns a future hands its place to that call."""

import functools
import inspect

import pytest

from plait import Future, MockPrimitive, RetryPrimitive, WorkflowContext, step
from plait.recovery import constant

pytestmark = pytest.mark.anyio


@step
async def double(number: int) -> int:
    return number * 2


@step
async def add(left: int, right: int) -> int:
    return left + right


@step
async def both(number: int) -> Future[int]:
    return add.future(double.future(number), double.future(number + 1))


async def test_a_future_that_is_returned_becomes_its_result():
    assert await both(1) == 6
    assert await (both >> str)(1) == "6"
    assert await both.execute(1, WorkflowContext()) == 6
    assert await double.future(both.future(1)) == 12


async def returns_future(number: int):
    return double.future(number)


def returns_map(number: int):
    return double.map([number])


class Service:
    async def call(self, number: int) -> "Future[int]":
        return double.future(number)


def wrapped(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


def make_future(number):
    return double.future(number)


def returns_indirectly_sync(number: int):
    return make_future(number)


@pytest.mark.parametrize(
    ("function", "result"),
    [
        (returns_future, 4),
        (returns_map, [4]),
        (lambda number: double.future(number + 1), 6),
        (Service().call, 4),
        (functools.partial(returns_future), 4),
        (wrapped(returns_future), 4),
        (returns_indirectly_sync, 4),
    ],
)
async def test_any_function_may_return_one(function, result):
    assert await step(function)(2) == result
    assert await (step(abs) >> function)(2) == result


async def test_the_builtin_map_is_no_future():
    assert await step(lambda items: list(map(str, items)))([1, 2]) == ["1", "2"]


async def test_the_function_has_ended_before_the_call_is_made():
    events = []

    @step
    async def first(number: int) -> Future[int]:
        try:
            return second.future(number)
        finally:
            events.append("first ended")

    @step
    async def second(number: int) -> int:
        events.append("second started")
        return number

    await first(1)
    assert events == ["first ended", "second started"]


async def test_ten_thousand_tail_calls_do_not_grow_the_stack():
    depths = []

    @step
    async def count_down(number: int) -> object:
        if number % 1000 == 0:
            depths.append(len(inspect.stack(0)))
        return count_down.future(number - 1) if number else "done"

    assert await count_down(10_000) == "done"
    assert len(depths) == 11
    assert len(set(depths)) == 1


async def test_callers_are_not_held_open():
    class Tracked:
        alive = 0

        def __init__(self):
            Tracked.alive += 1

        def __del__(self):
            Tracked.alive -= 1

    most = []

    @step
    async def descend(number: int) -> object:
        held = Tracked()
        most.append(held.alive)
        return descend.future(number - 1) if number else "done"

    assert await descend(500) == "done"
    assert max(most) <= 2


async def test_a_function_that_returns_a_value_after_all():
    @step
    async def maybe(number: int) -> object:
        return double.future(number) if number else "nothing"

    assert [await maybe(0), await maybe(1)] == ["nothing", 2]


async def test_two_that_call_each_other():
    @step
    async def even(number: int) -> object:
        return odd.future(number - 1) if number else True

    @step
    async def odd(number: int) -> object:
        return even.future(number - 1) if number else False

    assert [await even(7), await even(8)] == [False, True]


async def test_calls_that_were_made_before_are_not_made_again():
    mock = MockPrimitive("once", return_value=3)

    @step
    async def use_twice(number: int) -> object:
        made = mock.future(number)
        await made
        return add.future(made, made)

    assert await use_twice(1) == 6
    assert mock.call_count == 1


async def test_a_failure_of_the_call_is_the_steps():
    failing = MockPrimitive("failing", side_effect=ValueError("broken"))

    @step
    async def hand_over(number: int) -> object:
        return failing.future(number)

    with pytest.raises(ValueError, match="broken"):
        await (step(abs) >> hand_over)(1)


async def test_a_retry_makes_the_whole_chain_again():
    flaky = MockPrimitive("flaky", side_effect=[OSError("once"), "done"])

    @step
    async def hand_over(number: int) -> object:
        return flaky.future(double.future(number))

    assert await RetryPrimitive(hand_over, backoff=constant(0))(1) == "done"
    assert flaky.calls == [2, 2]


async def test_body_and_calls_are_nodes(runtime):
    await both.execute(1, runtime.context(workflow_id="w"))
    assert runtime.paths[:2] == ["w", "w/1:both"]
    assert sorted(runtime.paths[2:]) == ["w/2:double", "w/3:double", "w/4:add"]
