"""Values as JSON that says which types they had.

What JSON has of its own stands for itself. Anything else is an object with one key that starts with
a dollar sign: `{"$tuple": [1, 2]}`, `{"$type": "shop.orders:Order", "fields": {...}}`.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
from types import BuiltinFunctionType, FunctionType
from typing import Any, cast

import pydantic
import pydantic_core

from plait.primitives._base import WorkflowPrimitive
from plait.primitives._errors import OF_THIS_PROCESS, RecordedError, SerializationError
from plait.primitives._references import find, full_name, reference_to

_SCALARS = frozenset({bool, float, int, str, type(None)})
_canonical_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def encode(value: object, *, canonical: bool = False) -> bytes:
    """A value as JSON.

    Args:
        value: The value.
        canonical: Whether equal dicts give equal text, whatever the order of their keys.

    Raises:
        SerializationError: A part of it has no form as JSON.
    """
    if is_plain(value):
        tree = value
    else:
        try:
            tree = _tree(value, "")
        except RecursionError:
            raise SerializationError(
                value, "", "it contains itself, or is nested too deeply"
            ) from None
    if canonical:
        return _canonical_json(_ordered(tree)).encode()
    try:
        return pydantic_core.to_json(tree)
    except pydantic_core.PydanticSerializationError:
        # Half a surrogate pair has no form in UTF-8; JSON's own escapes have one.
        return json.dumps(tree, separators=(",", ":")).encode()


def decode(text: bytes) -> Any:
    """The value that was encoded.

    Args:
        text: What `encode` made of it.

    Raises:
        ValueError: It is not such a text, or names a type that is not there any more.
    """
    try:
        tree = pydantic_core.from_json(text)
    except ValueError:
        tree = json.loads(text)
    return _value(tree) if b'"$' in text else tree


def is_plain(value: object) -> bool:
    """Whether JSON by itself keeps a value and its types."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is list:
        items = cast("list[Any]", value)
        return _SCALARS.issuperset(map(type, items)) or all(map(is_plain, items))
    if kind is dict:
        pairs = cast("dict[Any, Any]", value)
        return all(type(key) is str and key[:1] != "$" for key in pairs) and (
            _SCALARS.issuperset(map(type, pairs.values())) or all(map(is_plain, pairs.values()))
        )
    return False


