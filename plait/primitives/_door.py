"""The door: what every execution of every primitive passes through."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

from plait.primitives._compensation import as_scope
from plait.primitives._errors import noting

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from plait.primitives._base import WorkflowPrimitive
    from plait.primitives._context import WorkflowContext

T = TypeVar("T")

COMPOSITE, STEP, SCOPE = 1, 2, 3
"""What the door has to see to where there is no runtime: nothing, the place, what to undo."""


def door(
    execute: Callable[..., Coroutine[Any, Any, T]],
    bare: Callable[..., Coroutine[Any, Any, T]],
    bare_scope: Callable[..., Coroutine[Any, Any, T]],
) -> Callable[..., Coroutine[Any, Any, T]]:
    """Put the door in front of what a class does.

    Args:
        execute: Its `execute`.
        bare: The same where there is no runtime.
        bare_scope: That as a scope, for a primitive in which something may have to be undone.
    """
    scope = as_scope(execute)

    # A plain function: an `async def` here would cost every step one more frame.
    @functools.wraps(execute)
    def passed(
        self: WorkflowPrimitive[Any, T], input_data: Any, context: WorkflowContext
    ) -> Coroutine[Any, Any, T]:
        try:
            runtime = context._runtime
        except AttributeError:
            msg = (
                f"{self.name}.execute(input_data, context) takes a WorkflowContext, got "
                f"{context!r}; pass WorkflowContext(), or call `await {self.name}(data)`"
            )
            raise TypeError(msg) from None
        if runtime is None:
            entry = self._entry or self._find_entry()
            if entry is SCOPE:
                return bare_scope(self, input_data, context)
            if entry is STEP and context._primitive is None:
                # A step all by itself: no composite gives it its place.
                own = context.open(self)
                return noting(bare(self, input_data, own), own)
            return bare(self, input_data, context)
        if type(self).execute is not passed:
            # Reached through super(): part of the execution that is already under way.
            return execute(self, input_data, context)
        is_scope = (self._entry or self._find_entry()) is SCOPE
        return runtime.run(self, scope if is_scope else execute, input_data, context)

    return passed


def numbering(
    execute: Callable[..., Coroutine[Any, Any, T]],
) -> Callable[..., Coroutine[Any, Any, T]]:
    """The `execute` of a class whose children are told apart by the order of their calls."""

    def bare(
        self: WorkflowPrimitive[Any, T], input_data: Any, context: WorkflowContext
    ) -> Coroutine[Any, Any, T]:
        return execute(self, input_data, context.numbering(self))

    return bare
