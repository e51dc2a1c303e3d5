"""Which exceptions a recovery primitive answers to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

ErrorMatch: TypeAlias = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]


def matcher(match: ErrorMatch, option: str) -> Callable[[Exception], bool]:
    """A predicate for exception types or a predicate.

    Args:
        match: An exception class, a tuple of them, or a function that is given the exception.
        option: The option's name, for the message.

    Raises:
        TypeError: It is none of these.
    """
    types: tuple[Any, ...] = match if isinstance(match, tuple) else (match,)
    if types and all(isinstance(kind, type) and issubclass(kind, Exception) for kind in types):
        return lambda error: isinstance(error, types)
    if callable(match) and not isinstance(match, type):
        return match
    msg = f"{option}={match!r} must be exception classes or a function of an exception"
    raise TypeError(msg)
