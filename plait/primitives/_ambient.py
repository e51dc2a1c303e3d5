"""The runtime that a new context starts with, where the application has set something up."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from plait.primitives._runtime import Runtime


_source: Callable[[], Runtime | None]  # the package sets it before anybody can make a context


def runtime() -> Runtime | None:
    """The runtime for a context that is made now; None, and with it the fast path, by default."""
    return _source()


def use(source: Callable[[], Runtime | None]) -> None:
    """Ask `source` for the runtime of every context that is made from now on."""
    global _source  # noqa: PLW0603 - one source for the process, like logging's root
    _source = source
