"""Virtual time on an asyncio event loop that runs already.

The loop asks its selector to wait until the next timer. A selector in front of it, which jumps in
place of waiting, needs no loop of its own: whoever made the loop, a test plugin or `anyio.run`,
need not know. (looptime, which has the same idea, is a class of loops.)
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any

from plait.primitives._polling import is_polling
from plait.testing._clock._owed import OwedAnswers
from plait.testing._clock._turns import Turns, next_timers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from plait.testing._clock._deadlock import TaskState
    from plait.testing._clock._virtual import VirtualClock

_POLL_SECONDS = 0.001


class AsyncioTime:
    """The time of one asyncio event loop, which runs the caller.

    Args:
        clock: Whose it is.
        loop: The loop.

    Raises:
        RuntimeError: The loop is not one of asyncio's own.
    """

    def __init__(self, clock: VirtualClock, loop: Any) -> None:
        if not isinstance(loop, asyncio.BaseEventLoop) or not hasattr(loop, "_selector"):
            msg = f"virtual time needs an event loop of asyncio's own, got {type(loop).__name__}"
            raise RuntimeError(msg)
        self._clock = clock
        self._loop: Any = loop
        self._owed = OwedAnswers()
        self._turns = Turns(clock)
        self._in_executor = 0
        # Whole seconds from a whole number are exact.
        self._start = self._now = float(math.ceil(loop.time()))

    @property
    def elapsed(self) -> float:
        """Seconds since it was made."""
        return self._now - self._start

    def time(self) -> float:
        """What the loop's `time` says."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds

    def start(self) -> None:
        """Take over from the loop's own clock."""
        loop = self._loop
        self._selector, loop._selector = loop._selector, _Selector(loop._selector, self._select)
        self._resolution = loop._clock_resolution
        self._run_in_executor = loop.run_in_executor
        loop.time, loop.run_in_executor = self.time, self._count_in_executor

    def stop(self) -> None:
        """Give the loop its own clock back."""
        loop = self._loop
        loop._selector, loop._clock_resolution = self._selector, self._resolution
        del loop.time, loop.run_in_executor

    def call_soon(self, function: Callable[[], None]) -> None:
        """Have a function called by the loop."""
        self._loop.call_soon(function)

    def tasks(self) -> Iterable[TaskState]:
        """What the loop's tasks are doing."""
        from plait.testing._clock._deadlock import TaskState

        for task in sorted(asyncio.all_tasks(self._loop), key=asyncio.Task.get_name):
            yield TaskState(task.get_name(), task.get_coro())

    def _select(self, timeout: float | None) -> list[Any]:
        """Wait for sockets and other threads, but never for time."""
        self._clock.check_over()
        events: list[Any] = self._selector.select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        clock = self._clock
        timer, poll = next_timers(self._loop._scheduled, _deadline, _is_poll)
        turn = self._turns.next(timer, poll)
        quiet_since = time.monotonic()
        while not events:
            if self._owes_answer():
                events = self._selector.select(_POLL_SECONDS)
                quiet_since = time.monotonic()
                continue
            # After the question above: a thread hands its answer in before it says that it has.
            events = self._selector.select(0)
            if events or clock.found_work():
                break
            left = quiet_since + turn.quiet_seconds - time.monotonic()
            if left > 0:
                events = self._selector.select(min(left, _POLL_SECONDS))
            else:
                if turn.until is None:
                    clock.give_up()
                else:
                    self._turns.took(turn, timer)
                    self._now = max(self._now, turn.until)
                    # Of late times the next number is further away than the loop's resolution, and
                    # a timer that is due is one that lies within that.
                    self._loop._clock_resolution = max(self._resolution, math.ulp(self._now))
                break
        return events

    def _owes_answer(self) -> bool:
        return bool(self._in_executor) or self._owed.any()

    def _count_in_executor(self, *args: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._run_in_executor(*args)
        self._in_executor += 1
        future.add_done_callback(self._counted)
        return future

    def _counted(self, _: object) -> None:
        self._in_executor -= 1


def _deadline(handle: Any) -> float | None:
    # A sleep without an end is a timer as well, that never fires.
    return None if handle.cancelled() else handle.when()


def _is_poll(handle: Any) -> bool:
    return bool(handle._context.get(is_polling, False))


class _Selector:
    """A selector that has its own way of waiting."""

    def __init__(self, selector: Any, select: Callable[[float | None], list[Any]]) -> None:
        self._selector = selector
        self.select = select

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)
