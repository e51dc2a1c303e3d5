"""Results kept for a while."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from plait.primitives._base import In, Out
from plait.primitives._errors import note_failure
from plait.primitives._outcome import Failure, Outcome, Success
from plait.primitives._wrapper import Wrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import anyio

    from plait.primitives._base import Operand
    from plait.primitives._context import WorkflowContext


@dataclass
class CacheStats:
    """What a cache has done so far.

    Attributes:
        hits: Calls answered with a kept result.
        misses: Calls that executed the primitive.
        shared: Calls that waited for the result of another call of the same key.
    """

    hits: int = 0
    misses: int = 0
    shared: int = 0


class CacheStore(Protocol):
    """Where a cache keeps its results."""

    async def get(self, key: Hashable, now: float) -> tuple[Any] | None:
        """The kept value, in a tuple of one; None where there is none, or its time is over.

        Args:
            key: The key.
            now: The time, in seconds on the clock of `set`'s.
        """

    async def set(self, key: Hashable, value: Any, now: float, ttl_seconds: float) -> None:
        """Keep a value for `ttl_seconds` from `now`."""


class MemoryStore:
    """Keeps results in this process, and drops the least recently used one when it is full.

    Args:
        max_size: How many results it keeps.

    Raises:
        ValueError: `max_size` is not positive.
    """

    def __init__(self, max_size: int = 1024) -> None:
        if max_size < 1:
            msg = f"max_size={max_size!r} must be at least 1"
            raise ValueError(msg)
        self._max_size = max_size
        self._kept: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    async def get(self, key: Hashable, now: float) -> tuple[Any] | None:
        """The kept value, in a tuple of one; None where there is none, or its time is over."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        expires, value = kept
        if now >= expires:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return (value,)

    async def set(self, key: Hashable, value: Any, now: float, ttl_seconds: float) -> None:
        """Keep a value for `ttl_seconds` from `now`."""
        self._kept[key] = (now + ttl_seconds, value)
        self._kept.move_to_end(key)
        if len(self._kept) > self._max_size:
            self._kept.popitem(last=False)


class CachePrimitive(Wrapper[In, Out]):
    """Executes a primitive once for equal inputs, and keeps the result for a while.

    Calls of one key that miss at the same time share one execution. None is a result like any
    other; a failure is not kept.

    Args:
        primitive: What is executed on a miss.
        ttl_seconds: How long a result is kept.
        max_size: How many results are kept in memory; the least recently used one goes first.
        key: Makes the key of an input; by default inputs are equal when they encode alike.
        store: Where results are kept, in place of this process's memory.

    Attributes:
        stats: What it has done so far.

    Raises:
        ValueError: A number is not positive.
        TypeError: The primitive cannot be composed.

    Example:
        >>> from plait import CachePrimitive
        >>> square = CachePrimitive(lambda n: n * n, ttl_seconds=60)
        >>> square.run_sync(4), square.run_sync(4), square.stats
        (16, 16, CacheStats(hits=1, misses=1, shared=0))
    """

    _kind: ClassVar[str] = "cache"
    _inside: ClassVar[str] = "/miss"
    # What a run saw is its own: by the time of a replay the cache may hold something else.
    _is_leaf: ClassVar[bool] = True

    def __init__(
        self,
        primitive: Operand[In, Out],
        ttl_seconds: float,
        *,
        max_size: int = 1024,
        key: Callable[[Any], Hashable] | None = None,
        store: CacheStore | None = None,
    ) -> None:
        super().__init__(primitive)
        if not ttl_seconds > 0:
            msg = f"ttl_seconds={ttl_seconds!r} must be positive"
            raise ValueError(msg)
        self._ttl = ttl_seconds
        self._key = key or _encoded
        self._store: CacheStore = MemoryStore(max_size) if store is None else store
        self._flights: dict[Hashable, _Flight] = {}
        self.stats = CacheStats()

    async def execute(self, input_data: In, context: WorkflowContext) -> Out:
        """Answer from the store, or execute."""
        key = self._key(input_data)
        while (flight := self._flights.get(key)) is not None:
            await flight.landed.wait()
            # Without an outcome its leader was cancelled: somebody else has to execute.
            if flight.outcome is not None:
                self.stats.shared += 1
                shared: Out = flight.result()
                return shared
        flight = self._flights[key] = _Flight(context.event())
        try:
            return await self._lead(key, input_data, context, flight)
        finally:
            del self._flights[key]
            flight.landed.set()

    async def _lead(
        self, key: Hashable, input_data: In, context: WorkflowContext, flight: _Flight
    ) -> Out:
        kept = await self._store.get(key, context.time())
        if kept is not None:
            self.stats.hits += 1
            hit: Out = kept[0]
            flight.outcome = Success(hit)
            return hit
        self.stats.misses += 1
        frame = context.enter(self, 0)
        try:
            result: Out = await self._primitive.execute(input_data, frame)
        except Exception as error:
            note_failure(error, frame)
            flight.outcome = Failure(error)
            raise
        await self._store.set(key, result, context.time(), self._ttl)
        flight.outcome = Success(result)
        return result


class _Flight:
    """One execution that several calls wait for."""

    def __init__(self, landed: anyio.Event) -> None:
        self.landed = landed
        self.outcome: Outcome[Any] | None = None

    def result(self) -> Any:
        if isinstance(self.outcome, Failure):
            raise self.outcome.error
        assert self.outcome is not None
        return self.outcome.value


def _encoded(input_data: object) -> bytes:
    # It brings pydantic, which takes longer to import than all else that plait starts with.
    from plait.primitives._encoding import encode

    return encode(input_data, canonical=True)
