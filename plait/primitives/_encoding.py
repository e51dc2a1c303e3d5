"""Values as JSON that says which types they had.

What JSON has of its own stands for itself. Anything else is an object with one key that starts with
a dollar sign: `{"$tuple": [1, 2]}`, `{"$type": "shop.orders:Order", "fields": {...}}`.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import functools
import json
from collections import deque
from datetime import datetime, time, tzinfo
from decimal import Decimal
from types import BuiltinFunctionType, FunctionType
from typing import Any, cast

import pydantic
import pydantic_core

from plait.primitives._base import WorkflowPrimitive
from plait.primitives._encoded_errors import identity, parts, recorded_tree, remade
from plait.primitives._errors import SerializationError
from plait.primitives._references import find, reference_to

_SCALARS = frozenset({bool, float, int, str, type(None)})
_EQUAL_YET_UNLIKE = (float, complex, Decimal, datetime, time)
_canonical_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode

# Python reads no integer of more digits than these.
_TOO_MANY_DIGITS = b"0" * 4301
_DIGITS_AS_ZEROS = bytes(
    ord("0") if chr(byte).isdigit() and byte < 128 else 32 for byte in range(256)
)


def encode(value: object, *, canonical: bool = False) -> bytes:
    """A value as JSON.

    Args:
        value: The value.
        canonical: Whether equal dicts give equal text, whatever the order of their keys, and equal
            errors, whatever was noted on them.

    Raises:
        SerializationError: A part of it has no form as JSON.
    """
    plain = is_plain(value)
    try:
        tree = value if plain else _Encoder().tree(value, "")
        if not canonical:
            return to_json(tree)
        if plain and type(value) is not dict and b"{" not in (text := to_json(tree)):
            return text
        return _canonical_json(tree if plain else _ordered(tree)).encode()
    except RecursionError:
        raise SerializationError(
            type(value), "", "it contains itself, or is nested too deeply"
        ) from None
    except ValueError as error:
        raise SerializationError(type(value), "", str(error)) from None


def to_json(tree: object) -> bytes:
    """A plain value as JSON.

    Raises:
        ValueError: A number in it is too long to be read again.
    """
    try:
        text = pydantic_core.to_json(tree)
    except pydantic_core.PydanticSerializationError:
        # Half a surrogate pair has no form in UTF-8; JSON's own escapes have one.
        text = json.dumps(tree, separators=(",", ":")).encode()
    if len(text) > len(_TOO_MANY_DIGITS) and _TOO_MANY_DIGITS in text.translate(_DIGITS_AS_ZEROS):
        _parsed(text)
    return text


def decode(text: bytes) -> Any:
    """The value that was encoded.

    Args:
        text: What `encode` made of it.

    Raises:
        ValueError: It is not such a text, or names a type that is not there any more.
    """
    try:
        tree = _parsed(text)
        return _value(tree) if b'"$' in text else tree
    except Exception as error:
        # Classes of the user's take part in it, and raise whatever they like.
        msg = f"a value cannot be decoded: {type(error).__name__}: {error}"
        raise ValueError(msg) from error


def is_plain(value: object) -> bool:
    """Whether JSON by itself keeps a value and its types."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    try:
        if kind is list:
            items = cast("list[Any]", value)
            return _SCALARS.issuperset(map(type, items)) or all(map(is_plain, items))
        if kind is dict:
            pairs = cast("dict[Any, Any]", value)
            return all(type(key) is str and key[:1] != "$" for key in pairs) and (
                _SCALARS.issuperset(map(type, pairs.values())) or all(map(is_plain, pairs.values()))
            )
    except RecursionError:
        return False
    return False


def same(left: object, right: object) -> bool:
    """Whether two values are equal and of the same types all through.

    An error and what was recorded of it count as the same.
    """
    if isinstance(left, BaseException) and isinstance(right, BaseException):
        return identity(left) == identity(right)
    if type(left) is not type(right):
        return False
    other: Any = right
    if isinstance(left, list | tuple | deque):
        ends = getattr(left, "maxlen", None) == getattr(other, "maxlen", None)
        return ends and len(left) == len(other) and all(map(same, left, other))
    if isinstance(left, dict):
        keys = len(left) == len(other) and all(map(same, left, other))
        return keys and all(same(left[key], other[key]) for key in left)
    if isinstance(left, set | frozenset):
        others = {item: item for item in other}
        return len(left) == len(others) and all(
            item in others and same(item, others[item]) for item in left
        )
    if isinstance(left, pydantic.BaseModel):
        return same(left.__getstate__(), other.__getstate__())
    if dataclasses.is_dataclass(left):
        return same(_attributes(left), _attributes(other))
    if isinstance(left, _EQUAL_YET_UNLIKE):
        return repr(left) == repr(right)  # NaN, -0.0, Decimal("1.50"), a time's zone
    return bool(left == right)


