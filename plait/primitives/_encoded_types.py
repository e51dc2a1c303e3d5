"""How objects of a class are written and made again.

The class alone says which form its objects have, when they are written and when they are read. So a
text, which may name any class, makes none in a way that its objects are not written in.
"""

from __future__ import annotations

import base64
import enum
import functools
import json
import re
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import TYPE_CHECKING, Any, Protocol, cast
from zoneinfo import ZoneInfo

import pydantic

from plait.primitives._base import WorkflowPrimitive
from plait.primitives._errors import SerializationError
from plait.primitives._sameness import attributes, built_in, has_fields, numpy_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Decode = Callable[[Any], Any]

_NO_FORM = "no JSON form is known for this type"


class Encoder(Protocol):
    """Makes trees of an object's parts."""

    def tree(self, value: Any) -> Any:
        """What stands for a value."""
        ...

    def trees(self, values: Iterable[Any]) -> list[Any]:
        """What stands for each of several."""
        ...

    def pairs(self, values: dict[Any, Any]) -> list[list[Any]]:
        """What stands for the keys and values of a dict."""
        ...


@dataclass(frozen=True, slots=True)
class Form:
    """How the objects of one class are written, and read.

    Attributes:
        write: Given an object, makes what stands beside the name of its class.
        read: Given the class and that, makes the object.
    """

    write: Callable[[Any, Encoder], dict[str, Any]]
    read: Callable[[Any, dict[str, Any], Decode], Any]


def _by_text(write: Callable[[Any], str], read: Callable[[Any, str], Any]) -> Form:
    return Form(
        lambda value, _: {"value": write(value)}, lambda kind, tree, _: read(kind, tree["value"])
    )


def _by_items(
    write: Callable[[Any], Iterable[Any]], read: Callable[..., Any] | None = None
) -> Form:
    def made(kind: Any, tree: dict[str, Any], decode: Decode) -> Any:
        return (read or kind)(*decode(tree["items"]))

    return Form(lambda value, encoder: {"items": encoder.trees(write(value))}, made)


def _write_time(value: Any, encoder: Encoder) -> dict[str, Any]:
    zone, fold = value.tzinfo, {"fold": 1} if value.fold else {}
    # A zone without a name of its own is what it is ahead or behind by, which the text says.
    if zone is None or (type(zone) is timezone and len(zone.__reduce__()[1]) == 1):
        return {"value": value.isoformat(), **fold}
    return {"value": value.replace(tzinfo=None).isoformat(), "zone": encoder.tree(zone), **fold}


def _read_time(kind: Any, tree: dict[str, Any], decode: Decode) -> Any:
    made = kind.fromisoformat(tree["value"])
    zone = decode(tree["zone"]) if "zone" in tree else made.tzinfo
    return made.replace(tzinfo=zone, fold=tree.get("fold", 0))


def _read_pairs(kind: Any, tree: dict[str, Any], decode: Decode) -> Any:
    made = kind()
    for key, value in tree["pairs"]:
        made[decode(key)] = decode(value)
    return made


def _read_defaultdict(_: Any, tree: dict[str, Any], decode: Decode) -> Any:
    factory = decode(tree["factory"])
    return _read_pairs(functools.partial(defaultdict, factory), tree, decode)


def _write_zone(value: Any, encoder: Encoder) -> dict[str, Any]:
    """A zone that is nothing but what its class was called with."""
    _, items, *state = cast("tuple[Any, ...]", value.__reduce__())
    if any(state):
        raise SerializationError(type(value), "", _NO_FORM)
    return {"items": encoder.trees(items)}


def _zone_key(zone: ZoneInfo) -> tuple[Any, ...]:
    if zone.key is None:
        raise SerializationError(ZoneInfo, "", "it was read from a file, and has no name")
    return (zone.key,)


def _compiled(pattern: Any, flags: int) -> Any:
    return re.compile(pattern, flags & ~re.DEBUG)


