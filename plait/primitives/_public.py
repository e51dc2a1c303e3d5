"""The names under which public things are known."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def publish(namespace: Mapping[str, Any]) -> None:
    """Say of a package's public classes and functions that they are the package's own.

    Tracebacks then name `plait.PermanentError` and not the module it happens to be written in;
    pickles and journals, which outlive such modules, do too.

    Args:
        namespace: The package's `globals()`.
    """
    for name in namespace["__all__"]:
        thing = namespace[name]
        if isinstance(thing, type | FunctionType):
            thing.__module__ = namespace["__name__"]
