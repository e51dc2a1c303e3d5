"""Values as JSON that says which types they had.

What JSON has of its own stands for itself. Anything else is an object with one key that starts with
a dollar sign: `{"$tuple": [1, 2]}`, `{"$type": "shop.orders:Order", "fields": {...}}`.
"""

from __future__ import annotations

import base64
import functools
import inspect
import io
import json
import reprlib
from types import BuiltinFunctionType, FunctionType, GenericAlias, UnionType
from typing import TYPE_CHECKING, Any, cast, get_origin

from pydantic_core import PydanticSerializationError, from_json, to_json

from plait.primitives._base import WorkflowPrimitive
from plait.primitives._encoded_errors import identity, parts, recorded_tree, remade
from plait.primitives._encoded_types import form_of
from plait.primitives._errors import SerializationError
from plait.primitives._knots import knot
from plait.primitives._references import find, find_type, reference_to, type_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_FOUND_BY_NAME = (type, FunctionType, BuiltinFunctionType, WorkflowPrimitive)
_KEYS = frozenset({str})
_SCALARS = frozenset({bool, float, int, str, type(None)})
_canonical_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode

# Python reads and writes integers of up to 4,300 decimal digits, which these are well below.
_MANY_DIGITS = 4_200
_MANY_BITS = 13_900
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
    try:
        plain = plain_json(value, canonical=canonical)
        if plain is not None:
            return plain
        tree = _Encoder().tree(value)
        return _canonical_json(_ordered(tree)).encode() if canonical else _to_json(tree)
    except RecursionError:
        raise SerializationError(*knot(value)) from None


def plain_json(value: object, *, canonical: bool = False) -> bytes | None:
    """A value as JSON, where that by itself keeps the value and its types; None where not.

    Args:
        value: The value.
        canonical: Whether equal dicts give equal text, whatever the order of their keys.
    """
    is_scalar = type(value) in _SCALARS
    try:
        if not is_scalar and not _is_plain(value):
            return None
        try:
            text = to_json(value)
        except PydanticSerializationError:
            text = _escaped(value)
    except (RecursionError, ValueError):
        return None
    if len(text) > _MANY_DIGITS and b"0" * _MANY_DIGITS in text.translate(_DIGITS_AS_ZEROS):
        return None
    if is_scalar:
        return text
    if b'"$' in text and _has_marks(value):
        return None
    return _canonical_json(value).encode() if canonical and b"{" in text else text


def _to_json(tree: object) -> bytes:
    try:
        return to_json(tree)
    except PydanticSerializationError:
        return _escaped(tree)


def _escaped(tree: object) -> bytes:
    """As JSON's own escapes: half a surrogate pair has no form in UTF-8."""
    return json.dumps(tree, separators=(",", ":")).encode()


def decode(text: bytes) -> Any:
    """The value that was encoded.

    Args:
        text: What `encode` made of it.

    Raises:
        ValueError: It is not such a text, or names a type that is not there any more.
    """
    try:
        try:
            tree = from_json(text)
        except ValueError:
            tree = json.loads(text)
        return _value(tree) if b'"$' in text else tree
    except Exception as error:
        # Classes of the user's take part in it, and raise whatever they like.
        msg = f"a value cannot be decoded: {type(error).__name__}: {error}"
        raise ValueError(msg) from error


