"""Results kept for a while."""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from plait.performance._flight import Flight
from plait.performance._keys import THEIR_OWN_KEYS, check_key, key_of
from plait.performance._store import CacheStore, Entry, Kept, MemoryStore
from plait.primitives._base import In, Out
from plait.primitives._concurrency import backend
from plait.primitives._errors import PermanentError, note_failure
from plait.primitives._outcome import Failure, Success
from plait.primitives._wrapper import Wrapper

if TYPE_CHECKING:
    from plait.primitives._base import Operand
    from plait.primitives._context import WorkflowContext


@dataclass(slots=True)
class CacheStats:
    """What a cache has done so far.

    Attributes:
        hits: Calls answered with a kept result that was fresh.
        misses: Calls that executed the primitive.
        shared: Calls that waited for the result of another call of the same key.
        stale: Calls answered with a kept result that was not fresh any more.
        errors: Failures of the store that a call went on without.
    """

    hits: int = 0
    misses: int = 0
    shared: int = 0
    stale: int = 0
    errors: int = 0


class CachePrimitive(Wrapper[In, Out]):
    """Executes a primitive once for equal inputs, and keeps the result for a while.

    Calls of one key that miss at the same time share one execution, and its failure; where the
    one that executes is cancelled, another one does. None is a result like any other; a failure
    is not kept. Executions are shared within an event loop: processes that share a store each
    have their own.

    `stale_seconds` and `stale_if_error` are the directives stale-while-revalidate and
    stale-if-error of RFC 5861. Nothing runs in the background: of the calls that find a stale
    result, one executes, as with Guava's `refreshAfterWrite`, and all others get the stale result
    at once until that has ended, or the result is too old for it.

    Args:
        primitive: What is executed on a miss.
        ttl_seconds: How long a result is fresh, or a function of the input and the result that
            says so; what it gives no positive number for is not kept.
        max_size: How many results are kept in this cache's own memory; the least recently used one
            goes first.
        key: Makes the key of an input; by default inputs are equal when they are equal and of the
            same types throughout.
        store: Where results are kept, in place of a memory of its own: a `MemoryStore` or a
            `RedisStore` that caches share, or your own.
        namespace: What tells this cache's keys from those of others in the same store; the shape
            of the primitive, such as `fetch >> parse`, where none is given.
        jitter: Up to which share of its time a result is fresh for less, at random, so that what
            was kept together is not executed again together.
        stale_seconds: For how long after that time a result is given to all callers but the one
            that executes again.
        stale_if_error: For how long after that time a result is given in place of a failure.
        on_store_error: What a store that fails does to a call: "open" executes without the cache,
            "closed" raises the store's error.

    Attributes:
        stats: What it has done so far.

    Raises:
        ValueError: A number is out of its range, or an option is unknown.
        TypeError: The primitive cannot be composed, or an option is of another kind.

    Example:
        >>> from plait import CachePrimitive
        >>> square = CachePrimitive(lambda n: n * n, ttl_seconds=60)
        >>> square.run_sync(4), square.run_sync(4)
        (16, 16)
        >>> square.stats.hits, square.stats.misses
        (1, 1)
    """

    _kind: ClassVar[str] = "cache"
    _inside: ClassVar[str] = "/miss"
    # What a run saw is its own: by the time of a replay the cache may hold something else.
    _is_leaf: ClassVar[bool] = True
    _stays_in_memory: ClassVar[bool] = True

    def __init__(
        self,
        primitive: Operand[In, Out],
        ttl_seconds: float | Callable[[In, Out], float],
        *,
        max_size: int = 1024,
        key: Callable[[Any], Hashable] | None = None,
        store: CacheStore | None = None,
        namespace: str | None = None,
        jitter: float = 0,
        stale_seconds: float = 0,
        stale_if_error: float = 0,
        on_store_error: Literal["open", "closed"] = "open",
    ) -> None:
        super().__init__(primitive)
        if not callable(ttl_seconds) and not ttl_seconds > 0:
            msg = f"ttl_seconds={ttl_seconds!r} must be positive"
            raise ValueError(msg)
        if not 0 <= jitter <= 1:
            msg = f"jitter={jitter!r} must be a share, from 0 to 1"
            raise ValueError(msg)
        for option, seconds in (
            ("stale_seconds", stale_seconds),
            ("stale_if_error", stale_if_error),
        ):
            if not seconds >= 0:
                msg = f"{option}={seconds!r} must not be negative"
                raise ValueError(msg)
        if on_store_error not in ("open", "closed"):
            msg = f'on_store_error={on_store_error!r} must be "open" or "closed"'
            raise ValueError(msg)
        if namespace == "":
            msg = "namespace='' must not be empty"
            raise ValueError(msg)
        self._ttl = ttl_seconds
        self._key = check_key(key) or key_of
        # Of these types an input is its own key, and nothing has to be called for it.
        self._own_keys = THEIR_OWN_KEYS if key is None else frozenset[type]()
        self._store: CacheStore = MemoryStore(max_size) if store is None else store
        self._namespace = namespace or str(self._primitive)
        # A hit in memory looks here by itself: to await the store would cost more than the rest.
        self._kept: OrderedDict[Hashable, Entry] = OrderedDict()
        if type(self._store) is MemoryStore:
            self._kept = self._store.space(self._namespace)
        self._jitter = jitter
        self._stale = stale_seconds
        self._stale_if_error = stale_if_error
        self._is_closed = on_store_error == "closed"
        self._flights: dict[Hashable, Flight] = {}
        self.stats = CacheStats()

    async def execute(self, input_data: In, context: WorkflowContext) -> Out:
        """Answer from the store, or execute."""
        kind = type(input_data)
        key: Any = input_data if kind in self._own_keys else self._key(input_data)
        entry = self._kept.get(key)
        runtime = context._runtime
        # With no runtime the context would ask this clock too: that is a third of a hit's cost.
        if (
            entry is not None
            and (monotonic() if runtime is None else runtime.time()) < entry[0]
            and (runtime is None or not context.has_begun)
        ):
            self._kept.move_to_end(key)
            self.stats.hits += 1
            if runtime is not None:
                context.report("cache_hit")
            hit: Out = entry[2]
            return hit
        return await self._share(key, input_data, context)

    async def invalidate(self, input_data: In) -> None:
        """Forget the result of an input; one that is being made is not kept.

        A store that fails raises its error here, whatever `on_store_error` says: what was to be
        forgotten would be given out again.

        Args:
            input_data: The input.
        """
        await self.invalidate_key(self._key(input_data))

    async def invalidate_key(self, key: Hashable) -> None:
        """Forget the result of a key that the function given as `key` makes.

        Args:
            key: The key.
        """
        self._leave(key)
        await self._store.delete(self._namespace, key)
        # Once more: meanwhile another call may have begun, with what is forgotten now.
        self._leave(key)

    async def invalidate_all(self) -> None:
        """Forget everything that is kept in this cache's namespace."""
        self._leave(*self._flights)
        await self._store.clear(self._namespace)
        self._leave(*self._flights)

    async def _share(self, key: Hashable, input_data: In, context: WorkflowContext) -> Out:
        """Go along with the execution that is under way, or be the one that executes."""
        loop = backend().current_loop()
        while (flight := self._flights.get(key)) is not None and flight.loop is loop:
            while not flight.has_ended:
                if context.time() < flight.stale_until:
                    self.stats.stale += 1
                    context.report("cache_stale")
                    stale: Out = flight.stale
                    return stale
                landed = flight.landed
                await landed.wait()
                if landed is flight.landed:
                    break
            if flight.has_ended:
                self.stats.shared += 1
                context.report("cache_shared")
                shared: Out = flight.result()
                return shared
            # No outcome: its caller was cancelled, and somebody else has to execute.
        flight = self._flights[key] = Flight(loop, context.event())
        try:
            return await self._lead(key, input_data, context, flight)
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]
            flight.landed.set()

    async def _lead(
        self, key: Hashable, input_data: In, context: WorkflowContext, flight: Flight
    ) -> Out:
        asked = context.time()
        kept = await self._read(key, flight, context)
        # A run that was interrupted after its miss goes on with that: what was executed is its own.
        if kept is not None and kept.overdue_seconds < 0 and not context.has_begun:
            self.stats.hits += 1
            context.report("cache_hit")
            hit: Out = kept.value
            flight.end(Success(hit))
            return hit
        if kept is not None and kept.overdue_seconds < self._stale:
            until = asked + self._stale - kept.overdue_seconds
            flight.give_meanwhile(kept.value, until, context.event())
        self.stats.misses += 1
        context.report("cache_miss")
        frame = context.enter(self, 0)
        try:
            result: Out = await self._primitive.execute(input_data, frame)
        except Exception as error:
            note_failure(error, frame)
            overdue = math.inf
            if kept is not None:
                overdue = kept.overdue_seconds + context.time() - asked
            if kept is None or overdue >= self._stale_if_error:
                flight.end(Failure(error))
                raise
            self.stats.stale += 1
            context.report("cache_stale", error=repr(error))
            stale: Out = kept.value
            flight.end(Success(stale))
            return stale
        # Before it is kept: a store that hangs, or is cancelled, is nothing to those who wait.
        flight.end(Success(result))
        await self._write(key, input_data, result, context, flight)
        return result

    async def _read(self, key: Hashable, flight: Flight, context: WorkflowContext) -> Kept | None:
        try:
            return await self._store.get(self._namespace, key, context.time())
        except Exception as error:  # noqa: BLE001 - a store is not what the call is about
            self._go_on_without(error, context)
            # To wait for the same store again could only take long.
            flight.is_kept = False
            return None

    async def _write(
        self, key: Hashable, input_data: In, result: Any, context: WorkflowContext, flight: Flight
    ) -> None:
        ttl = self._ttl(input_data, result) if callable(self._ttl) else self._ttl
        if not (flight.is_kept and ttl > 0):
            return
        fresh = ttl * (1 - self._jitter * random.random()) if self._jitter else ttl
        stale = max(self._stale, self._stale_if_error)
        try:
            await self._store.set(
                self._namespace,
                key,
                result,
                now=context.time(),
                fresh_seconds=fresh,
                stale_seconds=stale,
            )
            if not flight.is_kept:
                # Invalidated while it was written: which of the two came last is not known.
                await self._store.delete(self._namespace, key)
        except Exception as error:  # noqa: BLE001 - a store is not what the call is about
            self._go_on_without(error, context)

    def _go_on_without(self, error: Exception, context: WorkflowContext) -> None:
        # What no later call mends is a mistake in the program: a result without a form, say.
        if self._is_closed or isinstance(error, PermanentError):
            raise error
        self.stats.errors += 1
        context.report("cache_error", error=repr(error))

    def _leave(self, *keys: Hashable) -> None:
        """Have what is under way for these keys serve those that wait for it, and nobody else."""
        for key in keys:
            flight = self._flights.pop(key, None)
            if flight is not None:
                flight.is_kept = False

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_flights": {}}
