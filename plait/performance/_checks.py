"""The options that limits have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


def check_max_wait(max_wait: float | None) -> float | None:
    """A longest wait, refused where it is negative."""
    if max_wait is not None and not max_wait >= 0:
        msg = f"max_wait={max_wait!r} must not be negative, or None for as long as it takes"
        raise ValueError(msg)
    return max_wait


def check_key(key: Callable[[Any], Hashable] | None) -> Callable[[Any], Hashable] | None:
    """A key function, refused where it cannot be called."""
    if key is not None and not callable(key):
        msg = f"key={key!r} must be a function of the input"
        raise TypeError(msg)
    return key
