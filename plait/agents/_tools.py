"""Steps as tools of agents."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Concatenate, TypeVar, overload

from pydantic_ai import Tool

from plait.agents._nodes import ToolCallPrimitive
from plait.primitives import Step, WorkflowContext, WorkflowPrimitive
from plait.primitives._base import In, Out
from plait.primitives._context import current_context
from plait.primitives._step import P

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

A = TypeVar("A")
T = TypeVar("T")


class ToolStep(Step[In, P, Out]):
    """A step that is also a tool of agents: what `@tool` makes.

    A model is shown the function's signature without the context, and its docstring.
    """

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        super().__init__(function, **options)
        if self._shape.signature is None:
            msg = f"{self.name!r} has no signature that a model could be shown"
            raise TypeError(msg)
        # What pydantic-ai makes the tool's schema of.
        self.__name__ = self.name
        self.__signature__ = self._shape.signature
        self.__annotations__ = {
            name: kind
            for name, kind in getattr(function, "__annotations__", {}).items()
            if name != self._shape.context
        }

    @overload  # type: ignore[override]
    async def __call__(self: ToolStep[object, [], T]) -> T: ...
    @overload
    async def __call__(self, input_data: In, /, *args: P.args, **kwargs: P.kwargs) -> Out: ...
    async def __call__(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]
        """Await the function; inside a workflow, as a node of that run."""
        return await _call(self, self.name, self.input_of(*args, **kwargs))


class ToolDecorator:
    """Make a function, sync or async, a step that is also a tool of agents.

    The step is handed to `Agent(tools=[...])`, composed, called in workflows, or all of that. A
    parameter annotated `WorkflowContext` is filled with the context, and not shown to models.

    Args:
        function: The function, with annotations and a docstring for the model to read.
        name: Its name in paths and for models; the function's own where none is given.
        thread: Run a sync function in a worker thread.
        at_most_once: Never run it a second time in a durable run that was interrupted inside of it.

    Example:
        >>> from pydantic_ai import Agent
        >>> from pydantic_ai.models.test import TestModel
        >>> from plait.agents import AgentPrimitive, tool
        >>> @tool
        ... async def population(city: str) -> int:
        ...     '''How many people live in a city.'''
        ...     return {"a": 3}[city]
        >>> agent = Agent(TestModel(), name="counter", tools=[population])
        >>> AgentPrimitive(agent).run_sync("How many?")
        '{"population":3}'
        >>> population.run_sync("a")
        3
    """

    def __init__(self, **options: Any) -> None:
        self._options = options

    @overload
    def __call__(
        self, function: Callable[Concatenate[A, WorkflowContext, P], Awaitable[T]], /
    ) -> ToolStep[A, P, T]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[WorkflowContext, A, P], Awaitable[T]], /
    ) -> ToolStep[A, P, T]: ...
    @overload
    def __call__(
        self, function: Callable[[WorkflowContext], Awaitable[T]], /
    ) -> ToolStep[object, [], T]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[Concatenate[A, P], Awaitable[T]], /
    ) -> ToolStep[A, P, T]: ...
    @overload
    def __call__(self, function: Callable[[], Awaitable[T]], /) -> ToolStep[object, [], T]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[A, WorkflowContext, P], T], /
    ) -> ToolStep[A, P, T]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[WorkflowContext, A, P], T], /
    ) -> ToolStep[A, P, T]: ...
    @overload
    def __call__(self, function: Callable[[WorkflowContext], T], /) -> ToolStep[object, [], T]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[A, P], T], /) -> ToolStep[A, P, T]: ...
    @overload
    def __call__(self, function: Callable[[], T], /) -> ToolStep[object, [], T]: ...
    @overload
    def __call__(
        self, *, name: str | None = None, thread: bool = False, at_most_once: bool = False
    ) -> ToolDecorator: ...
    def __call__(self, function: Callable[..., Any] | None = None, **options: Any) -> Any:
        """Decorate a function, or take options and decorate one later."""
        if function is None:
            return ToolDecorator(**options)
        return ToolStep(function, **self._options)


tool = ToolDecorator()


def as_tool(
    primitive: WorkflowPrimitive[Any, Any], *, name: str | None = None, **options: Any
) -> Tool[Any]:
    """A primitive as a tool: a step, or wrappers around one, such as a retry.

    Args:
        primitive: What is executed. Models are shown the signature and docstring of the step
            inside.
        name: The tool's name; the step's own where none is given.
        options: What else `pydantic_ai.Tool` takes, such as `requires_approval=True`.

    Raises:
        TypeError: There is no step inside of it whose signature could be shown.

    Example:
        >>> from pydantic_ai import Agent
        >>> from pydantic_ai.models.test import TestModel
        >>> from plait import RetryPrimitive, step
        >>> from plait.agents import AgentPrimitive, as_tool
        >>> @step
        ... async def population(city: str) -> int:
        ...     return 3
        >>> agent = Agent(TestModel(), name="counter", tools=[as_tool(RetryPrimitive(population))])
        >>> AgentPrimitive(agent).run_sync("How many?")
        '{"population":3}'
    """
    inside = primitive
    while not isinstance(inside, Step) and len(inside.children) == 1:
        (inside,) = inside.children
    if not isinstance(inside, Step):
        msg = f"cannot make a tool of {primitive}: there is no single step that says what it takes"
        raise TypeError(msg)
    shown = inside if isinstance(inside, ToolStep) else ToolStep(inside._function, name=inside.name)

    async def call(*args: Any, **kwargs: Any) -> Any:
        return await _call(primitive, known_as, shown.input_of(*args, **kwargs))

    known_as = call.__name__ = name or shown.name
    call.__doc__ = inspect.getdoc(shown)
    vars(call)["__signature__"] = shown.__signature__
    call.__annotations__ = shown.__annotations__
    return Tool(call, name=known_as, **options)


async def _call(primitive: WorkflowPrimitive[Any, Any], name: str, input_data: Any) -> Any:
    context = current_context.get() or WorkflowContext()
    caller = context._primitive
    is_node = isinstance(caller, ToolCallPrimitive) and caller.tool == name and not context._calls
    if is_node and isinstance(primitive, Step) and not primitive.at_most_once:
        # The agent's call of this tool is a node already.
        return await primitive.call(input_data, context)
    return await primitive.execute(input_data, context)
