"""What becomes of a call, for others than the one that executes it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from plait.primitives._outcome import Failure, Outcome

if TYPE_CHECKING:
    from types import TracebackType

    import anyio


class Pending:
    """An outcome that is waited for.

    Args:
        landed: Set when those who wait need not wait any longer.
    """

    __slots__ = ("_outcome", "_traceback", "landed")

    def __init__(self, landed: anyio.Event) -> None:
        self.landed = landed
        self._outcome: Outcome[Any] | None = None
        self._traceback: TracebackType | None = None

    @property
    def has_ended(self) -> bool:
        """Whether there is an outcome; a call that is cancelled never has any."""
        return self._outcome is not None

    def end(self, outcome: Outcome[Any]) -> None:
        """Let those who wait have the outcome."""
        self._outcome = outcome
        if isinstance(outcome, Failure):
            self._traceback = outcome.error.__traceback__
        self.landed.set()

    def result(self) -> Any:
        """The result, or the failure raised."""
        if isinstance(self._outcome, Failure):
            # Each one that raises it would add to the traceback of all the others.
            raise self._outcome.error.with_traceback(self._traceback)
        assert self._outcome is not None
        return self._outcome.value


class Flight(Pending):
    """One execution that several calls wait for, from the first of them until its result is kept.

    Args:
        loop: The event loop that it runs on.
        landed: Set when those who wait need not wait any longer.
    """

    __slots__ = ("is_kept", "loop", "stale", "stale_until")

    def __init__(self, loop: object, landed: anyio.Event) -> None:
        super().__init__(landed)
        self.loop = loop
        self.stale: Any = None
        """What was kept before, which the others may have meanwhile."""
        self.stale_until = -math.inf
        """Until when they may have it."""
        self.is_kept = True
        """Whether its result is to be kept: not one that was invalidated before it was there."""

    def give_meanwhile(self, stale: Any, until: float, landed: anyio.Event) -> None:
        """Let those who wait, and who come, have what was kept before.

        Args:
            stale: What was kept.
            until: When it is too old for that.
            landed: Set when those who come after that need not wait any longer.
        """
        self.stale, self.stale_until = stale, until
        self.landed, before = landed, self.landed
        before.set()
