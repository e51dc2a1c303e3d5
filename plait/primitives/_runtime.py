"""What a context hands every execution to: the other side of the door.

A context without a runtime runs a primitive as a plain await. A context with one hands it each
execution, each sleep, each deadline and each fan-out, and the runtime adds what it is there for:
spans, journaling, replacing by name, another engine. Composites know nothing of any of them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from plait.primitives._concurrency import backend
from plait.primitives._errors import noting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from plait.primitives._base import WorkflowPrimitive
    from plait.primitives._concurrency import Deliver, Gathered, Source
    from plait.primitives._context import WorkflowContext

In = TypeVar("In")
T = TypeVar("T")


class Runtime:
    """The base of every runtime; by itself it adds nothing.

    A subclass overrides `perform` to stand around each execution, and what else it has its own way
    of doing. Runtimes nest: the one inside is asked for what the one outside does not do.

    Args:
        inner: The runtime to go on with, or None for the event loop itself.
    """

    def __init__(self, inner: Runtime | None = None) -> None:
        self.inner = inner

    def run(
        self,
        primitive: WorkflowPrimitive[In, T],
        execute: Callable[[Any, In, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: In,
        context: WorkflowContext,
    ) -> Coroutine[Any, Any, T]:
        """Take an execution from the door: give it its place in the tree, then perform it.

        A plain function on purpose: the place is taken when the call is made, not when the event
        loop gets round to it, so that concurrent calls are numbered in the order of the code.

        Args:
            primitive: What is executed.
            execute: The primitive's own `execute`, without the door.
            input_data: Its input.
            context: The context of the caller.
        """
        return self.perform(primitive, execute, input_data, context.open(primitive))

    def perform(
        self,
        primitive: WorkflowPrimitive[In, T],
        execute: Callable[[Any, In, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: In,
        context: WorkflowContext,
    ) -> Coroutine[Any, Any, T]:
        """Execute a node that has its place: `context` is its own.

        Args:
            primitive: What is executed.
            execute: The primitive's own `execute`, without the door.
            input_data: Its input.
            context: The node's own context, whose `path` names it.
        """
        if self.inner is None:
            return execute(primitive, input_data, context)
        return self.inner.perform(primitive, execute, input_data, context)

    def gather(self, calls: Source[T], limit: int | None) -> Coroutine[Any, Any, Gathered[T]]:
        """Run calls at the same time and wait for all of them."""
        return (self.inner or backend()).gather(calls, limit)

    def fold(
        self, calls: Source[T], limit: int, deliver: Deliver[T]
    ) -> Coroutine[Any, Any, Gathered[T]]:
        """Run calls at the same time and hand on each result in the order of the calls."""
        return (self.inner or backend()).fold(calls, limit, deliver)

    def time(self) -> float:
        """Seconds on a clock that only goes forward."""
        return time.monotonic() if self.inner is None else self.inner.time()

    def event(self) -> anyio.Event:
        """Something that one task waits for and another sets."""
        return anyio.Event() if self.inner is None else self.inner.event()

    def sleep(self, seconds: float, context: WorkflowContext) -> Coroutine[Any, Any, None]:
        """Wait for `seconds`, on behalf of the node that `context` is in."""
        if self.inner is None:
            return backend().sleep(seconds)
        return self.inner.sleep(seconds, context)

    def within(
        self, seconds: float, call: Callable[[], Awaitable[T]], context: WorkflowContext
    ) -> Coroutine[Any, Any, T]:
        """Run a call under a deadline; raises `DeadlineExceededError` where that one passed."""
        if self.inner is None:
            return backend().within(seconds, call)
        return self.inner.within(seconds, call, context)


class Numbering(Runtime):
    """Gives the calls of one node their places where nothing else does; below them it is gone."""

    def perform(
        self,
        primitive: WorkflowPrimitive[In, T],
        execute: Callable[[Any, In, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: In,
        context: WorkflowContext,
    ) -> Coroutine[Any, Any, T]:
        """Execute with no runtime, and say where a failure happened."""
        if not primitive._numbers_children:
            context._runtime = None
        return noting(execute(primitive, input_data, context), context)