_ZONE = Form(_write_zone, lambda kind, tree, decode: kind(*decode(tree["items"])))
_PAIRS = Form(lambda value, encoder: {"pairs": encoder.pairs(value)}, _read_pairs)
_PATH = _by_text(str, lambda kind, text: kind(text))

_EXACT: dict[type, Form] = {
    datetime: Form(_write_time, _read_time),
    time: Form(_write_time, _read_time),
    date: _by_text(date.isoformat, lambda kind, text: kind.fromisoformat(text)),
    timedelta: _by_items(lambda value: (value.days, value.seconds, value.microseconds)),
    timezone: _ZONE,
    ZoneInfo: _by_items(_zone_key),
    Decimal: _by_text(str, lambda kind, text: kind(text)),
    Fraction: _by_items(lambda value: (value.numerator, value.denominator)),
    complex: _by_items(lambda value: (value.real, value.imag)),
    range: _by_items(lambda value: (value.start, value.stop, value.step)),
    slice: _by_items(lambda value: (value.start, value.stop, value.step)),
    uuid.UUID: _by_text(str, lambda kind, text: kind(text)),
    re.Pattern: _by_items(lambda value: (value.pattern, value.flags), _compiled),
    deque: _by_items(lambda value: (list(value), value.maxlen)),
    OrderedDict: _PAIRS,
    Counter: _PAIRS,
    defaultdict: Form(
        lambda value, encoder: {
            "factory": encoder.tree(value.default_factory),
            "pairs": encoder.pairs(value),
        },
        _read_defaultdict,
    ),
    PosixPath: _PATH,
    PurePosixPath: _PATH,
    WindowsPath: _PATH,
    PureWindowsPath: _PATH,
}


def _write_enum(value: Any, encoder: Encoder) -> dict[str, Any]:
    try:
        return {"value": encoder.tree(value.value)}
    except SerializationError as error:
        raise SerializationError(type(value), "", str(error)) from None


def _write_fields(value: Any, encoder: Encoder) -> dict[str, Any]:
    return {"fields": encoder.tree(attributes(value))}


def _read_fields(kind: Any, tree: dict[str, Any], decode: Decode) -> Any:
    return _set_on(object.__new__(kind), decode(tree["fields"]))


def _set_on(made: Any, values: dict[str, Any]) -> Any:
    for name, value in values.items():
        # Past `__setattr__`, which frozen classes refuse.
        object.__setattr__(made, name, value)
    return made


def _derived(base: Any) -> Form:
    """The form of a class that is derived from one of Python's own.

    By the base's own methods: the class may say something else there.
    """

    def write(value: Any, encoder: Encoder) -> dict[str, Any]:
        if base is dict:
            content = {"pairs": encoder.pairs(dict(dict.items(value)))}
        elif issubclass(base, list | tuple | set | frozenset):
            content = {"base": encoder.tree(base(base.__iter__(value)))}
        elif base is str:
            content = {"base": encoder.tree(str.__str__(value))}
        else:
            content = {"base": encoder.tree(base.__new__(base, value))}
        held = attributes(value)
        return {**content, **(_write_fields(value, encoder) if held else {})}

    def read(kind: Any, tree: dict[str, Any], decode: Decode) -> Any:
        if base is dict:
            made = dict.__new__(kind)
            for key, value in tree["pairs"]:
                dict.__setitem__(made, decode(key), decode(value))
        elif issubclass(base, list | set | bytearray):
            made = base.__new__(kind)
            base.__init__(made, decode(tree["base"]))
        else:
            made = base.__new__(kind, decode(tree["base"]))
        return _set_on(made, decode(tree.get("fields", {})))

    return Form(write, read)


def _write_model(value: Any, encoder: Encoder) -> dict[str, Any]:
    try:
        return {"state": encoder.tree(value.__getstate__())}
    except SerializationError as error:
        where = error.where.removeprefix(".__dict__")
        raise SerializationError(error.kind, where, error.reason) from None


