"""Where a value contains itself."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from plait.primitives._sameness import attributes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_DEEPEST = 1_000


def knot(value: object) -> tuple[type, str, str]:
    """Which part of a value that is too deep contains itself, the way to it, and a sentence."""
    way: list[tuple[Any, str, Iterator[tuple[str, Any]]]] = [(value, "", iter(_contents(value)))]
    while way and len(way) < _DEEPEST:
        _, where, contents = way[-1]
        place, part = next(contents, ("", None))
        if not place:
            way.pop()
        elif any(part is outer for outer, _, _ in way):
            return type(part), where + place, "it contains itself"
        else:
            way.append((part, where + place, iter(_contents(part))))
    return type(value), "", "it is nested too deeply"


def _contents(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        return ((f".{key}" if type(key) is str else f"[{key!r}]", value[key]) for key in value)
    if isinstance(value, list | tuple | deque):
        return ((f"[{index}]", item) for index, item in enumerate(value))
    held = () if isinstance(value, type) else attributes(value).items()
    return ((f".{name}", part) for name, part in held)
