"""What a node asks its runtime for; without one, the event loop or the process answers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from plait.primitives._compensation import scope_of, undoing
from plait.primitives._concurrency import DeadlineExceededError
from plait.primitives._deadline import bounded, current_deadline
from plait.primitives._errors import StepTimeoutError
from plait.primitives._frame import Frame
from plait.primitives._runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

    import anyio

    from plait.primitives._concurrency import Deliver, Gathered, Source
    from plait.primitives._context import WorkflowContext
    from plait.primitives._runtime import Attribute

T = TypeVar("T")

EVENT_LOOP = Runtime()


class Services(Frame):
    """Time, concurrency, and what comes from outside of a run."""

    __slots__ = ()

    @property
    def _context(self) -> WorkflowContext:
        # Only contexts are made of this; it is a class of its own so that a file holds one idea.
        return cast("WorkflowContext", self)

    def time(self) -> float:
        """Seconds on a clock that only goes forward, for measuring how long something took."""
        return (self._runtime or EVENT_LOOP).time()

    def event(self) -> anyio.Event:
        """Something that one task waits for and another sets."""
        return (self._runtime or EVENT_LOOP).event()

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        """Wait for `seconds`. A durable run that is interrupted waits only for what is left."""
        return (self._runtime or EVENT_LOOP).sleep(seconds, self._context)

    def within(self, seconds: float, call: Callable[[], Awaitable[T]]) -> Coroutine[Any, Any, T]:
        """Run a call, and cancel it when it takes longer than `seconds`.

        Args:
            seconds: The deadline, from now. A durable run that is interrupted keeps to it.
            call: What to run.

        Raises:
            StepTimeoutError: This deadline passed; a `TimeoutError` of the call's own stays one.
        """
        context = self._context
        if scope_of(context) is None:
            return self._within(seconds, call)
        return undoing(partial(self._within, seconds, call), context)

    async def _within(self, seconds: float, call: Callable[[], Awaitable[T]]) -> T:
        runtime = self._runtime or EVENT_LOOP
        token = bounded(runtime.time() + seconds)
        try:
            return await runtime.within(seconds, call, self._context)
        except DeadlineExceededError as passed:
            if passed.call is not call:
                raise
            msg = f"{self.label!r} did not finish within {seconds:g} s"
            raise StepTimeoutError(msg, seconds) from None
        finally:
            current_deadline.reset(token)

    @property
    def deadline(self) -> float | None:
        """When the nearest deadline around ends, on the clock of `time`; None where there is none.

        A client that takes a timeout of its own can be given what is left:
        `timeout=context.deadline - context.time()`.
        """
        return current_deadline.get()

    def shielded(self, call: Callable[[], Coroutine[Any, Any, T]]) -> Coroutine[Any, Any, T]:
        """Run a call to its end; one that is cancelled meanwhile hears of it then.

        Args:
            call: What to run, such as the cleaning up after something that was cancelled.
        """
        return (self._runtime or EVENT_LOOP).shielded(call)

    def concurrently(
        self, calls: Source[T], limit: int | None = None
    ) -> Coroutine[Any, Any, Gathered[T]]:
        """Run calls at the same time and wait for all of them; a failure cancels the others.

        Args:
            calls: Makes the awaitables; asked for the next one only when there is room for it.
            limit: How many run at once, or None for all.
        """
        runtime = self._runtime or EVENT_LOOP
        return runtime.gather(calls, limit)

    def fold(
        self, calls: Source[T], limit: int, deliver: Deliver[T]
    ) -> Coroutine[Any, Any, Gathered[T]]:
        """Run calls at the same time and hand on each result, one at a time, in their order.

        Args:
            calls: Makes the awaitables; asked for the next one only when there is room for it.
            limit: How many are running or waiting for their turn at once.
            deliver: Is given each result.
        """
        return (self._runtime or EVENT_LOOP).fold(calls, limit, deliver)

    @overload
    async def wait_for(
        self, signal: str, payload_type: type[T], *, timeout: float | None = None
    ) -> T: ...
    @overload
    async def wait_for(self, signal: str, *, timeout: float | None = None) -> Any: ...
    async def wait_for(
        self, signal: str, payload_type: Any = object, *, timeout: float | None = None
    ) -> Any:
        """Wait until the run is sent a signal, and return what it brought.

        A signal that came before anybody waited for it is kept, and several queue in their order.
        Durable runs are sent them by `DurableRunner.signal`, and leave memory while they wait;
        any other by `signal` on its context.

        Args:
            signal: The signal's name.
            payload_type: What it brings; plain data is validated into dataclasses and models.
            timeout: How long to wait, in seconds.

        Raises:
            StepTimeoutError: It did not come in time.
            SignalPayloadError: What it brought is of another type.

        Example:
            >>> from plait import WorkflowContext, workflow
            >>> @workflow
            ... async def publish(text: str, context: WorkflowContext) -> str:
            ...     reviewer = await context.wait_for("approved", str, timeout=86_400)
            ...     return f"{text} (approved by {reviewer})"
            >>> context = WorkflowContext()
            >>> context.signal("approved", "ada")
            >>> publish.run_sync("On composing", context)
            'On composing (approved by ada)'
        """
        runtime = self._runtime or EVENT_LOOP
        try:
            return await runtime.wait_for(signal, payload_type, timeout, self._context)
        except DeadlineExceededError:
            assert timeout is not None
            msg = f"{self.label!r} was sent no signal {signal!r} within {timeout:g} s"
            raise StepTimeoutError(msg, timeout) from None

    async def set_event(self, name: str, value: object) -> None:
        """Publish something that others may wait for: `Run.event` of a durable run.

        Args:
            name: The event's name. Set again, it has the new value.
            value: What is published.
        """
        await (self._runtime or EVENT_LOOP).set_event(name, value, self._context)

    def entity(
        self, kind: type[T], key: str, *, default: Callable[[], T] | None = None
    ) -> AbstractAsyncContextManager[T]:
        """State that belongs to a key and outlives runs; one run at a time has it.

        Inside of the `async with` block it is changed in place. What a block that fails has changed
        is not kept. Without a durable runner the state lives as long as this run.

        Args:
            kind: Its class.
            key: Whose it is.
            default: Makes the state of a key that has none yet; `kind` itself, by default.

        Example:
            >>> from dataclasses import dataclass, field
            >>> from plait import WorkflowContext, workflow
            >>> @dataclass
            ... class Cart:
            ...     items: list[str] = field(default_factory=list)
            >>> @workflow
            ... async def add(item: str, context: WorkflowContext) -> int:
            ...     async with context.entity(Cart, "ada") as cart:
            ...         cart.items.append(item)
            ...         return len(cart.items)
            >>> add.run_sync("book")
            1
        """
        return (self._runtime or EVENT_LOOP).entity(kind, key, default or kind, self._context)

    @property
    def has_begun(self) -> bool:
        """Whether this node had begun before the run was interrupted, and is begun again."""
        return self._runtime is not None and self._runtime.is_recorded(self.path)

    def patched(self, name: str) -> bool:
        """Whether this run takes the changed way through a workflow whose code was changed.

        A durable run that had passed this point before the change goes on the old way, and gets
        False; every other run gets True. (Temporal's `workflow.patched`.)

        Args:
            name: The change's name.
        """
        return (self._runtime or EVENT_LOOP).patched(name, self._context)

    def report(self, event: str, /, **attributes: Attribute) -> None:
        """Tell whatever observes the run of something that happened at this node.

        Args:
            event: What happened, such as "retry".
            attributes: What there is to say of it.
        """
        if self._runtime is not None:
            self._runtime.report(event, attributes, self._context)
