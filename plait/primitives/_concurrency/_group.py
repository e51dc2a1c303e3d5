"""Calls that run at the same time, a bounded number at once: the part all event loops share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
)
from functools import partial
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar, cast

import anyio

T = TypeVar("T")

Call: TypeAlias = Callable[[], Coroutine[Any, Any, T]]
Source: TypeAlias = Iterable[Call[T]] | AsyncIterable[Call[T]]
Deliver: TypeAlias = Callable[[T], Awaitable[None]]

SOURCE, DELIVERY = -1, -2
_NOTHING = object()


class DeadlineExceededError(Exception):
    """The deadline given to `within` passed.

    Args:
        call: The call that it was given for: one inside of another has its own.
    """

    def __init__(self, call: object) -> None:
        super().__init__(call)
        self.call = call


class Gathered(NamedTuple, Generic[T]):
    """What became of calls that ran at the same time.

    Attributes:
        results: One for each call, in order; a placeholder for a call that failed.
        failures: The index of each call that failed with its error, the first to fail first.
            A failure of the source of the calls has the index `SOURCE`, one of handing a result on
            has `DELIVERY`.
    """

    results: list[T]
    failures: list[tuple[int, BaseException]]


class Group(ABC, Generic[T]):
    """Runs the calls that a source makes, and asks for one only when there is room for it.

    Args:
        calls: The source.
        limit: How many calls run at once, or None for all.
        deliver: Where given, is handed each result in order, and none is kept. A result that waits
            for its turn counts against the limit.
    """

    def __init__(
        self,
        calls: Source[T],
        limit: int | None,
        *,
        deliver: Deliver[T] | None = None,
    ) -> None:
        self._iterator: Iterator[Call[T]] | None = None
        self._stream: AsyncIterator[Call[T]] | None = None
        if isinstance(calls, AsyncIterable):
            self._stream = aiter(calls)
        else:
            self._iterator = iter(calls)
        self._limit = limit
        self._deliver = deliver
        self._results: list[T] = []
        self._ready: dict[int, T] = {}
        self._failures: list[tuple[int, BaseException]] = []
        self._started = 0
        self._delivered = 0
        self._running = 0
        self._pulling = False
        self._stopped = False

    @abstractmethod
    def _spawn(self, index: int, call: Coroutine[Any, Any, T]) -> None:
        """Start a task that ends in `_finished` or `_failed`."""

    @abstractmethod
    def _cancel_tasks(self) -> None:
        """Cancel what runs."""

    @abstractmethod
    async def _park(self) -> None:
        """Wait until `_unpark` is called."""

    @abstractmethod
    def _unpark(self) -> None:
        """Let the task in `_park` go on."""

    async def _drive(self) -> Gathered[T]:
        self._fill()
        while True:
            while self._deliver is not None and self._is_next_ready():
                try:
                    await self._deliver(self._ready.pop(self._delivered))
                except Exception as error:  # noqa: BLE001 - reported with the other failures
                    self._note_failure(DELIVERY, error)
                self._delivered += 1
                self._fill()
            if not self._running:
                return Gathered(self._results, self._failures)
            await self._park()

    async def _close_stream(self) -> None:
        if isinstance(self._stream, AsyncGenerator):
            try:
                # anyio's cancellation is a level: in a scope that is cancelled, nothing can be
                # awaited that is not shielded.
                with anyio.CancelScope(shield=True):
                    await self._stream.aclose()
            except Exception as error:  # noqa: BLE001 - reported with the other failures
                self._failures.append((SOURCE, error))

    def _is_next_ready(self) -> bool:
        return self._delivered in self._ready and not self._stopped

    def _has_room(self) -> bool:
        if self._limit is None:
            return True
        held = self._running if self._deliver is None else self._started - self._delivered
        return held < self._limit

    def _fill(self) -> None:
        while not self._stopped and self._has_room():
            call = self._next_call()
            if call is None:
                return
            index = self._started
            self._started += 1
            self._running += 1
            if self._deliver is None:
                self._results.append(cast("T", None))
            try:
                coroutine = call()
            except Exception as error:  # noqa: BLE001 - reported like one that is raised later
                self._failed(index, error)
            else:
                self._spawn(index, coroutine)

    def _next_call(self) -> Call[T] | None:
        if self._iterator is not None:
            try:
                return next(self._iterator)
            except StopIteration:
                self._iterator = None
            except Exception as error:  # noqa: BLE001 - reported as a failure of the source
                self._iterator = None
                self._note_failure(SOURCE, error)
        elif self._stream is not None and not self._pulling:
            self._pulling = True
            return partial(self._pull, self._stream)
        return None

    async def _pull(self, stream: AsyncIterator[Call[T]]) -> T:
        try:
            call = await anext(stream)
        except StopAsyncIteration:
            self._stream = None
            return cast("T", _NOTHING)
        except Exception as error:  # noqa: BLE001 - reported as a failure of the source
            self._stream = None
            self._note_failure(SOURCE, error)
            return cast("T", _NOTHING)
        finally:
            self._pulling = False
        self._fill()
        return await call()

    def _finished(self, index: int, value: T) -> None:
        self._running -= 1
        if value is _NOTHING:
            del self._results[index:]
        elif self._deliver is None:
            self._results[index] = value
        else:
            self._ready[index] = value
        self._fill()
        if self._deliver is not None or not self._running:
            self._unpark()

    def _failed(self, index: int, error: BaseException) -> None:
        self._running -= 1
        self._note_failure(index, error)
        self._fill()
        if not self._running:
            self._unpark()

    def _note_failure(self, index: int, error: BaseException) -> None:
        self._failures.append((index, error))
        self._stop()

    def _stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._cancel_tasks()
