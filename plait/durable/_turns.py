"""Turns: who is the next to have an entity, of those that stand in line for it."""

from __future__ import annotations

from typing import NamedTuple


class Turn(NamedTuple):
    """Who stands in line for an entity.

    Attributes:
        run: The run's key in the journal.
        path: Where it waits.
    """

    run: int
    path: str


TURN_SECONDS = 2.0
"""How long an entity that is free is kept for the one whose turn it is.

Who has not come by then, as its runner is gone or has no room for it, is passed over until it does,
and has kept its place. Only the order hangs on this, and on the clocks of runners.
"""
