"""The stores: what they keep, what they forget, and what a cache does when one fails."""

import pickle

import anyio
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from plait import CachePrimitive, MapPrimitive, MockPrimitive, SerializationError
from plait.performance import CacheStats, Kept, MemoryStore

pytestmark = pytest.mark.anyio


class Broken:
    """Keeps results, and fails in whatever it is told to."""

    def __init__(self, *fails):
        self.fails = set(fails)
        self.inner = MemoryStore()
        self.asked = []

    def __getattr__(self, name):
        async def call(*args, **kwargs):
            self.asked.append(name)
            if name in self.fails:
                raise OSError(f"{name} is down")
            return await getattr(self.inner, name)(*args, **kwargs)

        return call


async def test_a_store_of_ones_own_keeps_the_results():
    mock, store = MockPrimitive(side_effect=str), Broken()
    cache = CachePrimitive(mock, 60, store=store)
    assert [await cache(1), await cache(1)] == ["1", "1"]
    assert cache.stats == CacheStats(hits=1, misses=1)
    await cache.invalidate(1)
    assert await cache(1) == "1"
    await cache.invalidate_all()
    assert store.asked == ["get", "set", "get", "delete", "get", "set", "clear"]


async def test_a_store_that_cannot_be_read_is_done_without_and_not_written_either(virtual):
    mock, store = MockPrimitive(side_effect=str), Broken("get")
    cache = CachePrimitive(mock, 60, store=store)
    context = virtual.context()
    assert [await cache.execute(1, context), await cache.execute(1, context)] == ["1", "1"]
    assert store.asked == ["get", "get"]
    assert cache.stats == CacheStats(misses=2, errors=2)
    assert ("cache_error", {"error": "OSError('get is down')"}) in virtual.reports


async def test_a_store_that_cannot_be_written_is_done_without():
    cache = CachePrimitive(str, 60, store=Broken("set"))
    assert [await cache(1), await cache(1)] == ["1", "1"]
    assert cache.stats == CacheStats(misses=2, errors=2)


@pytest.mark.parametrize("fails", ["get", "set"])
async def test_a_store_that_fails_may_fail_the_call(fails):
    cache = CachePrimitive(str, 60, store=Broken(fails), on_store_error="closed")
    with pytest.raises(OSError, match=f"{fails} is down"):
        await cache(1)


async def test_to_forget_nothing_is_never_taken_for_having_forgotten():
    cache = CachePrimitive(str, 60, store=Broken("delete", "clear"))
    with pytest.raises(OSError, match="delete is down"):
        await cache.invalidate(1)
    with pytest.raises(OSError, match="clear is down"):
        await cache.invalidate_all()


async def test_a_mistake_in_the_program_is_not_taken_for_a_store_that_is_down():
    class Picky(MemoryStore):
        async def set(self, *_, **__):
            raise SerializationError(object, "", "it has no form")

    with pytest.raises(SerializationError, match="it has no form"):
        await CachePrimitive(str, 60, store=Picky())(1)


async def test_those_who_wait_do_not_wait_for_the_store():
    writing, released = anyio.Event(), anyio.Event()

    class Slow(MemoryStore):
        async def set(self, *args, **options):
            writing.set()
            await released.wait()
            await super().set(*args, **options)

    cache, results = CachePrimitive(str, 60, store=Slow()), []

    async def call():
        results.append(await cache(1))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(call)
        await writing.wait()
        await anyio.wait_all_tasks_blocked()
        assert results == ["1", "1"]
        await cache.invalidate(1)
        released.set()
    assert results == ["1"] * 3
    assert await cache(1) == "1"
    assert cache.stats.misses == 2


async def test_caches_may_share_a_store():
    store, mock = MemoryStore(), MockPrimitive(return_value=1)
    for _ in range(2):
        await CachePrimitive(mock, 60, store=store)(1)
    assert mock.call_count == 1


async def test_caches_of_other_namespaces_keep_apart_what_they_share_a_store_for():
    store = MemoryStore(2)
    caches = [
        CachePrimitive(str, 60, store=store),
        CachePrimitive(repr, 60, store=store),
        CachePrimitive(lambda _: "mine", 60, store=store, namespace="mine"),
    ]
    for _ in range(2):
        assert [await cache("a") for cache in caches] == ["a", "'a'", "mine"]
        assert [await cache("b") for cache in caches] == ["b", "'b'", "mine"]
    assert [cache.stats.hits for cache in caches] == [2, 2, 2]
    assert len(store) == 6


async def test_a_store_that_two_caches_share_is_still_one_when_they_are_pickled():
    store = MemoryStore()
    caches = [CachePrimitive(str, 60, store=store, namespace="strings") for _ in range(2)]
    one, other = pickle.loads(pickle.dumps(caches))
    await MapPrimitive(one)([1, 2])
    await MapPrimitive(other)([1, 2])
    assert other.stats == CacheStats(hits=2)


class MemoryStoreMachine(RuleBasedStateMachine):
    """A memory store does what a list of all that was ever kept says."""

    @initialize(max_size=st.integers(1, 4))
    def start(self, max_size):
        self.store = MemoryStore(max_size)
        self.max_size = max_size
        self.now = 0.0
        self.model = []  # (key, fresh until, kept until, value), the least recently used first

    def _pop(self, key):
        (found,) = [entry for entry in self.model if entry[0] == key] or [None]
        self.model = [entry for entry in self.model if entry[0] != key]
        return found

    @rule(
        key=st.integers(0, 5), value=st.integers(), fresh=st.integers(1, 9), stale=st.integers(0, 9)
    )
    def keep(self, key, value, fresh, stale):
        self._pop(key)
        until = self.now + fresh
        self.model = [*self.model, (key, until, until + stale, value)][-self.max_size :]
        call = self.store.set
        options = {"now": self.now, "fresh_seconds": fresh, "stale_seconds": stale}
        anyio.run(lambda: call("space", key, value, **options))

    @rule(key=st.integers(0, 5))
    def read(self, key):
        entry = self._pop(key)
        expected = None
        if entry is not None and self.now < entry[2]:
            self.model.append(entry)
            expected = Kept(entry[3], self.now - entry[1])
        assert anyio.run(self.store.get, "space", key, self.now) == expected

    @rule(key=st.integers(0, 5))
    def forget(self, key):
        self._pop(key)
        anyio.run(self.store.delete, "space", key)

    @rule()
    def forget_all(self):
        self.model = []
        anyio.run(self.store.clear, "space")

    @rule(seconds=st.integers(0, 5))
    def wait(self, seconds):
        self.now += seconds

    @invariant()
    def it_is_bounded(self):
        if hasattr(self, "store"):
            assert len(self.store) == len(self.model) <= self.max_size


MemoryStoreMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None
)
test_a_memory_store_does_what_its_model_does = MemoryStoreMachine.TestCase


def test_a_memory_store_must_have_room():
    with pytest.raises(ValueError, match="max_size=0 must be at least 1"):
        MemoryStore(0)
