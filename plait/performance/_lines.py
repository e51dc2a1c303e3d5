"""Calls that wait for their turn, first come, first served."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Hashable

    import anyio

    from plait.performance._loops import PerLoop


class Line:
    """The calls of one key on one event loop.

    Args:
        key: The key.
    """

    __slots__ = ("inside", "key", "waiting")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.inside = 0
        """How many have a place that they will give back."""
        self.waiting: OrderedDict[anyio.Event, None] = OrderedDict()
        """Those without one, the first to come first; each event is set when it is its turn."""

    def first(self) -> anyio.Event:
        """Whose turn is next."""
        return next(iter(self.waiting))


if TYPE_CHECKING:
    # The lines of a limit, one for each key; each event loop has its own.
    Lines: TypeAlias = PerLoop[dict[Hashable, Line]]
