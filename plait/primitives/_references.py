"""Things that can be found again by name: `module:qualified.name`.

Names come out of files. So nothing is imported because a name says so, apart from the few in
`_IMPORTED_WHEN_NAMED`, and no attribute is computed: what is found stands in a
module that the program has imported, or in a class there.
"""

from __future__ import annotations

import functools
import importlib
import sys
import types
from contextlib import suppress
from typing import Any, Generic, Literal, Union, get_args, get_origin

# They hold types of values and do nothing when they are imported.
_IMPORTED_WHEN_NAMED = frozenset(
    {
        "collections",
        "datetime",
        "decimal",
        "fractions",
        "ipaddress",
        "numpy",
        "pathlib",
        "re",
        "typing",
        "uuid",
        "zoneinfo",
    }
)
# Their own modules don't hold them under the names that they give themselves.
_ELSEWHERE: dict[str, Any] = {
    "builtins:NoneType": types.NoneType,
    "types:UnionType": types.UnionType,
}
_SPECIAL_FORMS: dict[Any, str] = {
    Literal: "typing:Literal",
    Union: "typing:Union",
    types.UnionType: "types:UnionType",
}


def find(reference: str) -> Any:
    """What stands at that name in a module that is imported.

    Raises:
        LookupError: Nothing does, or its module is not imported.
    """
    if reference in _ELSEWHERE:
        return _ELSEWHERE[reference]
    name, _, qualname = reference.partition(":")
    found = sys.modules.get(name)
    if found is None and name in _IMPORTED_WHEN_NAMED:
        with suppress(ImportError):
            found = importlib.import_module(name)
    if found is None:
        msg = f"there is no {reference!r}: import {name!r} first, as names in data import nothing"
        raise LookupError(msg)
    thing: Any = found
    for part in qualname.split("."):
        try:
            thing = vars(thing)[part]
        except (KeyError, TypeError) as error:
            msg = f"there is no {reference!r}"
            raise LookupError(msg) from error
        if isinstance(thing, staticmethod):
            thing = thing.__func__
    return thing


def full_name(thing: Any) -> str:
    """A class's or function's name with its module's."""
    return f"{thing.__module__}:{thing.__qualname__}"


def reference_to(thing: Any) -> str | None:
    """The name by which a thing can be found again; None where there is none."""
    if not hasattr(thing, "__qualname__") or not getattr(thing, "__module__", None):
        return None
    name = full_name(thing)
    try:
        return name if find(name) is thing else None
    except LookupError:
        return None


def type_reference(kind: Any) -> Any:
    """The name of a class, or names and arguments of what is made of a generic one.

    A list stands for a generic type: `["builtins:list", "builtins:int"]` is `list[int]`. None where
    it could not be found again.
    """
    origin, arguments = _origin(kind)
    if origin is None:
        return reference_to(kind)
    name = _SPECIAL_FORMS.get(origin) or reference_to(origin)
    names = list(arguments) if origin is Literal else [type_reference(each) for each in arguments]
    reference = [name, *names]
    try:
        found = find_type(reference)
    except Exception:  # noqa: BLE001 - a class of the user's may have a say in it
        return None
    return reference if type(found) is type(kind) and found == kind else None


def find_type(reference: Any) -> Any:
    """The type that `type_reference` names.

    Raises:
        LookupError: It is not there.
        TypeError: It is no type.
    """
    if isinstance(reference, str):
        return find(reference)
    name, *arguments = reference
    origin = find(name)
    if origin is Literal:
        return Literal[tuple(arguments)]
    parts = tuple(types.NoneType if each is None else find_type(each) for each in arguments)
    if origin is types.UnionType:
        return functools.reduce(lambda left, right: left | right, parts)
    if origin is not Union and not _is_generic(origin):
        msg = f"{name!r} is no generic type"
        raise TypeError(msg)
    return origin[parts]


def _is_generic(origin: Any) -> bool:
    """Whether a class says itself what it is of; others may do anything when they are asked."""
    if not isinstance(origin, type):
        return False
    return Generic in origin.__mro__ or origin.__module__ in {"builtins", "collections"}


def _origin(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """What a generic type is made of; None where it is not generic."""
    generic = getattr(kind, "__pydantic_generic_metadata__", None)
    if generic and generic["origin"] is not None:
        return generic["origin"], generic["args"]
    if isinstance(kind, type) and not isinstance(kind, types.GenericAlias):
        return None, ()
    return get_origin(kind), get_args(kind)
