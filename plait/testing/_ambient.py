"""Runtimes put in front of every context that is made from now on, for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait.primitives import _ambient

if TYPE_CHECKING:
    from collections.abc import Callable

    from plait.primitives import Runtime


class Ambient:
    """Puts a runtime in front of the one that a new context would have had.

    Args:
        front: Makes it, given that one; returns that one where it does not want to.
    """

    def __init__(self, front: Callable[[Runtime | None], Runtime | None]) -> None:
        self._front = front

    def install(self) -> None:
        """Do so from now on."""
        self._before = before = _ambient._source
        _ambient.use(lambda: self._front(before()))

    def remove(self) -> None:
        """Leave new contexts as they were."""
        _ambient.use(self._before)
