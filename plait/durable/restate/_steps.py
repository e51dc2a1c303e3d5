"""One step of a run, as Restate has it executed and keeps it."""

from __future__ import annotations

import asyncio
import math
import time
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple

from plait.durable.restate._driver import Answer
from plait.durable.restate._frames import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from plait.durable.restate._driver import Strand
    from plait.primitives import Outcome

VALUE, ERROR, CANCELLED = "value", "error", "cancelled"
"""What may become of a step."""


class Done(NamedTuple):
    """What became of a step that this process executed.

    Attributes:
        frame: As it is kept.
        outcome: As it is; None where it was cancelled.
    """

    frame: Frame
    outcome: Outcome[Any] | None


_CANCELLED = Done(Frame({"kind": CANCELLED}, b"null"), None)


class StepRun(Answer):
    """A step that Restate has this process execute, unless it knows what became of it.

    Args:
        work: Executes it.
        read: What became of it, from how it was kept.
        ends_at: When it is cancelled at the latest, in seconds since the epoch.
    """

    def __init__(
        self,
        work: Callable[[], Coroutine[Any, Any, Done]],
        read: Callable[[Frame], Outcome[Any] | None],
        ends_at: float,
    ) -> None:
        super().__init__(self._take)
        self.outcome: Outcome[Any] | None = None
        """What became of it, once that is known; None where it was cancelled."""
        self.at = 0.0
        """When it ended, in seconds since the epoch, once that is known."""
        self.was_executed = False
        """Whether this process executed it."""
        self._work = work
        self._read = read
        self._ends_at = ends_at
        self._context = copy_context()
        self._task: asyncio.Task[Done] | None = None
        self._done: Done | None = None
        self.is_given_up = False
        """Whether it was cancelled."""

    async def action(self) -> bytes:
        """Execute it: what Restate calls."""
        if self.is_given_up:
            self._done = _CANCELLED
            return _CANCELLED.frame.encoded()
        self.was_executed = True
        # In the context of the code that calls the step, and apart, so that it alone is cancelled.
        loop = asyncio.get_running_loop()
        task = self._task = loop.create_task(self._work(), context=self._context)
        timer: asyncio.TimerHandle | None = None
        if self._ends_at < math.inf:
            timer = loop.call_later(max(self._ends_at - time.time(), 0), self._cancel)
        try:
            self._done = await task
        except asyncio.CancelledError:
            own = asyncio.current_task()
            if own is not None and own.cancelling():
                # The connection is gone, and Restate has it executed again.
                raise
            self._done = _CANCELLED
        finally:
            if timer is not None:
                timer.cancel()
        return self._done.frame.encoded()

    def interrupt(self, strand: Strand) -> None:
        """Cancel it; its caller goes on when it has ended."""
        self._cancel()

    def _cancel(self) -> None:
        self.is_given_up = True
        if self._task is not None:
            self._task.cancel()

    def _take(self, told: bytes) -> None:
        if self._done is None:
            frame = Frame.of(told)
            assert frame is not None
            self._done = Done(frame, self._read(frame))
        self.outcome = self._done.outcome
        self.at = self._done.frame.head.get("at", 0.0)
