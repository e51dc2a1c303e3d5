"""Time and concurrency on the event loop that runs: asyncio directly, any other through anyio.

The asyncio path is there because it is several times faster. Both behave the same; the same tests
run over both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from plait.primitives._concurrency import _anyio, _asyncio
from plait.primitives._concurrency._group import (
    DELIVERY,
    SOURCE,
    Call,
    DeadlineExceededError,
    Deliver,
    Gathered,
    Source,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from anyio.abc import TaskGroup

T = TypeVar("T")

__all__ = [
    "DELIVERY",
    "SOURCE",
    "Backend",
    "Call",
    "DeadlineExceededError",
    "Deliver",
    "Gathered",
    "Source",
    "Waiter",
    "backend",
]


class Waiter(Awaitable[T], Protocol[T]):
    """Something that one task awaits and another, on the same event loop, sets."""

    def done(self) -> bool:
        """Whether it has been set, or its task cancelled."""
        ...

    def set_result(self, result: T, /) -> None:
        """Let the waiting task go on with a result."""
        ...

    def set_exception(self, error: BaseException, /) -> None:
        """Let the waiting task fail."""
        ...


class Backend(Protocol):
    """What differs from one event loop to another."""

    def waiter_factory(self) -> Callable[[], Waiter[Any]]:
        """Makes what one task awaits and another sets."""
        ...

    def current_loop(self) -> object:
        """Something that stands for this event loop and no other."""
        ...

    def call_soon(self) -> Callable[[Callable[[], None]], object]:
        """What has a function called on this event loop soon, from any thread."""
        ...

    def call_after(self) -> Callable[[Callable[[], None]], object]:
        """What has a function called, from the loop's own thread, after what is ready to run."""
        ...

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        """Wait for `seconds`; zero still lets other tasks run."""
        ...

    def within(self, seconds: float, call: Callable[[], Awaitable[T]]) -> Coroutine[Any, Any, T]:
        """Run a call, and cancel it when it takes longer than `seconds`.

        Raises:
            DeadlineExceededError: This deadline passed; a `TimeoutError` of the call's stays one.
        """
        ...

    def shielded(self, call: Callable[[], Coroutine[Any, Any, T]]) -> Coroutine[Any, Any, T]:
        """Run a call to its end; one that is cancelled meanwhile hears of it then."""
        ...

    def spawner(
        self, group: TaskGroup
    ) -> Callable[[Callable[..., Coroutine[Any, Any, None]], Any], None]:
        """Begins tasks which nobody waits for, and which no scope around the group cancels.

        Args:
            group: Fails where one of them does, and lasts as long as they do.
        """
        ...

    def gather(self, calls: Source[T], limit: int | None) -> Coroutine[Any, Any, Gathered[T]]:
        """Run calls at the same time and wait for all of them; a failure cancels the others.

        Args:
            calls: Makes the awaitables; asked for the next one only when there is room for it.
            limit: How many run at once, or None for all.
        """
        ...

    def fold(
        self, calls: Source[T], limit: int, deliver: Deliver[T]
    ) -> Coroutine[Any, Any, Gathered[T]]:
        """Run calls at the same time and hand on each result in the order of the calls.

        A result that waits for its turn counts against the limit: that bounds the memory.

        Args:
            calls: Makes the awaitables; asked for the next one only when there is room for it.
            limit: How many are running or waiting for their turn at once.
            deliver: Is given each result, one at a time.
        """
        ...


def backend() -> Backend:
    """The one for the event loop that runs the caller."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _anyio
    return _asyncio
