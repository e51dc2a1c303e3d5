import dataclasses

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
from plait.performance import CacheStats, MemoryStore
from plait.recovery import constant

pytestmark = pytest.mark.anyio


async def test_equal_inputs_are_executed_once():
    mock = MockPrimitive(side_effect=str.upper)
    cache = CachePrimitive(mock, 60)
    assert [await cache(word) for word in ("a", "b", "a")] == ["A", "B", "A"]
    assert mock.calls == ["a", "b"]
    assert cache.stats == CacheStats(hits=1, misses=2, shared=0)


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
    assert cache.stats == CacheStats(hits=0, misses=1, shared=19)


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


class FailingStore:
    """Keeps nothing, and fails as often as it is told."""

    def __init__(self, failures):
        self.failures = failures
        self.kept = []

    async def get(self, key, now):
        if self.failures:
            self.failures -= 1
            raise OSError("store is down")

    async def set(self, key, value, now, ttl_seconds):
        self.kept.append((value, ttl_seconds))


async def test_a_store_of_ones_own_keeps_the_results():
    store = FailingStore(0)
    await CachePrimitive(str, 60, store=store)(1)
    assert store.kept == [("1", 60)]


async def test_a_store_that_fails_fails_the_call_and_no_later_one():
    mock = MockPrimitive(return_value=1)
    cache = CachePrimitive(mock, 60, store=FailingStore(1))
    with pytest.raises(OSError, match="store is down"):
        await cache(1)
    assert await cache(1) == 1


async def test_caches_may_share_a_store():
    store, mock = MemoryStore(), MockPrimitive(return_value=1)
    for _ in range(2):
        await CachePrimitive(mock, 60, store=store)(1)
    assert mock.call_count == 1


async def test_a_memory_store_forgets_what_is_over():
    store = MemoryStore(2)
    await store.set("key", "value", now=0, ttl_seconds=10)
    assert await store.get("key", now=9) == ("value",)
    assert await store.get("key", now=10) is None
    assert await store.get("other", now=0) is None
    assert len(store) == 0


async def test_a_memory_store_is_bounded():
    store = MemoryStore(2)
    for key in "abcb":
        await store.set(key, key, now=0, ttl_seconds=10)
    assert len(store) == 2
    assert await store.get("a", now=0) is None


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
        ({"ttl_seconds": 1, "max_size": 0}, "max_size=0 must be at least 1"),
    ],
)
def test_a_number_out_of_its_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CachePrimitive(str, **options)
