"""What holds of every composition, whatever is in it."""

import operator
from functools import reduce

import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from plait import (
    CachePrimitive,
    FallbackPrimitive,
    MapPrimitive,
    ParallelPrimitive,
    ReducePrimitive,
    RetryPrimitive,
    SequentialPrimitive,
    Success,
    TimeoutPrimitive,
    step,
)

pytestmark = pytest.mark.anyio

identity = step(name="identity")(lambda value: value)


def adds(amount):
    return step(name=f"add {amount}")(lambda number: number * 2 + amount)


async def adds_async(number):
    return number + 1


primitives = st.integers(-9, 9).map(adds) | st.just(step(adds_async))
numbers = st.integers(-1000, 1000)
orders = st.integers(1, 9).flatmap(lambda size: st.permutations(range(size)))


@st.composite
def parenthesised(draw, compose):
    """Primitives, and the same composed two at a time with the parentheses anywhere."""
    items = draw(st.lists(primitives, min_size=2, max_size=7))
    parts = list(items)
    while len(parts) > 1:
        at = draw(st.integers(0, len(parts) - 2))
        parts[at : at + 2] = [compose(*parts[at : at + 2])]
    return items, parts[0]


@given(composed=parenthesised(operator.rshift), number=numbers)
@settings(max_examples=40, deadline=None)
async def test_then_means_the_same_however_it_is_parenthesised(composed, number):
    items, workflow = composed
    assert workflow.children == tuple(items)
    assert await workflow(number) == await SequentialPrimitive(items)(number)


@given(composed=parenthesised(operator.or_), number=numbers)
@settings(max_examples=40, deadline=None)
async def test_or_means_the_same_however_it_is_parenthesised(composed, number):
    items, workflow = composed
    assert workflow.children == tuple(items)
    assert await workflow(number) == await ParallelPrimitive(items)(number)


@given(first=primitives, number=numbers)
@settings(max_examples=20, deadline=None)
async def test_identity_changes_nothing_on_either_side(first, number):
    expected = await first(number)
    assert await (identity >> first)(number) == expected
    assert await (first >> identity)(number) == expected


@given(first=primitives, second=primitives, items=st.lists(numbers, max_size=12))
@settings(max_examples=30, deadline=None)
async def test_one_map_of_two_is_two_maps(first, second, items):
    fused = MapPrimitive(first >> second)
    assert await fused(items) == await (MapPrimitive(first) >> MapPrimitive(second))(items)


@given(order=orders, limit=st.none() | st.integers(1, 9))
@settings(max_examples=40, deadline=None)
async def test_results_are_in_order_whichever_finishes_first(order, limit):
    finished = []

    async def wait(turns):
        for _ in range(turns):
            await checkpoint()
        finished.append(turns)
        return turns

    assert await MapPrimitive(wait, max_concurrency=limit)(order) == order
    assert sorted(finished) == sorted(order)
    branches = [step(lambda _, turns=turns: wait(turns)) for turns in order]
    assert await ParallelPrimitive(branches, max_concurrency=limit)(0) == tuple(order)


@given(order=orders, limit=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
async def test_a_reduce_after_a_map_is_a_fold_of_its_results(order, limit):
    async def wait(turns):
        for _ in range(turns):
            await checkpoint()
        return [turns]

    workflow = MapPrimitive(wait, max_concurrency=limit) >> ReducePrimitive(operator.add, [])
    assert await workflow(order) == reduce(operator.add, [[turns] for turns in order], [])


@given(first=primitives, number=numbers)
@settings(max_examples=20, deadline=None)
async def test_a_wrapper_with_nothing_to_do_changes_nothing(first, number):
    expected = await first(number)
    assert await RetryPrimitive(first)(number) == expected
    assert await FallbackPrimitive(first, [str])(number) == expected
    assert await TimeoutPrimitive(first, 60)(number) == expected
    assert await CachePrimitive(first, 60)(number) == expected
    assert await SequentialPrimitive([first])(number) == expected
    assert await ParallelPrimitive([first])(number) == (expected,)
    assert await ParallelPrimitive([first], errors="collect")(number) == (Success(expected),)
