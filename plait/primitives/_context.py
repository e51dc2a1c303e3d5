"""The context that a run's nodes share, and each node's own view of it."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from plait.primitives import _ambient
from plait.primitives._concurrency import DeadlineExceededError
from plait.primitives._errors import StepTimeoutError, noting
from plait.primitives._outcome import results_of
from plait.primitives._run import Run
from plait.primitives._runtime import Numbering, Runtime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence

    import anyio
    from structlog.stdlib import BoundLogger

    from plait.primitives._base import WorkflowPrimitive
    from plait.primitives._concurrency import Call, Deliver, Gathered, Source

T = TypeVar("T")

_new = object.__new__
_EVENT_LOOP = Runtime()
_NUMBERING = Numbering()
_ATTEMPT = re.compile(r"/attempt \d+")


class WorkflowContext:
    """What one run carries through all of its nodes.

    A caller makes one and passes it to `execute`. Each node sees the same run through it: the same
    `data`, the same identifiers, and its own `path`.

    Args:
        correlation_id: Ties the run to a request or message of the application's own. New where
            none is given.
        workflow_id: The name of the run's root in every path; the root primitive's own label where
            none is given.
        data: The run's shared, mutable state: what a step writes, later steps and the caller see.
        metadata: Facts about the run for spans and logs. Read-only from here on.
        parent_span: An OpenTelemetry span or context that the run's spans hang under, in place of
            the current one.

    Example:
        >>> from plait import WorkflowContext, step
        >>> @step
        ... async def count(word: str, context: WorkflowContext) -> int:
        ...     context.data["seen"] = word
        ...     return len(word)
        >>> context = WorkflowContext(data={"user": "ada"})
        >>> count.run_sync("plait", context)
        5
        >>> context.data
        {'user': 'ada', 'seen': 'plait'}
    """

    __slots__ = ("_calls", "_cursor", "_parent", "_path", "_primitive", "_run", "_runtime")

    _run: Run
    _runtime: Runtime | None
    _parent: WorkflowContext | None
    _primitive: WorkflowPrimitive[Any, Any] | None
    _cursor: Any
    _path: str | None
    _calls: int

    def __init__(
        self,
        correlation_id: str | None = None,
        workflow_id: str | None = None,
        data: dict[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        parent_span: object = None,
    ) -> None:
        self._run = Run(correlation_id, workflow_id, data, metadata, parent_span)
        self._runtime = _ambient.runtime()
        self._parent = self._primitive = self._cursor = self._path = None
        self._calls = 0

    def __repr__(self) -> str:
        run = self._run.run_id or self._run.correlation_id
        return f"<WorkflowContext run={run!r} path={self.path!r}>"

    @property
    def data(self) -> dict[str, Any]:
        """The run's shared, mutable state."""
        return self._run.data

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Facts about the run, for spans and logs. Read-only."""
        return self._run.metadata

    @property
    def parent_span(self) -> object:
        """The OpenTelemetry span or context that the run hangs under, where one was given."""
        return self._run.parent_span

    @property
    def workflow_id(self) -> str | None:
        """The name of the run's root, where one was given."""
        return self._run.workflow_id

    @property
    def correlation_id(self) -> str:
        """What ties the run to a request or message of the application's own."""
        run = self._run
        if run.correlation_id is None:
            run.correlation_id = secrets.token_hex(16)
        return run.correlation_id

    @property
    def run_id(self) -> str:
        """The durable run's id; outside a durable runner, the correlation id."""
        return self._run.run_id or self.correlation_id

    @property
    def path(self) -> str:
        """Where this node stands in the tree of its run, such as `orders/2:ship[3]`."""
        path = self._path
        primitive = self._primitive
        if path is None:
            parent = self._parent
            path = (self._run.workflow_id or "") if parent is None else parent.path
            if not path and primitive is not None:
                path = primitive.label
        if primitive is not None and self._cursor is not None:
            path += primitive._place(self._cursor)[0]
        return path

    @property
    def label(self) -> str:
        """The node's own short name, the last part of what its path says."""
        if self._primitive is None:
            return self._run.workflow_id or ""
        if self._cursor is None:
            return self._primitive.label
        return self._primitive._place(self._cursor)[1].label

    @property
    def is_root(self) -> bool:
        """Whether this is the context of the run's outermost node, and not of one inside."""
        return self._parent is not None and self._parent._primitive is None

    @property
    def attempt(self) -> int:
        """Which attempt of the nearest enclosing retry this is, from 1; 1 outside of any."""
        return self._attempts()[0]

    @property
    def idempotency_key(self) -> str:
        """A key for calls to systems that drop a repeated request: one for each node of a run.

        Every attempt of the same node, also after a crash, has the same key.
        """
        return f"{self.run_id}:{_ATTEMPT.sub('', self.path)}"

    @property
    def place(self) -> str:
        """The path as errors show it: with the attempt, and the run where it has a name."""
        path, parts = self.path, []
        attempt, attempts = self._attempts()
        path, is_attempt, _ = path.rpartition(f"/attempt {attempt}")
        if is_attempt and not _:
            parts.append(f"attempt {attempt} of {attempts}")
        else:
            path = self.path
        run = self._run.run_id or self._run.correlation_id
        if run is not None:
            parts.append(f"run {run}")
        return ", ".join([path, *parts])

    @property
    def logger(self) -> BoundLogger:
        """A structlog logger that binds the run and the path to every event."""
        from plait.primitives._logging import node_logger

        return node_logger(self)

    @property
    def random(self) -> Random:
        """A source of random numbers that gives this node the same ones in a resumed run."""
        randoms, path = self._run.randoms, self.path
        if path not in randoms:
            randoms[path] = Random(f"{self.run_id}:{path}")
        return randoms[path]

    def uuid(self) -> UUID:
        """A UUID that is the same for this node in a resumed run."""
        return UUID(int=self.random.getrandbits(128), version=4)

    def now(self) -> datetime:
        """The time, in UTC."""
        return datetime.now(UTC)

    def time(self) -> float:
        """Seconds on a clock that only goes forward, for measuring how long something took."""
        return (self._runtime or _EVENT_LOOP).time()

    def event(self) -> anyio.Event:
        """Something that one task waits for and another sets."""
        return (self._runtime or _EVENT_LOOP).event()

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        """Wait for `seconds`. A durable run that is interrupted waits only for what is left."""
        return (self._runtime or _EVENT_LOOP).sleep(seconds, self)

    async def within(self, seconds: float, call: Callable[[], Awaitable[T]]) -> T:
        """Run a call, and cancel it when it takes longer than `seconds`.

        Args:
            seconds: The deadline, from now. A durable run that is interrupted keeps to it.
            call: What to run.

        Raises:
            StepTimeoutError: This deadline passed; a `TimeoutError` of the call's own stays one.
        """
        try:
            return await (self._runtime or _EVENT_LOOP).within(seconds, call, self)
        except DeadlineExceededError as passed:
            if passed.call is not call:
                raise
            msg = f"{self.label!r} did not finish within {seconds:g} s"
            raise StepTimeoutError(msg, seconds) from None

    def concurrently(
        self, calls: Source[T], limit: int | None = None
    ) -> Coroutine[Any, Any, Gathered[T]]:
        """Run calls at the same time and wait for all of them; a failure cancels the others.

        Args:
            calls: Makes the awaitables; asked for the next one only when there is room for it.
            limit: How many run at once, or None for all.
        """
        runtime = self._runtime or _EVENT_LOOP
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
        return (self._runtime or _EVENT_LOOP).fold(calls, limit, deliver)

    def open(self, primitive: WorkflowPrimitive[Any, Any]) -> WorkflowContext:
        """The own context of a node that is called with this one: what runtimes make."""
        node = self.enter(primitive)
        if self._cursor is not None:
            node._path = self.path
            return node
        self._calls += 1
        if self._primitive is None:
            root = self._run.workflow_id or primitive.label
            node._path = root if self._calls == 1 else f"{self._calls}:{root}"
        else:
            node._path = f"{self.path}/{self._calls}:{primitive.label}"
        return node

    async def step(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Execute a function, or a primitive, as a node of this run under a name of its own.

        Args:
            name: Its name.
            fn: The function, sync or async, or the primitive.
            args: What it is called with.
            kwargs: What it is called with by keyword.

        Example:
            >>> from plait import WorkflowContext, workflow
            >>> @workflow
            ... async def greet(name: str, context: WorkflowContext) -> str:
            ...     return await context.step("upper", str.upper, name)
            >>> greet.run_sync("ada")
            'ADA'
        """
        return await self._named_call(name, fn, args, kwargs)()

    async def parallel(
        self, calls: Iterable[tuple[Any, ...]], *, max_concurrency: int | None = None
    ) -> list[Any]:
        """Execute several functions at the same time, each as a node of this run.

        The first that fails cancels the others, waits until they have ended, and is raised.

        Args:
            calls: A tuple for each: its name, the function, and the arguments.
            max_concurrency: How many run at once; None for all.

        Returns:
            The results, in the order of the calls.
        """
        made = [self._named_call(name, fn, args, {}) for name, fn, *args in calls]
        return results_of(await self.concurrently(made, max_concurrency))

    async def gather(self, *awaitables: Awaitable[T]) -> list[T]:
        """Await several at the same time, on any event loop; what `asyncio.gather` is on one.

        The first that fails cancels the others, waits until they have ended, and is raised.

        Args:
            awaitables: Calls of steps, futures, or any other awaitables.

        Returns:
            The results, in the order of the awaitables.
        """
        calls = [partial(_awaiting, awaitable) for awaitable in awaitables]
        return results_of(await self.concurrently(calls))

    def numbered(self, primitive: WorkflowPrimitive[Any, Any]) -> WorkflowContext:
        """The place of the next call that this node makes."""
        self._calls += 1
        place: Any = _Numbered(primitive)
        return self.enter(place, self._calls)

    def _named_call(
        self, name: str, fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Call[Any]:
        # These are built on contexts, so they can be imported only once there are some.
        from plait.primitives._base import WorkflowPrimitive
        from plait.primitives._decorators import make_step
        from plait.primitives._step import Step

        made = fn if isinstance(fn, WorkflowPrimitive) else make_step(fn)
        primitive: WorkflowPrimitive[Any, Any] = made.named(name)
        frame = self.numbered(primitive)
        if isinstance(primitive, Step):
            input_data = primitive.input_of(*args, **kwargs)
        else:
            (input_data,) = args
        return lambda: noting(primitive.execute(input_data, frame), frame)

    def numbering(self, primitive: WorkflowPrimitive[Any, Any]) -> WorkflowContext:
        """The own context of a node whose children are told apart by the order of their calls."""
        node = self.open(primitive)
        node._runtime = node._runtime or _NUMBERING
        return node

    def enter(self, primitive: WorkflowPrimitive[Any, Any], cursor: Any = None) -> WorkflowContext:
        """A view of this run for the children of `primitive`, at one of them or moved along."""
        frame = _new(WorkflowContext)
        frame._run = self._run
        frame._runtime = self._runtime
        frame._parent = self
        frame._primitive = primitive
        frame._cursor = cursor
        frame._path = None
        frame._calls = 0
        return frame

    def beside(self, cursor: Any) -> WorkflowContext:
        """The same view at another child."""
        assert self._parent is not None
        assert self._primitive is not None
        return self._parent.enter(self._primitive, cursor)

    def _attempts(self) -> tuple[int, int]:
        context: WorkflowContext | None = self
        while context is not None:
            primitive = context._primitive
            if primitive is not None and primitive._attempts and context._cursor is not None:
                return context._cursor, primitive._attempts
            context = context._parent
        return 1, 1


class _Numbered:
    """Stands where calls are told apart by their order, with one of them below it."""

    _attempts = 0
    _repeats_input = False

    def __init__(self, primitive: WorkflowPrimitive[Any, Any]) -> None:
        self._primitive = primitive
        self.label = primitive.label

    def _place(self, cursor: int) -> tuple[str, WorkflowPrimitive[Any, Any]]:
        return f"/{cursor}:{self.label}", self._primitive


async def _awaiting(awaitable: Awaitable[T]) -> T:
    return await awaitable


current_context: ContextVar[WorkflowContext | None] = ContextVar("plait_context", default=None)
"""The context that steps called as plain functions belong to."""
