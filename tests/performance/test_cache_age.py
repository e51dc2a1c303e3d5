"""How long results are kept, and what is given out when they are over."""

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plait import CachePrimitive, MapPrimitive, MockPrimitive, StepTimeoutError, TimeoutPrimitive
from plait.performance import CacheStats, MemoryStore

pytestmark = pytest.mark.anyio


async def test_results_that_were_kept_together_are_not_over_together(clock):
    mock = MockPrimitive(side_effect=str)
    cache = CachePrimitive(mock, 100, jitter=0.2)
    context = clock.context()
    for number in range(200):
        await cache.execute(number, context)

    async def again():
        before = mock.call_count
        for number in range(200):
            await cache.execute(number, context)
        return mock.call_count - before

    clock.now += 79.9
    assert await again() == 0
    clock.now += 10
    assert 50 < await again() < 150
    clock.now += 100
    assert await again() == 200


async def test_each_result_may_have_a_time_of_its_own(clock):
    mock = MockPrimitive(side_effect=lambda number: number or None)
    cache = CachePrimitive(mock, lambda number, result: 0 if result is None else 10 * number)
    context = clock.context()
    for passed in (0, 9, 6):
        clock.now += passed
        for number in (0, 1, 2):
            assert await cache.execute(number, context) == (number or None)
    assert sorted(mock.calls) == [0, 0, 0, 1, 1, 2]


async def test_of_those_that_find_it_stale_one_executes_and_the_others_have_it_at_once(virtual):
    mock = MockPrimitive(side_effect=["old", "new"], delay=5)
    cache = CachePrimitive(mock, 60, stale_seconds=30)
    results = []

    async def call():
        results.append((await cache.execute("key", virtual.context()), virtual.now))

    async def calls():
        await call()
        virtual.now = 1005 + 60
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(call)

    await virtual.drive(calls)
    assert results == [("old", 1005), ("old", 1065), ("old", 1065), ("new", 1070)]


async def test_an_execution_that_takes_long_does_not_make_a_stale_result_last_longer(virtual):
    mock = MockPrimitive(side_effect=["old", "new"], delay=50)
    cache = CachePrimitive(mock, 60, stale_seconds=30)
    results = []

    async def call():
        results.append((await cache.execute("key", virtual.context()), virtual.now))

    async def calls():
        await call()
        virtual.now = 1050 + 60
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(call)
                await virtual.sleep(15, None)

    await virtual.drive(calls)
    assert results[:2] == [("old", 1050), ("old", 1125)]
    assert results[2:] == [("new", 1160)] * 3


async def test_past_the_stale_time_all_wait_for_the_new_result(clock):
    mock = MockPrimitive(side_effect=["old", "new"])
    cache = CachePrimitive(mock, 60, stale_seconds=30)
    context = clock.context()
    await cache.execute("key", context)
    clock.now += 90
    assert await MapPrimitive(cache).execute(["key"] * 3, context) == ["new"] * 3


async def test_where_the_one_that_executes_fails_or_is_cancelled_the_stale_result_stays(clock):
    mock = MockPrimitive(
        side_effect=["old", OSError("down"), lambda _: anyio.sleep_forever(), "new"]
    )
    cache = CachePrimitive(mock, 60, stale_seconds=30)
    context = clock.context()
    await cache.execute("key", context)
    clock.now += 60
    with pytest.raises(OSError, match="down"):
        await cache.execute("key", context)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cache.execute, "key", context)
        await anyio.wait_all_tasks_blocked()
        assert await cache.execute("key", context) == "old"
        tasks.cancel_scope.cancel()
    assert await cache.execute("key", context) == "new"


async def test_a_stale_result_may_stand_in_for_a_failure(clock):
    mock = MockPrimitive(side_effect=["old", *[OSError("down")] * 3, "new"])
    cache = CachePrimitive(mock, 60, stale_if_error=30)
    context = clock.context()
    assert await cache.execute("key", context) == "old"
    clock.now += 60
    assert await MapPrimitive(cache).execute(["key"] * 2, context) == ["old", "old"]
    assert cache.stats == CacheStats(misses=3, stale=2)
    clock.now += 30
    with pytest.raises(OSError, match="down"):
        await cache.execute("key", context)
    assert await cache.execute("key", context) == "new"


