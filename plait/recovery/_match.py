"""Which exceptions a recovery primitive answers to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from plait.primitives import RecordedError
from plait.primitives._references import full_name

ErrorMatch: TypeAlias = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]
"""Which errors are meant: an exception class, several, or a function of the exception."""


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
        names = {full_name(kind) for kind in types}
        return lambda error: (
            isinstance(error, types)
            or (
                # What a journal kept of an error whose class cannot be built again.
                isinstance(error, RecordedError) and error.type_name in names
            )
        )
    if callable(match) and not isinstance(match, type):
        return match
    msg = f"{option}={match!r} must be exception classes or a function of an exception"
    raise TypeError(msg)
