"""What a context hands every execution to: the other side of the door.

A context without a runtime runs a primitive as a plain await. A context with one hands it each
execution, each sleep, each deadline and each fan-out, and the runtime adds what it is there for:
spans, journaling, replacing by name, another engine. Composites know nothing of any of them.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import anyio

from plait.primitives._concurrency import backend
from plait.primitives._errors import noting
from plait.primitives._outside import checked_payload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping
    from contextlib import AbstractAsyncContextManager

    from plait.primitives._base import WorkflowPrimitive
    from plait.primitives._concurrency import Deliver, Gathered, Source
    from plait.primitives._context import WorkflowContext

In = TypeVar("In")
T = TypeVar("T")

Attribute: TypeAlias = str | int | float | bool


class Runtime:
    """The base of every runtime; by itself it adds nothing.

    A subclass overrides `perform` to stand around each execution, and what else it has its own way
    of doing. Runtimes nest: the one inside is asked for what the one outside does not do.

    Args:
        inner: The runtime to go on with, or None for the event loop itself.
    """

    __slots__ = ("inner",)

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

    def timestamp(self) -> float:
        """Seconds since the epoch, as the wall clock has it."""
        return time.time() if self.inner is None else self.inner.timestamp()

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

    def now(self, context: WorkflowContext) -> float:
        """The time that the node which `context` is in is told, in seconds since the epoch."""
        return self.timestamp() if self.inner is None else self.inner.now(context)

    def report(
        self, event: str, attributes: Mapping[str, Attribute], context: WorkflowContext
    ) -> None:
        """Take note of something that happened at a node, such as a retry."""
        if self.inner is not None:
            self.inner.report(event, attributes, context)

    def identity(self, context: WorkflowContext) -> str:
        """What tells a node from all others of its run, also where its path has changed."""
        return context.path if self.inner is None else self.inner.identity(context)

    def patched(self, name: str, context: WorkflowContext) -> bool:
        """Whether a run takes the changed way."""
        return True if self.inner is None else self.inner.patched(name, context)

    async def wait_for(
        self, signal: str, payload_type: Any, timeout: float | None, context: WorkflowContext
    ) -> Any:
        """Wait for a signal and return its payload; raises `StepTimeoutError`."""
        if self.inner is not None:
            return await self.inner.wait_for(signal, payload_type, timeout, context)
        receive = partial(context._run.outside.receive, signal)
        payload = await (receive() if timeout is None else self.within(timeout, receive, context))
        return checked_payload(signal, payload, payload_type)

    async def set_event(self, name: str, value: Any, context: WorkflowContext) -> None:
        """Publish a value of the run's."""
        if self.inner is not None:
            return await self.inner.set_event(name, value, context)
        context._run.outside.events[name] = value
        return None

    def entity(
        self, kind: type[T], key: str, default: Callable[[], T], context: WorkflowContext
    ) -> AbstractAsyncContextManager[T]:
        """Hold keyed state; one holder at a time for a key."""
        if self.inner is not None:
            return self.inner.entity(kind, key, default, context)
        return context._run.outside.entity((kind, key), default)

    def unrecorded(self) -> Runtime | None:
        """The runtime for what is this process's own business, which no journal is to keep."""
        return self

    def shielded(self, call: Callable[[], Coroutine[Any, Any, T]]) -> Coroutine[Any, Any, T]:
        """Run a call to its end; one that is cancelled meanwhile hears of it then."""
        return (self.inner or backend()).shielded(call)

    def cancels(self) -> bool:
        """Whether a run whose task is cancelled has ended; else something will carry it on."""
        return True if self.inner is None else self.inner.cancels()

    def compensated(self, path: str) -> None:
        """Take note that what the node there did has been undone."""
        if self.inner is not None:
            self.inner.compensated(path)

    def is_recorded(self, path: str) -> bool:
        """Whether a node, or one below it, had been executed before this process did so."""
        return False if self.inner is None else self.inner.is_recorded(path)

    def carrier(self) -> dict[str, str]:
        """What a run that is started here takes along to wherever it is executed: its origin."""
        return {} if self.inner is None else self.inner.carrier()

    async def keep(self, name: str, value: str) -> None:
        """Keep a fact about the run for when it is resumed; without a journal, nowhere."""
        if self.inner is not None:
            await self.inner.keep(name, value)

    def kept(self, name: str) -> str | None:
        """The fact of that name that was kept last, before this execution of the run."""
        return None if self.inner is None else self.inner.kept(name)


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