async def test_the_time_that_a_failure_took_counts(clock):
    mock = MockPrimitive(side_effect=["old", OSError("down")], delay=20)
    cache = CachePrimitive(mock, 60, stale_if_error=30)
    await cache.execute("key", clock.context())
    clock.now += 75
    with pytest.raises(OSError, match="down"):
        await cache.execute("key", clock.context())


async def test_an_invalidated_result_is_forgotten():
    mock = MockPrimitive(side_effect=str)
    cache = CachePrimitive(mock, 60)
    for number in (1, 2):
        await cache(number)
    await cache.invalidate(1)
    await cache.invalidate(3)
    for number in (1, 2):
        await cache(number)
    assert mock.calls == [1, 2, 1]


async def test_a_result_may_be_invalidated_by_its_key():
    mock = MockPrimitive(side_effect=str)
    cache = CachePrimitive(mock, 60, key=str.casefold)
    await cache("Ada")
    await cache.invalidate_key("ada")
    await cache("ADA")
    assert mock.calls == ["Ada", "ADA"]


async def test_all_results_of_a_cache_may_be_invalidated():
    store, mock = MemoryStore(), MockPrimitive(side_effect=str)
    left, right = (CachePrimitive(mock, 60, store=store, namespace=name) for name in "lr")
    for cache in (left, right):
        await cache(1)
    await left.invalidate_all()
    for cache in (left, right):
        await cache(1)
    assert mock.call_count == 3


@pytest.mark.parametrize(
    "invalidate", [lambda cache: cache.invalidate(1), CachePrimitive.invalidate_all]
)
async def test_what_is_invalidated_while_it_is_made_is_not_kept(invalidate):
    released, results, made = anyio.Event(), [], []

    async def work(number):
        made.append(number)
        version = len(made)
        if version == 1:
            await released.wait()
        return version

    cache = CachePrimitive(work, 60)

    async def call():
        results.append(await cache(1))

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        await invalidate(cache)
        assert await cache(1) == 2
        released.set()
    assert results == [1, 1]
    assert await cache(1) == 2


@given(
    calls=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 1), st.none() | st.floats(0.1, 5)),
        min_size=1,
        max_size=25,
    ),
    stale_seconds=st.sampled_from([0, 3]),
    failing=st.sets(st.integers(1, 10)),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_no_call_is_lost_and_no_key_is_executed_twice_at_once(
    make_virtual, calls, stale_seconds, failing
):
    virtual, executing, executed, ended = make_virtual(), set(), [], {}

    async def work(key):
        assert key not in executing
        executing.add(key)
        executed.append(key)
        turn = len(executed)
        try:
            await virtual.sleep(2, None)
        finally:
            executing.remove(key)
        if turn in failing:
            raise OSError(turn)
        return key, virtual.now

    cache = CachePrimitive(work, 4, stale_seconds=stale_seconds)

    async def call(number, key, patience):
        primitive = cache if patience is None else TimeoutPrimitive(cache, patience)
        began = virtual.now
        try:
            found, made = await primitive.execute(key, virtual.context())
        except StepTimeoutError:
            assert patience is not None
            ended[number] = None
        except OSError:
            assert failing
            ended[number] = None
        else:
            assert found == key
            assert made > began - 4 - stale_seconds
            ended[number] = key

    async def run():
        async with anyio.create_task_group() as tasks:
            for number, (pause, key, patience) in enumerate(calls):
                await virtual.sleep(pause, None)
                tasks.start_soon(call, number, key, patience)

    await virtual.drive(run)
    assert len(ended) == len(calls)
    assert cache._flights == {}
    assert cache.stats.misses == len(executed)
