import asyncio
import copy
import dataclasses
import math
import pickle
import traceback

import anyio
import pytest

from plait import (
    CachePrimitive,
    MapPrimitive,
    MockPrimitive,
    RetryPrimitive,
    SerializationError,
    WorkflowContext,
    step,
)
from plait.performance import CacheStats
from plait.recovery import constant

pytestmark = pytest.mark.anyio


async def test_equal_inputs_are_executed_once():
    mock = MockPrimitive(side_effect=str.upper)
    cache = CachePrimitive(mock, 60)
    assert [await cache(word) for word in ("a", "b", "a")] == ["A", "B", "A"]
    assert mock.calls == ["a", "b"]
    assert cache.stats == CacheStats(hits=1, misses=2)


async def test_runs_share_a_cache():
    mock = MockPrimitive(return_value=1)
    workflow = step(len) >> CachePrimitive(mock, 60)
    for text in ("abc", "xyz"):
        await workflow.execute(text, WorkflowContext())
    assert mock.calls == [3]


async def test_none_is_a_result_like_any_other():
    mock = MockPrimitive(return_value=None)
    cache = CachePrimitive(mock, 60)
    assert [await cache(1), await cache(1)] == [None, None]
    assert mock.call_count == 1


async def test_twenty_misses_at_once_execute_once():
    mock = MockPrimitive(return_value="done", delay=0.01)
    cache = CachePrimitive(mock, 60)
    assert await MapPrimitive(cache)(["key"] * 20) == ["done"] * 20
    assert mock.call_count == 1
    assert cache.stats == CacheStats(misses=1, shared=19)


async def test_misses_of_other_keys_do_not_wait(gauge):
    async def work(number):
        with gauge:
            await anyio.sleep(0.01)
        return number

    assert await MapPrimitive(CachePrimitive(work, 60))(range(50)) == list(range(50))
    assert gauge.peak == 50


async def test_a_failure_is_not_kept():
    mock = MockPrimitive("fetch", side_effect=[OSError("first"), "second"])
    cache = CachePrimitive(mock, 60)
    with pytest.raises(OSError, match="first") as caught:
        await cache(1)
    assert caught.value.__notes__ == ["in step 'fetch' (fetch/miss)"]
    assert await cache(1) == "second"


async def test_calls_that_share_an_execution_share_its_failure():
    mock = MockPrimitive(side_effect=OSError("down"), delay=0.01)
    cache = CachePrimitive(mock, 60)
    outcomes = await MapPrimitive(cache, errors="collect")(["key"] * 5)
    assert [str(outcome.error) for outcome in outcomes] == ["down"] * 5
    assert mock.call_count == 1


async def test_a_call_that_waits_takes_over_when_the_one_that_executes_is_cancelled():
    executed = []

    async def work(key):
        executed.append(key)
        if len(executed) == 1:
            await anyio.sleep_forever()
        return "done"

    cache, results = CachePrimitive(work, 60), []

    async def call():
        results.append(await cache("key"))

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as leader:
                leader.start_soon(call)
                await anyio.wait_all_tasks_blocked()
                for _ in range(5):
                    tasks.start_soon(call)
                await anyio.wait_all_tasks_blocked()
                assert executed == ["key"]
                scope.cancel()
    assert results == ["done"] * 5
    assert executed == ["key", "key"]