def same(left: object, right: object) -> bool:
    """Whether two values are equal and of the same types all through."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list | tuple):
        others: Any = right
        return len(left) == len(others) and all(map(same, left, others))
    if isinstance(left, dict):
        other: Any = right
        return list(left) == list(other) and all(same(left[key], other[key]) for key in left)
    if isinstance(left, BaseException):
        return str(left) == str(right)
    if dataclasses.is_dataclass(left):
        return all(
            same(getattr(left, field.name, None), getattr(right, field.name, None))
            for field in dataclasses.fields(left)
        )
    if isinstance(left, float):
        return repr(left) == repr(right)  # NaN is not equal to itself, and -0.0 is to 0.0
    return bool(left == right)


def _ordered(tree: Any) -> Any:
    """The same tree with the pairs of its dicts in an order of their own."""
    if isinstance(tree, list):
        return [_ordered(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if "$dict" in tree:
        return {"$dict": sorted(map(_ordered, tree["$dict"]), key=_canonical_json)}
    return {key: _ordered(item) for key, item in tree.items()}


def _tree(value: Any, where: str) -> Any:
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is list:
        return _trees(value, where)
    if kind is dict:
        return _dict_tree(value, where)
    if kind is tuple:
        return {"$tuple": _trees(value, where)}
    if kind in (set, frozenset):
        # Sorted, as a set's own order differs from process to process.
        return {f"${kind.__name__}": sorted(_trees(value, where), key=_canonical_json)}
    if kind in (bytes, bytearray):
        return {f"${kind.__name__}": base64.b64encode(value).decode()}
    if isinstance(value, BaseException):
        return _error_tree(value, where)
    if isinstance(value, type | FunctionType | BuiltinFunctionType | WorkflowPrimitive):
        name = reference_to(value)
        if name is not None:
            return {"$global": name}
    return {"$type": _type_name(kind, value, where), **_object_tree(value, where)}


def _trees(values: Any, where: str) -> list[Any]:
    return [_tree(item, f"{where}[{index}]") for index, item in enumerate(values)]


def _dict_tree(value: dict[Any, Any], where: str) -> dict[str, Any]:
    if all(type(key) is str and key[:1] != "$" for key in value):
        return {key: _tree(item, f"{where}.{key}") for key, item in value.items()}
    pairs = ((key, item, f"{where}[{key!r}]") for key, item in value.items())
    return {"$dict": [[_tree(key, place), _tree(item, place)] for key, item, place in pairs]}


def _object_tree(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {"items": _trees(value, where)}
    if dataclasses.is_dataclass(value):
        fields = {
            field.name: getattr(value, field.name)
            for field in dataclasses.fields(value)
            if hasattr(value, field.name)
        }
        return {"fields": _tree(fields, where)}
    if isinstance(value, pydantic.BaseModel):
        return {"state": _tree(value.__getstate__(), where)}
    if isinstance(value, WorkflowPrimitive) and (spec := value._spec()) is not None:
        return {"spec": _tree(spec, where), "name": value._name}
    known = adapter(type(value))
    if known is None:
        raise SerializationError(value, where, "no JSON form is known for this type")
    try:
        return {"value": known.dump_python(value, mode="json")}
    except pydantic_core.PydanticSerializationError as error:
        raise SerializationError(value, where, str(error)) from error


def _error_tree(error: BaseException, where: str) -> dict[str, Any]:
    tree = {"$error": full_name(type(error)), "message": str(error)}
    state = {name: value for name, value in vars(error).items() if name not in OF_THIS_PROCESS}
    for part, value in (("args", error.args), ("state", state)):
        # What cannot be kept of an error must not hide the error itself.
        try:
            tree[part] = _tree(value, where)
        except SerializationError:
            continue
    return tree


def _type_name(kind: type, value: object, where: str) -> str:
    name = reference_to(kind)
    if name is None:
        reason = "its class cannot be found again by its name; define it at the top of a module"
        raise SerializationError(value, where, reason)
    return name


def _find(name: str) -> Any:
    try:
        return find(name)
    except LookupError as error:
        msg = f"a value cannot be decoded: {error}"
        raise ValueError(msg) from error


def adapter(kind: Any) -> pydantic.TypeAdapter[Any] | None:
    """Pydantic's adapter for a type, where it knows one."""
    try:
        return _adapter(kind)
    except (pydantic.PydanticUserError, NameError, TypeError):
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
            return tuple(_value(content))
        case "$set":
            return set(_value(content))
        case "$frozenset":
            return frozenset(_value(content))
        case "$dict":
            return {_value(key): _value(item) for key, item in content}
        case "$bytes":
            return base64.b64decode(content)
        case "$bytearray":
            return bytearray(base64.b64decode(content))
        case "$global":
            return _find(content)
        case "$type":
            return _object(_find(content), tree)
        case "$error":
            return _error(content, tree)
        case _:
            msg = f"a value is marked {tag!r}, which this version of plait does not know"
            raise ValueError(msg)


def _object(kind: type[Any], tree: dict[str, Any]) -> Any:
    if "items" in tree:
        return kind(*_value(tree["items"]))
    if "value" in tree:
        known = adapter(kind)
        if known is None:
            msg = f"values of {kind!r} can no longer be decoded"
            raise ValueError(msg)
        return known.validate_json(json.dumps(tree["value"]))
    if "spec" in tree:
        remade = kind(**_value(tree["spec"]))
        remade._name = tree["name"]
        return remade
    made: Any = object.__new__(kind)
    if "state" in tree:
        made.__setstate__(_value(tree["state"]))
    else:
        for name, value in _value(tree["fields"]).items():
            object.__setattr__(made, name, value)
    return made


def _error(name: str, tree: dict[str, Any]) -> BaseException:
    recorded = RecordedError(name, tree["message"])
    state = _value(tree.get("state", {}))
    try:
        made: Any = _find(name)(*_value(tree["args"]))
    except Exception:  # noqa: BLE001 - whatever a class of the user's raises, it cannot be built
        made = recorded
    if not isinstance(made, BaseException) or str(made) != tree["message"]:
        made = recorded
    vars(made).update(state)
    error: BaseException = made
    return error