def _read_model(kind: Any, tree: dict[str, Any], decode: Decode) -> Any:
    made = object.__new__(kind)
    made.__setstate__(decode(tree["state"]))
    return made


def _read_primitive(kind: Any, tree: dict[str, Any], decode: Decode) -> Any:
    primitive = kind(**decode(tree["spec"]))
    primitive._name = tree["name"]
    return primitive


def _write_primitive(value: Any, encoder: Encoder) -> dict[str, Any]:
    spec = value._spec()
    if spec is None:
        raise SerializationError(type(value), "", _NO_FORM)
    return {"spec": encoder.tree(spec), "name": value._name}


def _write_array(value: Any, encoder: Encoder) -> dict[str, Any]:
    numpy = numpy_of(type(value))
    array = numpy.asarray(value)
    shape = list(array.shape)
    if array.dtype == object:
        return {"shape": shape, "objects": encoder.trees(array.ravel())}
    if array.dtype.hasobject:
        raise SerializationError(type(value), "", "a part of it is made of Python's objects")
    # Not the type's name: that leaves out which byte comes first.
    dtype = encoder.tree(numpy.lib.format.dtype_to_descr(array.dtype))
    return {"dtype": dtype, "shape": shape, "bytes": base64.b64encode(array.tobytes()).decode()}


def _read_array(kind: Any, tree: dict[str, Any], decode: Decode) -> Any:
    numpy, shape = numpy_of(kind), tuple(tree["shape"])
    if "objects" in tree:
        objects = numpy.empty(len(tree["objects"]), dtype=object)
        for index, item in enumerate(tree["objects"]):
            objects[index] = decode(item)
        return objects.reshape(shape)
    dtype = numpy.lib.format.descr_to_dtype(decode(tree["dtype"]))
    content = bytearray(base64.b64decode(tree["bytes"], validate=True))
    array = numpy.ndarray(shape, dtype, buffer=content)
    return array if issubclass(kind, numpy.ndarray) else array[()]


def _by_pydantic(kind: type) -> Form | None:
    # Pydantic imports what an `ImportString` names, and says that it knows what any object is.
    if kind in (object, pydantic.ImportString) or issubclass(kind, type):
        return None
    known = adapter(kind)
    if known is None:
        return None

    return Form(
        lambda value, _: {"value": known.dump_python(value, mode="json", warnings="error")},
        lambda _, tree, __: known.validate_json(json.dumps(tree["value"])),
    )


@functools.lru_cache(1024)
def form_of(kind: type) -> Form | None:
    """How objects of a class are written; None where they cannot be."""
    form = _EXACT.get(kind)
    if form is not None:
        return form
    if issubclass(kind, enum.Enum):
        return Form(_write_enum, lambda kind, tree, decode: kind(decode(tree["value"])))
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _by_items(tuple, functools.partial(_tuple_of, kind))
    numpy = numpy_of(kind)
    if numpy is not None:
        is_known = kind is numpy.ndarray or issubclass(kind, numpy.generic)
        return Form(_write_array, _read_array) if is_known else None
    base = built_in(kind)
    if has_fields(kind) and base is None:
        return Form(_write_fields, _read_fields)
    if issubclass(kind, pydantic.BaseModel):
        return Form(_write_model, _read_model)
    if issubclass(kind, WorkflowPrimitive):
        return Form(_write_primitive, _read_primitive)
    if issubclass(kind, tzinfo):
        return _ZONE
    if issubclass(kind, OrderedDict | defaultdict):
        return None  # such a class keeps more than `dict` knows of
    return _by_pydantic(kind) if base is None else _derived(base)


def _tuple_of(kind: Any, *items: Any) -> Any:
    return tuple.__new__(kind, items)


def adapter(kind: Any) -> pydantic.TypeAdapter[Any] | None:
    """Pydantic's adapter for a type, where it knows one."""
    try:
        return _adapter(kind)
    except Exception:  # noqa: BLE001 - a class of the user's may have a say in it
        return None


@functools.lru_cache(1024)
def _adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(kind)
