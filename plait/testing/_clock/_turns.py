"""Whose turn it is once nothing is left to do but wait."""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from plait.testing._clock._virtual import VirtualClock

_LOOKS = 4
"""How many times pollers look for news before time jumps to a timer that is further away."""
_LOOK_SECONDS = 0.01
"""How often, in real seconds, pollers look where there is no such timer."""


class Turn(NamedTuple):
    """What to do next.

    Attributes:
        until: The time to jump to; None where nothing waits for time any more.
        quiet_seconds: How long, in real seconds, nothing must have happened before.
    """

    until: float | None
    quiet_seconds: float


class Turns:
    """Lets pollers look a few times, and then jumps over their timers.

    Args:
        clock: Whose patience it is.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._looks = 0
        self._quiet_seconds = 0.0

    def next(self, timer: float | None, poll: float | None) -> Turn:
        """Whose turn it is.

        Args:
            timer: When the next timer ends; None where there is none.
            poll: When the next poller looks that does so before.
        """
        if poll is not None and self._looks < _LOOKS:
            return Turn(poll, self._clock.idle_seconds)
        if timer is not None:
            return Turn(timer, self._clock.idle_seconds)
        left = self._clock.patience_seconds - self._quiet_seconds
        if poll is not None and left > 0:
            return Turn(poll, min(_LOOK_SECONDS, left))
        return Turn(None, max(0.0, left))

    def took(self, turn: Turn, timer: float | None) -> None:
        """Note a turn, at its end."""
        if turn.until == timer:
            self._looks, self._quiet_seconds = 0, 0.0
        elif self._looks < _LOOKS:
            self._looks += 1
        else:
            self._quiet_seconds += turn.quiet_seconds


def next_timers(
    heap: Sequence[Any],
    deadline: Callable[[Any], float | None],
    is_poll: Callable[[Any], bool],
) -> tuple[float | None, float | None]:
    """The next timer, and the next poller's where that is before it.

    Args:
        heap: The event loop's timers, as `heapq` orders them.
        deadline: When a timer ends; None for one that was cancelled.
        is_poll: Whether it is a poller's.
    """
    poll: float | None = None
    # The heap is walked in its order, and no further than to what is asked for.
    front = [(heap[0], 0)] if heap else []
    while front:
        timer, index = heapq.heappop(front)
        until = deadline(timer)
        if until is not None and until < math.inf:
            if not is_poll(timer):
                return until, poll
            poll = until if poll is None else poll
        for below in (2 * index + 1, 2 * index + 2):
            if below < len(heap):
                heapq.heappush(front, (heap[below], below))
    return None, poll
