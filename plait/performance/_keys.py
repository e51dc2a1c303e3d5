"""The key of an input: the one that its caller makes of it, or the input itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

# Equal to no other key of these, whatever its type. Of the rest, 1 == 1.0 == True.
THEIR_OWN_KEYS: Final = frozenset({str, int})
_NO_KEY = object()


class Encoded(NamedTuple):
    """The key of a value that had to be encoded to be compared.

    Attributes:
        text: The canonical encoding.
    """

    text: bytes


def key_of(value: Any) -> Hashable:
    """A key that two values share exactly when they are equal and of the same types throughout.

    Args:
        value: The value.

    Raises:
        SerializationError: It has no form that could be compared.
    """
    if type(value) is tuple and THEIR_OWN_KEYS.issuperset(map(type, value)):
        plain: Hashable = value
        return plain
    key = _plain(value)
    if key is _NO_KEY:
        # It brings pydantic, which takes longer to import than all else that plait starts with.
        from plait.primitives._encoding import encode

        return Encoded(encode(value, canonical=True))
    return key


def _plain(value: Any) -> Hashable:
    """The key of a value of plain immutable types, of which nothing has to be encoded."""
    kind = type(value)
    if kind in THEIR_OWN_KEYS or value is None:
        plain: Hashable = value
        return plain
    if kind is bytes or kind is bool:
        # With its type, so that True is not 1, and bytes are not what is encoded.
        return kind, value
    if kind is tuple:
        keys = tuple(map(_plain, value))
        return _NO_KEY if _NO_KEY in keys else keys
    return _NO_KEY


def check_key(key: Callable[[Any], Hashable] | None) -> Callable[[Any], Hashable] | None:
    """A key function, refused where it cannot be called."""
    if key is not None and not callable(key):
        msg = f"key={key!r} must be a function of the input"
        raise TypeError(msg)
    return key
