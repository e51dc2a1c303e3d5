"""Ids of runs that are given none."""

from __future__ import annotations

import os

_AT_ONCE = 256
_BYTES = 16


class RandomIds:
    """Random ids of 128 bits.

    Many are drawn at once: each draw is a call of the operating system, which can cost as much as
    all else that it takes to start a run.
    """

    def __init__(self) -> None:
        self._left: list[str] = []

    def draw(self) -> str:
        """One that nobody else has."""
        if not self._left:
            drawn, size = os.urandom(_AT_ONCE * _BYTES).hex(), 2 * _BYTES
            self._left = [drawn[at : at + size] for at in range(0, len(drawn), size)]
        return self._left.pop()
