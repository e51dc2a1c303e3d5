"""The virtual clock as a test holds it."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar, TypeVarTuple

import anyio

from plait.primitives import Runtime, WorkflowContext
from plait.testing._ambient import Ambient
from plait.testing._clock._asyncio import AsyncioTime
from plait.testing._clock._deadlock import DeadlockError, report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from types import TracebackType

    from plait.primitives import WorkflowPrimitive
    from plait.testing._clock._trio import TrioTime

In = TypeVar("In")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class VirtualClock:
    """Makes the time of an event loop jump whenever nothing else is left to do.

    Inside of `async with VirtualClock():` all that waits for time under the running loop does so
    on this clock: `context.sleep`, timeouts, backoffs, TTLs, rate limits, durable timers, and
    `asyncio.sleep`, `trio.sleep` or `anyio.sleep` in the steps themselves. A wait of a day takes
    as long as the loop takes to find out that there is nothing to do before. While a worker
    thread, or a journal's, still owes the loop an answer, time stands still.

    `time.time()` and `datetime.now()` are left alone: workflows ask `context.now()`.

    Args:
        start: What `context.now()` says at first; the real time where none is given.
        idle_seconds: How long, in real seconds, nothing must have happened before time jumps.
            Zero suits all that goes on in one process; give sockets a moment to be answered.
        patience_seconds: How long, in real seconds, to wait where nothing waits for time any more
            and nothing happens, before that is called a deadlock.

    Raises:
        ValueError: A number is negative, or `start` has no time zone.
        DeadlockError: On leaving: nothing waited for time any more, and nothing could happen.

    Example:
        >>> import anyio
        >>> from plait.testing import VirtualClock
        >>> async def main() -> float:
        ...     async with VirtualClock() as clock:
        ...         await anyio.sleep(24 * 60 * 60)
        ...         return clock.elapsed
        >>> anyio.run(main)
        86400.0
    """

    def __init__(
        self,
        *,
        start: datetime | None = None,
        idle_seconds: float = 0,
        patience_seconds: float = 1,
    ) -> None:
        if idle_seconds < 0 or patience_seconds < 0:
            msg = f"{idle_seconds=} and {patience_seconds=} must not be negative"
            raise ValueError(msg)
        if start is not None and start.tzinfo is None:
            msg = f"start={start!r} has no time zone: say which, as in datetime(..., tzinfo=UTC)"
            raise ValueError(msg)
        self.idle_seconds = idle_seconds
        self.patience_seconds = patience_seconds
        self.on_idle: list[Callable[[], bool]] = []
        """Asked in turn when nothing is left to do but wait: whether one has found something."""
        self._start = time.time() if start is None else start.timestamp()
        self._passed = 0.0
        self._loop: AsyncioTime | TrioTime | None = None
        self._thread: int | None = None
        self._deadlock: str | None = None
        self._ambient = Ambient(self._in_front_of)

    def __repr__(self) -> str:
        return f"<VirtualClock {self.now():%Y-%m-%d %H:%M:%S}, {self.elapsed:g} s passed>"

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            msg = "this VirtualClock is entered already"
            raise RuntimeError(msg)
        if running_clock() is not None:
            msg = "this event loop runs under another VirtualClock already"
            raise RuntimeError(msg)
        self._loop = _time_of_loop(self)
        self._deadlock = None
        self._scope = anyio.CancelScope().__enter__()
        self.install()
        self._loop.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._leave()
        is_handled = bool(self._scope.__exit__(kind, error, traceback))
        if self._deadlock is None:
            return is_handled
        if error is not None and not is_handled:
            error.add_note(self._deadlock)
            return False
        raise DeadlockError(self._deadlock) from None

    def run(
        self,
        function: Callable[[*Ts], Awaitable[T]],
        *args: *Ts,
        backend: str = "asyncio",
    ) -> T:
        """Run an async function on an event loop of its own, under this clock.

        Args:
            function: The function.
            args: What it is called with.
            backend: "asyncio" or "trio".

        Example:
            >>> import anyio
            >>> from plait.testing import VirtualClock
            >>> VirtualClock().run(anyio.sleep, 3600)
        """
        return anyio.run(self._run, function, args, backend=backend)

    def install(self) -> None:
        """Give contexts that are made from now on this clock's date, before it is entered."""
        if self._thread is None:
            self._thread = threading.get_ident()
            self._ambient.install()

    def remove(self) -> None:
        """Undo `install`."""
        if self._thread is not None:
            self._thread = None
            self._ambient.remove()

    @property
    def elapsed(self) -> float:
        """How many seconds have passed on this clock."""
        return self._passed + (0 if self._loop is None else self._loop.elapsed)

    def time(self) -> float:
        """The event loop's time, which `context.time()` is; the real one outside."""
        return time.monotonic() if self._loop is None else self._loop.time()

    def timestamp(self) -> float:
        """Seconds since the epoch."""
        return self._start + self.elapsed

    def now(self) -> datetime:
        """The time, in UTC: what `context.now()` says."""
        return datetime.fromtimestamp(self.timestamp(), UTC)

    def advance(self, seconds: float) -> None:
        """Let time pass now, whatever is left to do.

        Args:
            seconds: How much.

        Raises:
            ValueError: It is negative.
            RuntimeError: The clock is not entered.
        """
        if seconds < 0:
            msg = f"seconds={seconds!r} must not be negative: time only goes forward"
            raise ValueError(msg)
        if self._loop is None:
            msg = "enter the clock first: async with VirtualClock() as clock"
            raise RuntimeError(msg)
        self._loop.advance(seconds)

    def found_work(self) -> bool:
        """Whether anybody has something to do now that nothing else is left to do."""
        return any(find() for find in self.on_idle)

    def give_up(self) -> None:
        """End what runs: nothing waits for time any more, and nothing happens."""
        if self._deadlock is None:
            assert self._loop is not None
            self._deadlock = report(self._loop.tasks())
            self._is_over_at = time.monotonic() + self.patience_seconds
            self._loop.call_soon(self._scope.cancel)

    def check_over(self) -> None:
        """Raise a `DeadlockError` where what was to end because of one does not."""
        if self._deadlock is not None and time.monotonic() > self._is_over_at:
            self._leave()
            raise DeadlockError(self._deadlock)

    def _leave(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            self._passed += loop.elapsed
            loop.stop()
            self.remove()

    def _in_front_of(self, runtime: Runtime | None) -> Runtime | None:
        if threading.get_ident() != self._thread:
            return runtime
        return VirtualTime(self, runtime)

    async def _run(self, function: Callable[[*Ts], Awaitable[T]], args: tuple[*Ts]) -> T:
        async with self:
            result = await function(*args)
        return result  # noqa: RET504 - leaving may raise, or end by a cancellation


class VirtualTime(Runtime):
    """Tells the time of a virtual clock.

    Args:
        clock: The clock.
        inner: The runtime to go on with.
    """

    def __init__(self, clock: VirtualClock, inner: Runtime | None = None) -> None:
        super().__init__(inner)
        self.clock = clock

    async def perform(
        self,
        primitive: WorkflowPrimitive[In, T],
        execute: Callable[[Any, In, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: In,
        context: WorkflowContext,
    ) -> T:
        """Execute a node below a frame of ours, where the report of a deadlock finds its path."""
        return await super().perform(primitive, execute, input_data, context)

    def time(self) -> float:
        """The virtual time of the event loop."""
        return self.clock.time()

    def timestamp(self) -> float:
        """The virtual date, in seconds since the epoch."""
        return self.clock.timestamp()

    def now(self, context: WorkflowContext) -> float:
        """The same, whatever else observes the run."""
        return self.clock.timestamp()


def running_clock() -> VirtualClock | None:
    """The clock that the caller's event loop runs under, if any."""
    runtime = WorkflowContext()._runtime
    while runtime is not None:
        if isinstance(runtime, VirtualTime) and runtime.clock._loop is not None:
            return runtime.clock
        runtime = runtime.inner
    return None


def _time_of_loop(clock: VirtualClock) -> AsyncioTime | TrioTime:
    try:
        loop: Any = asyncio.get_running_loop()
    except RuntimeError:
        from plait.testing._clock._trio import TrioTime

        return TrioTime(clock)
    return AsyncioTime(clock, loop)