def _parsed(text: bytes) -> Any:
    try:
        return pydantic_core.from_json(text)
    except ValueError:
        return json.loads(text)


def _ordered(tree: Any) -> Any:
    """The same tree with the pairs of its dicts in an order of their own, and errors' notes off."""
    if isinstance(tree, list):
        return [_ordered(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if "$dict" in tree:
        return {"$dict": sorted(map(_ordered, tree["$dict"]), key=_canonical_json)}
    left_out = "state" if "$error" in tree else None
    return {key: _ordered(item) for key, item in tree.items() if key != left_out}


def _attributes(value: Any) -> dict[str, Any]:
    """What a dataclass's object holds: its fields, and what else was set on it."""
    names = dict.fromkeys(field.name for field in dataclasses.fields(value))
    for name in getattr(value, "__dict__", ()):
        if not isinstance(getattr(type(value), name, None), functools.cached_property):
            names[name] = None
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


class _Encoder:
    """Makes the tree of one value."""

    def __init__(self) -> None:
        self._errors: list[BaseException] = []

    def tree(self, value: Any, where: str) -> Any:
        kind = type(value)
        if kind in _SCALARS:
            return value
        if kind is list:
            return self._trees(value, where)
        if kind is dict:
            return self._dict(value, where)
        if kind is tuple:
            return {"$tuple": self._trees(value, where)}
        if kind in (set, frozenset):
            # Sorted, as a set's own order differs from process to process.
            return {f"${kind.__name__}": sorted(self._trees(value, where), key=_canonical_json)}
        if kind in (bytes, bytearray):
            return {f"${kind.__name__}": base64.b64encode(value).decode()}
        if isinstance(value, BaseException):
            return self._error(value, where)
        if isinstance(value, type | FunctionType | BuiltinFunctionType | WorkflowPrimitive):
            name = reference_to(value)
            if name is not None:
                return {"$global": name}
        return {"$type": _type_name(kind, value, where), **self._object(value, kind, where)}

    def _trees(self, values: Any, where: str) -> list[Any]:
        return [self.tree(item, f"{where}[{index}]") for index, item in enumerate(values)]

    def _dict(self, value: dict[Any, Any], where: str) -> dict[str, Any]:
        if all(type(key) is str and key[:1] != "$" for key in value):
            return {key: self.tree(item, f"{where}.{key}") for key, item in value.items()}
        pairs = ((key, item, f"{where}[{key!r}]") for key, item in value.items())
        return {
            "$dict": [[self.tree(key, place), self.tree(item, place)] for key, item, place in pairs]
        }

    def _object(self, value: Any, kind: type, where: str) -> dict[str, Any]:
        if kind in (datetime, time):
            naive: str = value.replace(tzinfo=None).isoformat()
            zone = {} if value.tzinfo is None else {"zone": self.tree(value.tzinfo, where)}
            return {"value": naive, **zone, **({"fold": 1} if value.fold else {})}
        if kind is deque:
            return {"items": self._trees((list(value), value.maxlen), where)}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return {"items": self._trees(value, where)}
        if isinstance(value, enum.Enum):
            try:
                return {"value": self.tree(value.value, where)}
            except SerializationError as error:
                raise SerializationError(type(value), where, str(error)) from None
        if dataclasses.is_dataclass(value):
            return {"fields": self._dict(_attributes(value), where)}
        if isinstance(value, pydantic.BaseModel):
            return {"state": self.tree(value.__getstate__(), where)}
        if isinstance(value, WorkflowPrimitive) and (spec := value._spec()) is not None:
            return {"spec": self.tree(spec, where), "name": value._name}
        known = adapter(kind)
        if known is None:
            if isinstance(value, tzinfo):
                _, items, *state = cast("tuple[Any, ...]", value.__reduce__())
                if not any(state):
                    return {"items": self._trees(items, where)}
            raise SerializationError(type(value), where, "no JSON form is known for this type")
        try:
            return {"value": known.dump_python(value, mode="json")}
        except pydantic_core.PydanticSerializationError as error:
            raise SerializationError(type(value), where, str(error)) from error

    def _error(self, error: BaseException, where: str) -> dict[str, Any]:
        if any(error is other for other in self._errors):
            raise SerializationError(type(error), where, "it contains itself")
        self._errors.append(error)
        args, attributes = parts(error)
        recorded = recorded_tree(error) or {**identity(error), **self._kept({"args": args}, where)}
        state = {**recorded.get("state", {}), **self._kept(attributes, where)}
        self._errors.pop()
        return {**recorded, "state": state}

    def _kept(self, values: dict[str, Any], where: str) -> dict[str, Any]:
        """Those of an error's parts that can be kept; the others must not hide the error itself."""
        trees: dict[str, Any] = {}
        for name, value in values.items():
            try:
                trees[name] = self.tree(value, where)
            except (SerializationError, RecursionError):
                continue
        return trees


def _type_name(kind: type, value: object, where: str) -> str:
    wanted = value if isinstance(value, type) else kind
    name = reference_to(wanted)
    if name is None:
        reason = "its class cannot be found again by its name; define it at the top of a module"
        raise SerializationError(wanted, where, reason)
    return name


def adapter(kind: Any) -> pydantic.TypeAdapter[Any] | None:
    """Pydantic's adapter for a type, where it knows one."""
    try:
        return _adapter(kind)
    except Exception:  # noqa: BLE001 - a class of the user's may have a say in it
        return None


@functools.lru_cache(1024)
def _adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(kind)


def _value(tree: Any) -> Any:
    if isinstance(tree, list):
        return [_value(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    tag = next(iter(tree), "")
    if tag[:1] != "$":
        return {key: _value(item) for key, item in tree.items()}
    content = tree[tag]
    match tag:
        case "$tuple":
            return tuple(_values(content))
        case "$set":
            return set(_values(content))
        case "$frozenset":
            return frozenset(_values(content))
        case "$dict":
            return {_value(key): _value(item) for key, item in content}
        case "$bytes":
            return base64.b64decode(content, validate=True)
        case "$bytearray":
            return bytearray(base64.b64decode(content, validate=True))
        case "$global":
            return find(content)
        case "$type":
            return _object(find(content), tree)
        case "$error":
            return remade(tree, _value)
        case _:
            msg = f"it is marked {tag!r}, which this version of plait does not know"
            raise ValueError(msg)


def _values(content: Any) -> list[Any]:
    if not isinstance(content, list):
        msg = f"{content!r} is no list"
        raise TypeError(msg)
    return [_value(item) for item in content]


def _object(kind: Any, tree: dict[str, Any]) -> Any:
    # A class is only made in the way that its kind is encoded in: a text may name any class.
    if not isinstance(kind, type):
        msg = f"{kind!r} is no type"
        raise TypeError(msg)
    if "items" in tree and issubclass(kind, tuple | deque | tzinfo):
        return kind(*_values(tree["items"]))
    if "spec" in tree and issubclass(kind, WorkflowPrimitive):
        primitive = kind(**_value(tree["spec"]))
        primitive._name = tree["name"]
        return primitive
    if "state" in tree and issubclass(kind, pydantic.BaseModel):
        model = object.__new__(kind)
        model.__setstate__(_value(tree["state"]))
        return model
    if "fields" in tree and dataclasses.is_dataclass(kind):
        made = object.__new__(kind)
        for name, value in _value(tree["fields"]).items():
            object.__setattr__(made, name, value)
        return made
    return _object_of_value(kind, tree)


def _object_of_value(kind: type[Any], tree: dict[str, Any]) -> Any:
    if kind in (datetime, time):
        naive = kind.fromisoformat(tree["value"])
        return naive.replace(tzinfo=_value(tree.get("zone")), fold=tree.get("fold", 0))
    if issubclass(kind, enum.Enum):
        return kind(_value(tree["value"]))
    known = adapter(kind)
    if known is None:
        msg = f"values of {kind!r} cannot be decoded"
        raise ValueError(msg)
    return known.validate_json(json.dumps(tree["value"]))
