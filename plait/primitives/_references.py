"""Things that can be found again by name: `module:qualified.name`."""

from __future__ import annotations

import functools
import importlib
from typing import Any


@functools.lru_cache(1024)
def find(reference: str) -> Any:
    """What stands at that name.

    Raises:
        LookupError: Nothing does.
    """
    module, _, qualname = reference.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        msg = f"there is no {reference!r}"
        raise LookupError(msg) from error
    return found


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