async def test_a_call_that_waits_may_be_cancelled_by_itself():
    mock = MockPrimitive(return_value="done", delay=0.05)
    cache, results = CachePrimitive(mock, 60), []

    async def call():
        results.append(await cache("key"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        with anyio.move_on_after(0.005) as scope:
            await anyio.wait_all_tasks_blocked()
            await call()
    assert scope.cancelled_caught
    assert results == ["done"]
    assert mock.call_count == 1


async def test_a_result_is_kept_until_its_time_is_over(clock):
    mock = MockPrimitive(side_effect=[1, 2])
    cache = CachePrimitive(mock, ttl_seconds=60)
    results = []
    for passed in (0, 59.9, 0.2, 59.9):
        clock.now += passed
        results.append(await cache.execute("key", clock.context()))
    assert results == [1, 1, 2, 2]


async def test_the_time_counts_from_when_the_result_was_there(clock):
    mock = MockPrimitive(side_effect=[1, 2], delay=50)
    cache = CachePrimitive(mock, ttl_seconds=60)
    await cache.execute("key", clock.context())
    clock.now += 59
    assert await cache.execute("key", clock.context()) == 1


async def test_the_least_recently_used_result_is_dropped_first():
    mock = MockPrimitive(side_effect=str)
    cache = CachePrimitive(mock, 60, max_size=2)
    for number in (1, 2, 1, 3, 1, 2):
        await cache(number)
    assert mock.calls == [1, 2, 3, 2]


@dataclasses.dataclass
class Point:
    x: int
    y: int


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1: "a", 2: "b"}, {2: "b", 1: "a"}),
        ({"$a": 1, "$b": 2}, {"$b": 2, "$a": 1}),
        ([{"a": {"x": 1, "y": 2}}], [{"a": {"y": 2, "x": 1}}]),
        ({3, 1, 2}, {1, 2, 3}),
        (Point(1, 2), Point(1, 2)),
        ("text", "text"),
        (("a", 1, None, (b"b", True)), ("a", 1, None, (b"b", True))),
        ((0.5, "a"), (0.5, "a")),
    ],
)
async def test_equal_inputs_have_one_key(left, right):
    mock = MockPrimitive(return_value=1)
    cache = CachePrimitive(mock, 60)
    await cache(left)
    await cache(right)
    assert mock.call_count == 1


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((1,), [1]),
        (1, "1"),
        (1, True),
        (1, 1.0),
        (b"a", "a"),
        (None, "null"),
        ({1, 2}, frozenset({1, 2})),
        ([1, 2], [2, 1]),
        ({"a": 1}, {"a": "1"}),
        (Point(1, 2), {"x": 1, "y": 2}),
        ((1,), {"$tuple": [1]}),
        ((1, "a"), (True, "a")),
        ((1, "a"), (1.0, "a")),
        (((1,), 2), ((True,), 2)),
        ((), None),
        (0.0, -0.0),
        (b"1", 1),
        (b'"a"', '"a"'),
        (b"[1]", [1]),
        ((bytes, b"a"), b"a"),
    ],
)
async def test_inputs_that_differ_in_value_or_type_have_two(left, right):
    mock = MockPrimitive(return_value=1)
    cache = CachePrimitive(mock, 60)
    await cache(left)
    await cache(right)
    assert mock.call_count == 2


async def test_a_key_of_ones_own():
    mock = MockPrimitive(side_effect=str)
    cache = CachePrimitive(mock, 60, key=str.casefold)
    assert [await cache("Ada"), await cache("ADA")] == ["Ada", "Ada"]


async def test_an_input_that_has_no_key_is_refused():
    with pytest.raises(SerializationError, match=r"cannot encode builtins\.object"):
        await CachePrimitive(repr, 60)(object())


async def test_a_retry_inside_is_one_miss():
    mock = MockPrimitive(side_effect=[OSError(), "done"])
    cache = CachePrimitive(RetryPrimitive(mock, backoff=constant(0)), 60)
    assert [await cache(1), await cache(1)] == ["done", "done"]
    assert cache.stats == CacheStats(hits=1, misses=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ttl_seconds": 0}, "ttl_seconds=0 must be positive"),
        ({"ttl_seconds": -1}, "ttl_seconds=-1 must be positive"),
        ({"ttl_seconds": math.nan}, "ttl_seconds=nan must be positive"),
        ({"max_size": 0}, "max_size=0 must be at least 1"),
        ({"jitter": -0.1}, "jitter=-0.1 must be a share, from 0 to 1"),
        ({"jitter": 1.5}, "jitter=1.5 must be a share, from 0 to 1"),
        ({"stale_seconds": -1}, "stale_seconds=-1 must not be negative"),
        ({"stale_if_error": math.nan}, "stale_if_error=nan must not be negative"),
        ({"on_store_error": "ajar"}, 'on_store_error=\'ajar\' must be "open" or "closed"'),
        ({"namespace": ""}, "namespace='' must not be empty"),
    ],
)
def test_an_option_out_of_its_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CachePrimitive(str, **{"ttl_seconds": 60, **options})


def test_a_key_must_be_a_function():
    with pytest.raises(TypeError, match="key='id' must be a function of the input"):
        CachePrimitive(str, 60, key="id")