def _is_plain(value: object) -> bool:
    """Whether all of it is of the types that JSON has, the keys of its dicts aside."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is list:
        items = cast("list[Any]", value)
        return _SCALARS.issuperset(map(type, items)) or all(map(_is_plain, items))
    if kind is dict:
        pairs = cast("dict[Any, Any]", value)
        return _KEYS.issuperset(map(type, pairs)) and (
            _SCALARS.issuperset(map(type, pairs.values())) or all(map(_is_plain, pairs.values()))
        )
    return False


def _has_marks(value: Any) -> bool:
    """Whether a plain value has a key that looks like one of ours."""
    if type(value) is list:
        return any(map(_has_marks, value))
    return type(value) is dict and (
        any(key[:1] == "$" for key in value) or any(map(_has_marks, value.values()))
    )


def _ordered(tree: Any) -> Any:
    """The same tree with the pairs of its dicts in an order of their own, and errors' notes off."""
    if isinstance(tree, list):
        return [_ordered(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    left_out = _NOTED if "$error" in tree else ()
    ordered = {key: _ordered(item) for key, item in tree.items() if key not in left_out}
    pairs = "$dict" if "$dict" in tree else "pairs"
    if "$dict" in tree or ("$type" in tree and "pairs" in tree and tree["$type"] != _BY_ORDER):
        ordered[pairs] = sorted(ordered[pairs], key=_canonical_json)
    return ordered


_NOTED = ("state", "cause")
_BY_ORDER = "collections:OrderedDict"


class _Encoder:
    """Makes the tree of one value."""

    def __init__(self) -> None:
        self._errors: list[BaseException] = []

    def tree(self, value: Any) -> Any:
        kind = type(value)
        if kind in _SCALARS:
            if kind is int and value.bit_length() > _MANY_BITS:
                return {"$int": hex(value)}
            return value
        if kind is list:
            return self.trees(value)
        if kind is dict:
            return self._dict(value)
        if kind is tuple:
            return {"$tuple": self.trees(value)}
        if kind is set or kind is frozenset:
            return {f"${kind.__name__}": self._members(value)}
        if kind is bytes or kind is bytearray:
            return {f"${kind.__name__}": base64.b64encode(value).decode()}
        if isinstance(value, BaseException):
            return self._error(value)
        if isinstance(value, _FOUND_BY_NAME):
            name = reference_to(value)
            if name is not None:
                return {"$global": name}
        if isinstance(value, GenericAlias | UnionType) or get_origin(value) is not None:
            reference = type_reference(value)
            if reference is not None:
                return {"$generic": reference}
        return self._object(value, kind)

    def trees(self, values: Iterable[Any]) -> list[Any]:
        made: list[Any] = []
        try:
            for value in values:
                made.append(self.tree(value))  # noqa: PERF401 - the error counts them
        except SerializationError as error:
            raise _within(f"[{len(made)}]", error) from None
        return made

    def pairs(self, values: dict[Any, Any]) -> list[list[Any]]:
        made: list[list[Any]] = []
        key: Any = None
        try:
            for key, value in values.items():
                made.append([self.tree(key), self.tree(value)])
        except SerializationError as error:
            raise _within(f"[{reprlib.repr(key)}]", error) from None
        return made

    def _members(self, values: Iterable[Any]) -> list[Any]:
        # Sorted, as a set's own order differs from process to process.
        made: list[Any] = []
        value: Any = None
        try:
            for value in values:
                made.append(self.tree(value))
        except SerializationError as error:
            raise _within(f"{{{reprlib.repr(value)}}}", error) from None
        return sorted(made, key=_canonical_json)

    def _dict(self, values: dict[Any, Any]) -> dict[str, Any]:
        if not all(type(key) is str and key[:1] != "$" for key in values):
            return {"$dict": self.pairs(values)}
        made: dict[str, Any] = {}
        key = ""
        try:
            for key, value in values.items():
                made[key] = self.tree(value)
        except SerializationError as error:
            raise _within(f".{key}", error) from None
        return made

    def _object(self, value: Any, kind: type) -> dict[str, Any]:
        try:
            reference, write = _written_as(kind)
        except LookupError:
            raise SerializationError(*_refusal(value, kind)) from None
        try:
            return {"$type": reference, **write(value, self)}
        except (SerializationError, RecursionError):
            raise
        except Exception as error:
            # Classes of the user's take part in it, and raise whatever they like.
            reason = f"{type(error).__name__}: {error}"
            raise SerializationError(kind, "", reason) from error

    def _error(self, error: BaseException) -> dict[str, Any]:
        if any(error is other for other in self._errors):
            raise SerializationError(type(error), "", "it contains itself")
        self._errors.append(error)
        args, attributes = parts(error)
        recorded = recorded_tree(error) or {**identity(error), **self._kept({"args": args})}
        cause = {} if error.__cause__ is None else self._kept({"cause": error.__cause__})
        state = {**recorded.get("state", {}), **self._kept(attributes)}
        self._errors.pop()
        return {**recorded, **cause, "state": state}

    def _kept(self, values: dict[str, Any]) -> dict[str, Any]:
        """Those of an error's parts that can be kept; the others must not hide the error itself."""
        trees: dict[str, Any] = {}
        for name, value in values.items():
            try:
                trees[name] = self.tree(value)
            except (SerializationError, RecursionError):
                continue
        return trees


def _within(place: str, error: SerializationError) -> SerializationError:
    """The same error, seen from the value that the part is in."""
    return SerializationError(error.kind, place + error.where, error.reason)


@functools.lru_cache(1024)
def _written_as(kind: type) -> tuple[Any, Callable[[Any, _Encoder], dict[str, Any]]]:
    """The name of a class, and how its objects are written."""
    reference = type_reference(kind)
    form = None if reference is None else form_of(kind)
    if form is None:
        raise LookupError
    return reference, form.write


def _refusal(value: object, kind: type) -> tuple[type, str, str]:
    reason = "no JSON form is known for this type"
    if isinstance(value, type):
        kind, reason = value, "a class is found by its name; define it at the top of a module"
    elif isinstance(value, FunctionType):
        reason = "a lambda or an inner function has no name to find it by; define it in a module"
    elif isinstance(value, io.IOBase):
        reason = "an open file ends with its process; keep its path, or what is in it"
    elif inspect.isgenerator(value) or inspect.isasyncgen(value) or inspect.iscoroutine(value):
        reason = "it can be run through only once; keep what comes out of it, such as a list"
    elif type_reference(kind) is None:
        reason = "its class cannot be found again by its name; define it at the top of a module"
    return kind, "", reason


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
        case "$int":
            return int(content, 16)
        case "$global":
            return find(content)
        case "$generic":
            return find_type(content)
        case "$type":
            return _made(find_type(content), tree)
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


def _made(kind: Any, tree: dict[str, Any]) -> Any:
    form = form_of(kind) if isinstance(kind, type) else None
    if form is None:
        msg = f"values of {kind!r} cannot be decoded"
        raise TypeError(msg)
    return form.read(kind, tree, _value)
