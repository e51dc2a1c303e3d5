"""Workflows made of everything, in any way: wherever one is killed, it ends as it does unkilled."""

import itertools
import os

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plait import (
    CachePrimitive,
    CompensationPrimitive,
    ConditionalPrimitive,
    FallbackPrimitive,
    MapPrimitive,
    ParallelPrimitive,
    ReducePrimitive,
    RetryPrimitive,
    RouterPrimitive,
    SleepPrimitive,
    StepTimeoutError,
    TimeoutPrimitive,
    WorkflowContext,
    step,
    workflow,
)
from plait.performance import MemoryStore
from plait.recovery import constant
from plait.testing import assert_crash_safe

EXAMPLES = int(os.environ.get("PLAIT_TREE_EXAMPLES", "40"))
KILLS = 8
"""How often each workflow is killed at the most, evenly spread over what it writes."""


class Memory(MemoryStore):
    """The store of all caches here: it outlives what is killed, and is emptied for each run."""

    def forget(self):
        self.__init__()


MEMORY = Memory()
NUMBERS = itertools.count()


class RefusedError(Exception):
    """What a step says of a number that it does not take."""


@step
async def add(number: int, context: WorkflowContext) -> int:
    context.data[context.path] = number
    return number + 1


@step
async def refuse(number: int, context: WorkflowContext) -> int:
    context.data.setdefault(context.path, []).append(number)
    if number % 2:
        raise RefusedError(number)
    return number


@step
async def flaky(number: int, context: WorkflowContext) -> int:
    if context.attempt < 2:
        raise RefusedError(f"attempt {context.attempt}")
    return number * 2


@step
async def hang(number: int, context: WorkflowContext) -> int:
    """Takes longer than any deadline: what took a while would take it again, under the same."""
    await anyio.sleep(1000)
    context.data[context.path] = number
    return number


@step
async def undo(number: int, context: WorkflowContext) -> None:
    context.data[context.path] = "undone"


@step
async def spread(number: int) -> list[int]:
    return [number, number + 1, number + 2]


@step
async def plus(left: int, right: int) -> int:
    return left + right


leaves = st.sampled_from([add, refuse, flaky, hang, SleepPrimitive(0.5), SleepPrimitive(2)])


def imperative(first, second):
    """A body that calls two at the same time, and then one of them once more."""

    @workflow
    async def body(number: int, context: WorkflowContext) -> int:
        found = await context.gather(first(number), second(number + 1))
        context.compensate(undo, number)
        return await first(sum(found) % 100)

    return body


def handling(first, second):
    """A body that goes on where one of them fails."""

    @workflow
    async def body(number: int, context: WorkflowContext) -> int:
        try:
            return await first(number)
        except (RefusedError, StepTimeoutError) as error:
            context.data[context.path] = type(error).__name__
            return await second(number + 1)

    return body


def hasty(first, second):
    """A body that gives one of them up after a while."""

    @workflow
    async def body(number: int, context: WorkflowContext) -> int:
        try:
            return await context.within(1.2507, lambda: first(number))
        except StepTimeoutError:
            return await second(number)

    return body


def lazy(first, second):
    """A body that describes its calls before they are made."""

    @workflow
    async def body(number: int) -> int:
        shared = plus.future(number, 1)
        return await plus.future(shared, plus.future(shared, number))

    return first >> body >> second


def mapped(child, limit):
    return spread >> MapPrimitive(child, max_concurrency=limit) >> step(sum)


def reduced(child):
    return spread >> MapPrimitive(child) >> ReducePrimitive(plus_two, 0)


def cached(child):
    # One of its own for each: whether another has missed before depends on when they are killed.
    return CachePrimitive(child, 60, store=MEMORY, namespace=str(next(NUMBERS)))


def plus_two(total, number):
    return total + number


def trees(children):
    pairs = st.tuples(children, children)
    return st.one_of(
        pairs.map(lambda pair: pair[0] >> pair[1]),
        pairs.map(lambda pair: (pair[0] | pair[1]) >> step(sum)),
        pairs.map(lambda pair: ParallelPrimitive({"a": pair[0], "b": pair[1]}) >> step(total)),
        pairs.map(lambda pair: ConditionalPrimitive(is_even, *pair)),
        pairs.map(lambda pair: RouterPrimitive({"even": pair[0], "odd": pair[1]}, parity)),
        pairs.map(lambda pair: FallbackPrimitive(pair[0], [pair[1]])),
        st.builds(mapped, children, st.sampled_from([None, 1, 2])),
        st.builds(reduced, children),
        children.map(lambda it: RetryPrimitive(it, 2, backoff=constant(1), jitter=False)),
        st.builds(TimeoutPrimitive, children, st.sampled_from([0.7501, 2.5003, 60])),
        st.builds(cached, children),
        children.map(lambda it: CompensationPrimitive(it, undo)),
        *(st.builds(body, children, children) for body in (imperative, handling, hasty, lazy)),
    )


def is_even(number):
    return number % 2 == 0


def parity(number):
    return "even" if number % 2 == 0 else "odd"


def total(found):
    return sum(found.values())


@pytest.mark.timeout(60 + EXAMPLES)
def test_a_workflow_of_anything_ends_as_it_does_unkilled():
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize="PLAIT_TREE_EXAMPLES" not in os.environ,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(st.recursive(leaves, trees, max_leaves=8), st.integers(0, 3))
    def check(tree, number):
        async def is_safe():
            await assert_crash_safe(
                tree.named("tree"),
                number,
                setup=MEMORY.forget,
                max_kills=KILLS,
            )

        # trio wakes tasks in any order: of two that fail at once, either may be the first.
        anyio.run(is_safe)

    check()
