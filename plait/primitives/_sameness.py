"""Whether a value is what it was: equal, and of the same types all through."""

from __future__ import annotations

import functools
import sys
from collections import deque
from datetime import datetime, time
from decimal import Decimal
from typing import Any

import pydantic

from plait.primitives._encoded_errors import identity

_EQUAL_YET_UNLIKE = (float, complex, Decimal, datetime, time)
_BUILT_IN = (
    *(str, int, float, complex, bytes, bytearray),
    *(list, tuple, dict, set, frozenset),
)


def same(left: object, right: object) -> bool:
    """Whether two values are equal and of the same types all through.

    An error and what was recorded of it count as the same.
    """
    if left is right:
        return True
    if isinstance(left, BaseException) and isinstance(right, BaseException):
        return identity(left) == identity(right)
    kind = type(left)
    if kind is not type(right):
        return False
    other: Any = right
    if isinstance(left, pydantic.BaseModel):
        return same(left.__getstate__(), other.__getstate__())
    if has_fields(kind):
        return same(attributes(left), attributes(other))
    if kind not in _BUILT_IN and isinstance(left, _BUILT_IN):
        return same(attributes(left), attributes(other)) and _same_content(left, other)
    return _same_content(left, other)


def _same_content(left: Any, right: Any) -> bool:
    if isinstance(left, list | tuple | deque):
        ends = getattr(left, "maxlen", None) == getattr(right, "maxlen", None)
        return ends and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        makers = getattr(left, "default_factory", None), getattr(right, "default_factory", None)
        keys = same(*makers) and len(left) == len(right) and all(map(same, left, right))
        return keys and all(same(left[key], right[key]) for key in left)
    if isinstance(left, set | frozenset):
        others = {item: item for item in right}
        return len(left) == len(others) and all(
            item in others and same(item, others[item]) for item in left
        )
    if isinstance(left, slice):
        return same((left.start, left.stop, left.step), (right.start, right.stop, right.step))
    numpy = numpy_of(type(left))
    if numpy is not None:
        return _same_array(numpy.asarray(left), numpy.asarray(right))
    if isinstance(left, _EQUAL_YET_UNLIKE):
        return repr(left) == repr(right)  # NaN, -0.0, Decimal("1.50"), a time's zone
    return bool(left == right)


def _same_array(left: Any, right: Any) -> bool:
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    if left.dtype.hasobject:
        return same(left.tolist(), right.tolist())
    return bool(left.tobytes() == right.tobytes())


def numpy_of(kind: type) -> Any:
    """Numpy, where a class is one of its arrays' or scalars'; None otherwise."""
    numpy = sys.modules.get("numpy")
    is_of_numpy = numpy is not None and issubclass(kind, numpy.ndarray | numpy.generic)
    return numpy if is_of_numpy else None


def has_fields(kind: type) -> bool:
    """Whether a class is a dataclass, or of attrs: its objects are what their fields are."""
    return hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__attrs_attrs__")


def built_in(kind: type) -> type | None:
    """The type of Python's own that a class is derived from; None where there is none."""
    return next((base for base in kind.__mro__ if base in _BUILT_IN), None)


def attributes(value: Any) -> dict[str, Any]:
    """What an object holds, in slots or its `__dict__`, apart from what can be computed again."""
    kind: Any = type(value)
    held = {name: getattr(value, name) for name in _slots(kind) if hasattr(value, name)}
    computed = functools.cached_property
    return held | {
        name: attribute
        for name, attribute in getattr(value, "__dict__", {}).items()
        if not isinstance(getattr(kind, name, None), computed)
    }


@functools.lru_cache(1024)
def _slots(kind: type) -> list[str]:
    names: dict[str, None] = {}
    for base in reversed(kind.__mro__):
        slots = vars(base).get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            is_mangled = name.startswith("__") and not name.endswith("__")
            names[f"_{base.__name__.lstrip('_')}{name}" if is_mangled else name] = None
    return [name for name in names if name not in {"__dict__", "__weakref__"}]