async def test_a_result_may_be_kept_for_ever(clock):
    mock = MockPrimitive(return_value=1)
    cache = CachePrimitive(mock, math.inf, jitter=0.5)
    await cache.execute("key", clock.context())
    clock.now += 1e9
    await cache.execute("key", clock.context())
    assert mock.call_count == 1


async def test_ten_thousand_misses_of_a_hundred_keys_are_a_hundred_calls():
    mock = MockPrimitive(side_effect=str, delay=0.01)
    cache = CachePrimitive(mock, 60)
    inputs = [number % 100 for number in range(10_000)]
    assert await MapPrimitive(cache)(inputs) == [str(number) for number in inputs]
    assert sorted(mock.calls) == list(range(100))
    assert cache.stats == CacheStats(misses=100, shared=9_900)


async def test_a_failure_that_many_share_has_the_traceback_of_one():
    mock = MockPrimitive(side_effect=OSError("down"), delay=0.01)
    outcomes = await MapPrimitive(CachePrimitive(mock, 60), errors="collect")(["key"] * 200)
    (error,) = {outcome.error for outcome in outcomes}
    assert len(list(traceback.walk_tb(error.__traceback__))) < 20


async def test_every_leader_may_be_cancelled_and_no_call_is_lost():
    executing = []

    async def work(key):
        executing.append(anyio.get_current_task().id)
        if len(executing) <= 3:
            await anyio.sleep_forever()
        return "done"

    cache, results, scopes = CachePrimitive(work, 60), [], {}

    async def call():
        with anyio.CancelScope() as scope:
            scopes[anyio.get_current_task().id] = scope
            results.append(await cache("key"))

    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(call)
        for _ in range(3):
            await anyio.wait_all_tasks_blocked()
            scopes[executing[-1]].cancel()
    assert results == ["done"] * 3
    assert len(set(executing)) == 4


def test_a_cache_serves_one_event_loop_after_another():
    mock = MockPrimitive(side_effect=str)
    cache = CachePrimitive(mock, 60)
    assert [cache.run_sync(1), cache.run_sync(1, backend="trio"), cache.run_sync(1)] == ["1"] * 3
    assert mock.call_count == 1


def test_an_execution_of_an_event_loop_that_is_gone_holds_nobody_up():
    started = []

    async def work(key):
        started.append(key)
        if len(started) == 1:
            await asyncio.sleep(3600)
        return "done"

    cache = CachePrimitive(work, 60)

    async def abandon():
        task = asyncio.ensure_future(cache("key"))
        await asyncio.sleep(0.001)
        return task

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(abandon())
    assert cache.run_sync("key", backend="trio") == "done"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    assert cache.run_sync("key") == "done"
    assert len(started) == 2


async def test_a_pickled_cache_keeps_its_results_and_not_what_is_under_way():
    cache = CachePrimitive(anyio.sleep, 60)
    async with anyio.create_task_group() as tasks:
        await cache(0)
        tasks.start_soon(cache, 0.01)
        await anyio.wait_all_tasks_blocked()
        restored = pickle.loads(pickle.dumps(cache))
        assert restored.stats == CacheStats(misses=2)
        await restored(0)
        assert restored.stats == CacheStats(misses=2, hits=1)
        await restored(0.01)
        assert restored.stats == CacheStats(misses=3, hits=1)


async def test_a_deep_copy_keeps_results_of_its_own():
    mock = MockPrimitive(side_effect=str)
    cache = CachePrimitive(mock, 60, max_size=2)
    copied = copy.deepcopy(cache)
    for number in (1, 2, 1, 3, 1):
        await copied(number)
    assert copied.stats == CacheStats(hits=2, misses=3)
    await cache(1)
    assert cache.stats == CacheStats(misses=1)


async def test_what_happens_is_reported(virtual):
    cache = CachePrimitive(MockPrimitive(side_effect=[1, 2], delay=1), 60, stale_seconds=60)

    async def calls():
        context = virtual.context()
        await MapPrimitive(cache).execute(["key"] * 2, context)
        await cache.execute("key", context)
        virtual.now += 61
        await MapPrimitive(cache).execute(["key"] * 2, context)

    await virtual.drive(calls)
    assert [event for event, _ in virtual.reports] == [
        "cache_miss",
        "cache_shared",
        "cache_hit",
        "cache_miss",
        "cache_stale",
    ]
