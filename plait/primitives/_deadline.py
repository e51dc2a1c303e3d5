"""The deadline that a node is under: the nearest one of those around it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextvars import Token

current_deadline: ContextVar[float | None] = ContextVar("plait_deadline", default=None)


def bounded(deadline: float) -> Token[float | None]:
    """Set a deadline for what runs from here on, unless it is under a nearer one."""
    outer = current_deadline.get()
    return current_deadline.set(deadline if outer is None or deadline < outer else outer)
