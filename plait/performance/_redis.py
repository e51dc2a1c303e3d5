"""Results kept in Redis."""

from __future__ import annotations

import asyncio
import hashlib
import math
from typing import TYPE_CHECKING, Any, Self

from plait.performance._keys import Encoded
from plait.performance._loops import PerLoop
from plait.performance._store import Kept
from plait.primitives._errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Hashable
    from types import TracebackType

    from redis.asyncio import Redis

_LONG = 128
_KEYS_AT_ONCE = 1000


class RedisStore:
    """Keeps results in Redis, where several processes find them; install `plait[redis]`.

    Values are kept in plait's own encoding, self-describing JSON, and never as pickles; one that
    has no such form is a `SerializationError`. One that this version of the program cannot read
    counts as none. Time is the server's: the clocks of the processes do not matter.

    It runs on asyncio only, as redis-py does. Connections belong to the event loop that made them:
    close the store before the loop ends, with `async with` or `aclose()`.

    Args:
        redis: The server's address, such as `redis://localhost:6379/0`, or a client of
            `redis.asyncio` that was set up and is closed by you, and stays on one event loop.
        prefix: What each key in Redis starts with.
        timeout_seconds: How long to wait for a connection, and for each answer, before the server
            counts as away. A client of your own has its own deadlines.
        max_connections: How many connections there are at most; further calls wait for one.

    Raises:
        ValueError: A number is not positive.

    Example:
        >>> from plait import CachePrimitive
        >>> from plait.performance import RedisStore
        >>> store = RedisStore("redis://localhost:6379/0", timeout_seconds=0.2)
        >>> cache = CachePrimitive(str.upper, ttl_seconds=3600, store=store)
    """

    def __init__(
        self,
        redis: str | Redis,
        *,
        prefix: str = "plait",
        timeout_seconds: float = 1,
        max_connections: int = 50,
    ) -> None:
        if not timeout_seconds > 0:
            msg = f"timeout_seconds={timeout_seconds!r} must be positive"
            raise ValueError(msg)
        if max_connections < 1:
            msg = f"max_connections={max_connections!r} must be at least 1"
            raise ValueError(msg)
        self._redis = redis
        self._prefix = prefix
        self._timeout = timeout_seconds
        self._max_connections = max_connections
        self._clients: PerLoop[Redis] = PerLoop()
        if isinstance(redis, str):
            # An address that is wrong is refused here.
            _ = self._connect()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections of the event loop that runs."""
        client = self._clients.pop()
        if client is not None:
            await client.aclose()

    async def get(self, namespace: str, key: Hashable, now: float) -> Kept | None:
        """What is kept of a key; None where nothing is, or not any more."""
        from plait.primitives._encoding import decode

        name = self._name(namespace, key)
        async with self._client().pipeline(transaction=False) as pipeline:
            _ = pipeline.get(name), pipeline.pttl(name)
            text, left = await pipeline.execute()
        if text is None or left == -2:
            return None
        stale, _, encoded = text.partition(b":")
        try:
            value, stale_seconds = decode(encoded), int(stale) / 1000
        except ValueError:
            return None
        return Kept(value, -math.inf if left == -1 else stale_seconds - left / 1000)

    async def set(
        self,
        namespace: str,
        key: Hashable,
        value: Any,
        *,
        now: float,
        fresh_seconds: float,
        stale_seconds: float,
    ) -> None:
        """Keep a result."""
        from plait.primitives._encoding import encode

        seconds = fresh_seconds + stale_seconds
        expiry = None if math.isinf(seconds) else max(1, math.ceil(seconds * 1000))
        stale = 0 if expiry is None else round(stale_seconds * 1000)
        text = b"%d:%s" % (stale, encode(value))
        await self._client().set(self._name(namespace, key), text, px=expiry)

    async def delete(self, namespace: str, key: Hashable) -> None:
        """Forget a key."""
        await self._client().unlink(self._name(namespace, key))

    async def clear(self, namespace: str) -> None:
        """Forget all keys of a namespace; this reads the names of all keys in the database."""
        client = self._client()
        pattern = "".join(
            f"[{letter}]" if letter in "*?[\\" else letter for letter in self._start(namespace)
        )
        names: list[bytes] = []
        async for name in client.scan_iter(f"{pattern}*", count=_KEYS_AT_ONCE):
            names.append(name)
            if len(names) == _KEYS_AT_ONCE:
                await client.unlink(*names)
                names.clear()
        if names:
            await client.unlink(*names)

    def _name(self, namespace: str, key: Hashable) -> str:
        from plait.primitives._encoding import encode

        if isinstance(key, Encoded):
            # Marked, as the encoding of another key may read the same.
            text = f"~{key.text.decode()}"
        else:
            text = encode(key, canonical=True).decode()
        return f"{self._start(namespace)}{_short(text)}"

    def _start(self, namespace: str) -> str:
        return f"{self._prefix}:{_short(namespace)}:"

    def _client(self) -> Redis:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            msg = "RedisStore runs on asyncio only: the redis package has no client for trio"
            raise PermanentError(msg) from None
        if not isinstance(self._redis, str):
            return self._redis
        return self._clients.get_or(self._connect)

    def _connect(self) -> Redis:
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        assert isinstance(self._redis, str)
        pool = BlockingConnectionPool.from_url(
            self._redis,
            max_connections=self._max_connections,
            timeout=self._timeout,
            socket_timeout=self._timeout,
            socket_connect_timeout=self._timeout,
            # One more try, at once: a connection may have been closed since it was used.
            retry=Retry(NoBackoff(), 1),
        )
        return Redis.from_pool(pool)


def _short(text: str) -> str:
    if len(text) <= _LONG:
        return text
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=32).hexdigest()
