import operator

import anyio
import pytest
from anyio.lowlevel import checkpoint

from plait import (
    Failure,
    MapPrimitive,
    MockPrimitive,
    ReducePrimitive,
    RetryPrimitive,
    WorkflowContext,
    step,
)
from plait.recovery import constant

pytestmark = pytest.mark.anyio


async def stream(elements):
    for element in elements:
        await checkpoint()
        yield element


def append(state, element):
    return [*state, element]


async def append_async(state, element):
    await checkpoint()
    return [*state, element]


def append_later(state, element):
    return append_async(state, element)


@pytest.mark.parametrize("fn", [append, append_async, append_later])
@pytest.mark.parametrize("make", [list, iter, stream])
async def test_it_folds_the_elements_in_order(fn, make):
    assert await ReducePrimitive(fn, [])(make([1, 2, 3])) == [1, 2, 3]


async def test_of_nothing_comes_the_initial_state():
    assert await ReducePrimitive(append, [0])([]) == [0]


async def test_each_run_starts_from_a_copy_of_the_initial_state():
    def count(totals, word):
        totals["words"].append(word)
        return totals

    initial = {"words": []}
    workflow = ReducePrimitive(count, initial)
    assert await workflow(["a", "b"]) == {"words": ["a", "b"]}
    assert await workflow(["c"]) == {"words": ["c"]}
    assert initial == {"words": []}


@pytest.mark.parametrize("fn", [append, append_async])
@pytest.mark.parametrize("make", [list, iter, stream])
@pytest.mark.parametrize("limit", [None, 1, 3])
async def test_after_a_map_it_folds_in_the_order_of_the_elements(fn, make, limit):
    async def work(number):
        await anyio.sleep((5 - number) / 1000)
        return number

    workflow = MapPrimitive(work, max_concurrency=limit) >> ReducePrimitive(fn, [])
    assert await workflow(make(range(6))) == list(range(6))


async def test_after_a_map_it_folds_while_the_map_runs():
    made, folded, held = 0, 0, []

    async def work(number):
        nonlocal made
        # The first of each four is the last to finish: the others wait for it.
        await anyio.sleep(0.003 if number % 4 == 0 else 0)
        made += 1
        held.append(made - folded)
        return number

    def fold(total, number):
        nonlocal folded
        folded += 1
        return total + number

    workflow = MapPrimitive(work, max_concurrency=4) >> ReducePrimitive(fold, 0)
    assert await workflow(stream(range(60))) == sum(range(60))
    assert max(held) <= 4


async def test_a_result_that_waits_to_be_folded_counts_against_the_limit():
    release = anyio.Event()
    started, results = [], []

    async def work(number):
        started.append(number)
        if number == 0:
            await release.wait()
        return number

    async def run():
        results.append(await workflow(iter(range(9))))

    workflow = MapPrimitive(work, max_concurrency=3) >> ReducePrimitive(append, [])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await anyio.wait_all_tasks_blocked()
        assert sorted(started) == [0, 1, 2]
        release.set()
    assert results == [list(range(9))]


async def test_it_folds_while_mapping_inside_of_longer_sequences():
    total = ReducePrimitive(operator.add, 0)
    workflow = step(str.split) >> (MapPrimitive(len) >> total >> str)
    assert await workflow("to be or not") == "9"
    assert await (MapPrimitive(len).named("sizes") >> (total >> str))(["to", "be"]) == "4"


async def test_a_fold_that_fails_stops_the_map():
    ended, source = [], iter(range(100))

    async def work(number):
        try:
            await anyio.sleep(60 if number else 0)
        finally:
            ended.append(number)

    def fail(state, element):
        raise ValueError("cannot fold")

    context = WorkflowContext(workflow_id="totals")
    workflow = MapPrimitive(work, max_concurrency=3) >> ReducePrimitive(fail, 0)
    with pytest.raises(ValueError, match="cannot fold") as caught:
        await workflow.execute(source, context)
    assert sorted(ended) == [0, 1, 2]
    assert caught.value.__notes__ == ["in step 'fail' (totals/2:fail)"]
    assert next(source) == 3


async def test_failures_of_elements_become_notes_of_the_fold_that_failed():
    async def work(number):
        try:
            await anyio.sleep(60 if number else 0)
        finally:
            if number:
                raise KeyError("cleanup")

    def fail(state, element):
        raise ValueError("cannot fold")

    with pytest.raises(ValueError, match="cannot fold") as caught:
        await (MapPrimitive(work) >> ReducePrimitive(fail, 0))([0, 1])
    assert any("KeyError('cleanup')" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("fn", [append, append_async])
async def test_an_element_that_fails_stops_the_fold(fn):
    folded = []

    def remember(state, element):
        folded.append(element)
        return fn(state, element)

    workflow = MapPrimitive(int, max_concurrency=1) >> ReducePrimitive(remember, [])
    with pytest.raises(ValueError, match="invalid literal") as caught:
        await workflow.execute(["1", "x", "3"], WorkflowContext(workflow_id="totals"))
    assert caught.value.__notes__ == ["in step 'int' (totals/1:int[1])"]
    assert folded == [1]


async def test_a_source_that_fails_half_way_fails_the_fold():
    async def elements():
        yield 1
        raise OSError("connection lost")

    workflow = MapPrimitive(str) >> ReducePrimitive(append, [])
    with pytest.raises(OSError, match="connection lost"):
        await workflow(elements())


async def test_collected_failures_are_folded_like_results():
    def count(state, outcome):
        return state + isinstance(outcome, Failure)

    workflow = MapPrimitive(int, errors="collect") >> ReducePrimitive(count, 0)
    assert await workflow(["1", "x", "y"]) == 2


async def test_a_retry_around_it_folds_anew():
    flaky = MockPrimitive(side_effect=[1, ValueError(), 1, 2])
    workflow = MapPrimitive(flaky, max_concurrency=1) >> ReducePrimitive(append, [])
    assert await RetryPrimitive(workflow, backoff=constant(0))("ab") == [1, 2]


async def test_what_cannot_be_iterated_is_refused():
    with pytest.raises(TypeError, match="'int' object is not iterable"):
        await ReducePrimitive(append, [])(5)


def test_it_folds_with_a_function():
    with pytest.raises(TypeError, match="folds with a function, got 3"):
        ReducePrimitive(3, 0)


@pytest.mark.parametrize(
    ("fn", "arguments"),
    [(lambda: 0, 0), (lambda state: state, 1), (lambda state, element, other: state, 3)],
)
def test_it_folds_with_a_function_of_two_arguments(fn, arguments):
    with pytest.raises(TypeError, match=f"calls 'lambda' with 2 arguments, not {arguments}"):
        ReducePrimitive(fn, 0)


@pytest.mark.parametrize(
    "fn", [max, operator.add, lambda *both: sum(both), lambda state, element=1: state + element]
)
def test_any_function_that_takes_two_arguments_will_do(fn):
    assert ReducePrimitive(fn, 0).run_sync([5]) == 5
