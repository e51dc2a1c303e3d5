"""The context that a run's nodes share, and each node's own view of it."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar, overload
from uuid import UUID

from plait.primitives import _ambient
from plait.primitives._compensation import compensate, undoing
from plait.primitives._errors import noting
from plait.primitives._outcome import results_of
from plait.primitives._run import Run
from plait.primitives._services import EVENT_LOOP, Services

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from typing import Unpack

    from pydantic_ai.agent import AbstractAgent
    from structlog.stdlib import BoundLogger

    from plait.agents._agent import AgentOptions, Prompt
    from plait.primitives._base import WorkflowPrimitive
    from plait.primitives._concurrency import Call, Source
    from plait.primitives._futures import Future

In = TypeVar("In")
T = TypeVar("T")
Deps = TypeVar("Deps")

_ATTEMPT = re.compile(r"/attempt \d+")


class WorkflowContext(Services):
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
        parent_span: What the run's spans hang under in place of the current one: a span or context
            of OpenTelemetry, or a dict of W3C headers.

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

    __slots__ = ()

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
    def attempt(self) -> int:
        """Which attempt of the nearest enclosing retry this is, from 1; 1 outside of any."""
        return self._attempts()[0]

    @property
    def idempotency_key(self) -> str:
        """A key for calls to systems that drop a repeated request: one for each node of a run.

        Every attempt of the same node, also after a crash, has the same key.
        """
        identity = (self._runtime or EVENT_LOOP).identity(self)
        return f"{self.run_id}:{_ATTEMPT.sub('', identity)}"

    @property
    def logger(self) -> BoundLogger:
        """A structlog logger that binds the run and the path to every event."""
        from plait.primitives._logging import node_logger

        return node_logger(self)

    @property
    def random(self) -> Random:
        """A source of random numbers that gives this node the same ones in a resumed run."""
        randoms, identity = self._run.randoms, (self._runtime or EVENT_LOOP).identity(self)
        if identity not in randoms:
            randoms[identity] = Random(f"{self.run_id}:{identity}")
        return randoms[identity]

    def uuid(self) -> UUID:
        """A UUID that is the same for this node in a resumed run."""
        return UUID(int=self.random.getrandbits(128), version=4)

    def now(self) -> datetime:
        """The time, in UTC. A resumed workflow is told again what it was told at first."""
        return datetime.fromtimestamp((self._runtime or EVENT_LOOP).now(self), UTC)

    def signal(self, name: str, payload: object = None) -> None:
        """Send a signal to this run, where it is not a durable one.

        Args:
            name: The signal's name.
            payload: What it brings.
        """
        self._run.outside.send(name, payload)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far this node has come.

        Args:
            done: How much is done.
            total: How much there is to do, where that is known.
            message: What is being done.
        """
        known = {} if total is None else {"total": total}
        self.report("progress", done=done, **known, message=message)

    @overload
    async def step(
        self, name: str, fn: Callable[..., Awaitable[Future[T]]], /, *args: Any, **kwargs: Any
    ) -> T: ...
    @overload
    async def step(
        self, name: str, fn: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any
    ) -> T: ...
    @overload
    async def step(self, name: str, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T: ...
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
        return await undoing(partial(self._together, made, max_concurrency), self)

    async def gather(self, *awaitables: Awaitable[T]) -> list[T]:
        """Await several at the same time, on any event loop; what `asyncio.gather` is on one.

        The first that fails cancels the others, waits until they have ended, and is raised.

        Args:
            awaitables: Calls of steps, futures, or any other awaitables.

        Returns:
            The results, in the order of the awaitables.
        """
        calls = [partial(_awaiting, awaitable) for awaitable in awaitables]
        return await undoing(partial(self._together, calls), self)

    @overload
    async def call_agent(self, agent: WorkflowPrimitive[In, T], prompt: In, /) -> T: ...
    @overload
    async def call_agent(
        self, agent: AbstractAgent[None, T], prompt: Prompt, /, **options: Unpack[AgentOptions]
    ) -> T: ...
    @overload
    async def call_agent(
        self,
        agent: AbstractAgent[Deps, T],
        prompt: Prompt,
        /,
        *,
        deps: Deps | Callable[[WorkflowContext], Deps],
        **options: Unpack[AgentOptions],
    ) -> T: ...
    async def call_agent(self, agent: Any, prompt: Any, /, **options: Any) -> Any:
        """Run an agent of pydantic-ai as a node of this run, and return its output.

        Args:
            agent: The agent, or a primitive made of one: wrappers that keep count of something,
                such as a rate limit, belong into one `AgentPrimitive` for all calls.
            prompt: The prompt.
            options: What `plait.agents.AgentPrimitive` takes.

        Example:
            >>> from plait import WorkflowContext, workflow
            >>> from pydantic_ai import Agent
            >>> from pydantic_ai.models.test import TestModel
            >>> writer = Agent(TestModel(custom_output_text="a haiku"), name="writer")
            >>> @workflow
            ... async def publish(topic: str, context: WorkflowContext) -> str:
            ...     return await context.call_agent(writer, f"Write about {topic}.")
            >>> publish.run_sync("composing")
            'a haiku'
        """
        from plait.agents import AgentPrimitive
        from plait.primitives._base import WorkflowPrimitive

        if not isinstance(agent, WorkflowPrimitive):
            agent = AgentPrimitive(agent, **options)
        elif options:
            msg = f"{agent.name!r} is a primitive already: give {', '.join(options)} to that"
            raise TypeError(msg)
        primitive, input_data, frame = self._named(None, agent, (prompt,), {})
        return await noting(primitive.execute(input_data, frame), frame)

    async def call_tool(self, tool: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a tool as agents call it: as a node `tool` and its name.

        Args:
            tool: What `plait.agents.tool` made; or any step, primitive or function.
            args: What it is called with.
            kwargs: What it is called with by keyword.

        Example:
            >>> from plait import WorkflowContext, workflow
            >>> from plait.agents import tool
            >>> @tool
            ... async def population(city: str, context: WorkflowContext) -> str:
            ...     return context.path
            >>> @workflow
            ... async def count(city: str, context: WorkflowContext) -> str:
            ...     return await context.call_tool(population, city=city)
            >>> count.run_sync("Ghent")
            'count/1:tool population'
        """
        from plait.primitives._base import WorkflowPrimitive
        from plait.primitives._decorators import make_step

        primitive = tool if isinstance(tool, WorkflowPrimitive) else make_step(tool)
        return await self.step(f"tool {primitive.name}", primitive, *args, **kwargs)

    def compensate(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        """Have something undone, should what comes later fail: in the body of a workflow.

        What `CompensationPrimitive` does for a composed step, this does for what a workflow has
        just done. Compensations run in reverse order once the workflow fails or is cancelled.

        Args:
            fn: The function, sync or async, or the primitive, that undoes it.
            args: What it is called with.
            kwargs: What it is called with by keyword.

        Raises:
            RuntimeError: This is the context of a step, which a resumed run does not execute again.

        Example:
            >>> from plait import WorkflowContext, workflow
            >>> @workflow
            ... async def book(seat: str, context: WorkflowContext) -> None:
            ...     context.compensate(print, "released", seat)
            ...     raise PermissionError("card declined")
            >>> try:
            ...     book.run_sync("12A")
            ... except PermissionError as error:
            ...     print(error)
            released 12A
            card declined
        """
        owner = self._primitive
        if owner is None or not owner._numbers_children:
            msg = (
                f"context.compensate() was called in the step {self.label!r}; call it in the body "
                "of a workflow, or wrap the step in a CompensationPrimitive"
            )
            raise RuntimeError(msg)
        primitive, input_data, frame = self._named(None, fn, args, kwargs)
        compensate(primitive, input_data, frame)

    async def _together(self, calls: Source[T], limit: int | None = None) -> list[T]:
        return results_of(await self.concurrently(calls, limit))

    def _named_call(
        self, name: str, fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Call[Any]:
        primitive, input_data, frame = self._named(name, fn, args, kwargs)
        return lambda: noting(primitive.execute(input_data, frame), frame)

    def _named(
        self, name: str | None, fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> tuple[WorkflowPrimitive[Any, Any], Any, WorkflowContext]:
        # These are built on contexts, so they can be imported only once there are some.
        from plait.primitives._base import WorkflowPrimitive
        from plait.primitives._decorators import make_step
        from plait.primitives._step import Step

        made = fn if isinstance(fn, WorkflowPrimitive) else make_step(fn)
        primitive: WorkflowPrimitive[Any, Any] = made if name is None else made.named(name)
        frame = self.numbered(primitive)
        if isinstance(primitive, Step):
            input_data = primitive.input_of(*args, **kwargs)
        else:
            (input_data,) = args
        return primitive, input_data, frame


async def _awaiting(awaitable: Awaitable[T]) -> T:
    return await awaitable


current_context: ContextVar[WorkflowContext | None] = ContextVar("plait_context", default=None)
"""The context that steps called as plain functions belong to."""
