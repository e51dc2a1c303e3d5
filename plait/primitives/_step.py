"""Functions as primitives."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Generic,
    ParamSpec,
    TypeVar,
    overload,
)

import anyio.to_thread

from plait.primitives._base import In, Out, WorkflowPrimitive
from plait.primitives._context import WorkflowContext, current_context
from plait.primitives._signature import function_name, shape_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

A = TypeVar("A")
T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Arguments:
    """The input of a step that was called as a function, with other than one plain argument."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Step(WorkflowPrimitive[In, Out], Generic[In, P, Out]):
    """A function as a primitive: what `@step` makes, and what functions become when composed.

    Called, it takes the function's own arguments, without the context; inside a workflow the call
    is a node of that run. Composed, its input is the first parameter that is not the context.

    Args:
        function: A function, sync or async, or any other callable.
        name: Its name in paths and traces; the function's own where none is given.
        thread: Whether to run a sync function in a worker thread.
        at_most_once: Whether a durable run that was interrupted inside of it must not run it again.
        pair: Whether the second of two required parameters is the context without being annotated.

    Raises:
        TypeError: It is not callable, or a generator.
    """

    _is_leaf: ClassVar[bool] = True
    __name__: str

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        thread: bool = False,
        at_most_once: bool = False,
        pair: bool = False,
    ) -> None:
        if not callable(function):
            msg = f"a step is made of a function, got {function!r}"
            raise TypeError(msg)
        shape = shape_of(function, pair=pair)
        if thread and shape.is_async:
            msg = f"{function_name(function)!r} is async: thread=True is for functions that block"
            raise TypeError(msg)
        functools.update_wrapper(self, function, updated=())
        self._name = name or function_name(function)
        self._function = function
        self._shape = shape
        self.thread = thread
        self.at_most_once = at_most_once
        self._invoke = self._awaited(self._call_with())

    @overload  # type: ignore[override]
    def __call__(self: Step[object, [], T]) -> Coroutine[Any, Any, T]: ...
    @overload
    def __call__(
        self, input_data: In, /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, Out]: ...
    def __call__(  # type: ignore[misc]
        self, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, Any]:
        """Await the function; inside a workflow, as a node of that run."""
        context = current_context.get()
        if context is None:
            return self._invoke_arguments(Arguments(args, kwargs), WorkflowContext())
        if len(args) == 1 and not kwargs and self._shape.parameters:
            return self.execute(args[0], context)
        arguments = Arguments(args, kwargs)
        if context._runtime is None:
            return self._invoke_arguments(arguments, context)
        called: Any = self
        return context._runtime.run(called, _invoke_arguments, arguments, context)

    def execute(self, input_data: In, context: WorkflowContext) -> Coroutine[Any, Any, Out]:
        """Await the function with one input."""
        return self._invoke(input_data, context)

    def _bare(self) -> Callable[[Any, WorkflowContext], Coroutine[Any, Any, Out]]:
        return self._invoke

    def _invoke_arguments(
        self, arguments: Arguments, context: WorkflowContext
    ) -> Coroutine[Any, Any, Out]:
        args, kwargs, shape = arguments.args, arguments.kwargs, self._shape
        if shape.context_index is not None and shape.context_index <= len(args):
            args = (*args[: shape.context_index], context, *args[shape.context_index :])
        elif shape.context is not None:
            kwargs = {**kwargs, shape.context: context}
        return self._awaited(self._function)(*args, **kwargs)

    def _call_with(self) -> Callable[[Any, WorkflowContext], Any]:
        """The function behind the one signature `(input, context)`, chosen once."""
        function, name, index = self._function, self._shape.context, self._shape.context_index
        if self._shape.parameters:
            if name is None:
                return lambda input_data, _: function(input_data)
            if index == 1:
                return function
            if index == 0:
                return lambda input_data, context: function(context, input_data)
            return lambda input_data, context: function(input_data, **{name: context})
        if name is None:
            return lambda _, __: function()
        if index == 0:
            return lambda _, context: function(context)
        return lambda _, context: function(**{name: context})

    def _awaited(self, call: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
        """The same call as a coroutine function."""
        if self._shape.is_async:
            return call
        if self.thread:

            async def in_thread(*args: Any, **kwargs: Any) -> Any:
                return await anyio.to_thread.run_sync(functools.partial(call, *args, **kwargs))

            return in_thread

        async def inline(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            # A lambda or a wrapper around an async function shows only when it is called.
            return await result if hasattr(result, "__await__") else result

        return inline


def _invoke_arguments(
    step: Step[Any, ..., T], arguments: Arguments, context: WorkflowContext
) -> Coroutine[Any, Any, T]:
    return step._invoke_arguments(arguments, context)


def as_primitive(operand: Any) -> WorkflowPrimitive[Any, Any]:
    """Take what may stand in a composition: a primitive, or a function of one or two arguments.

    Args:
        operand: The primitive or function.

    Raises:
        TypeError: It is neither; the message names it.
    """
    if isinstance(operand, WorkflowPrimitive):
        step: WorkflowPrimitive[Any, Any] = operand
    elif callable(operand):
        step = Step(operand, pair=True)
    else:
        msg = (
            f"cannot compose {operand!r} ({type(operand).__name__}): it is neither a primitive nor "
            "a function of one argument (input) or two (input, context)"
        )
        raise TypeError(msg)
    if isinstance(step, Step) and step._shape.required > 1:
        msg = (
            f"cannot compose {step.name!r}, which needs {step._shape.required} arguments "
            f"({', '.join(step._shape.parameters)}): a step in a composition gets one input; call "
            "it from the body of a workflow instead"
        )
        raise TypeError(msg)
    return step


class StepDecorator:
    """Make a function, sync or async, a primitive.

    A parameter annotated `WorkflowContext` is filled with the context. A sync function runs on the
    event loop's own thread, so that short ones cost nothing; give one that blocks `thread=True`.

    Args:
        function: The function.
        name: Its name in paths and traces; the function's own where none is given.
        thread: Run a sync function in a worker thread.
        at_most_once: Never run it a second time in a durable run that was interrupted inside of it.

    Raises:
        TypeError: It is not callable, a generator, or async with `thread=True`.

    Example:
        >>> import asyncio
        >>> from plait import step
        >>> @step
        ... async def add(left: int, right: int = 1) -> int:
        ...     return left + right
        >>> asyncio.run(add(2, right=3))
        5
        >>> (add >> add).run_sync(0)
        2
    """

    def __init__(
        self, *, name: str | None = None, thread: bool = False, at_most_once: bool = False
    ) -> None:
        self._options: dict[str, Any] = {
            "name": name,
            "thread": thread,
            "at_most_once": at_most_once,
        }

    @overload
    def __call__(
        self, function: Callable[Concatenate[A, WorkflowContext, P], Awaitable[T]], /
    ) -> Step[A, P, T]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[WorkflowContext, A, P], Awaitable[T]], /
    ) -> Step[A, P, T]: ...
    @overload
    def __call__(
        self, function: Callable[[WorkflowContext], Awaitable[T]], /
    ) -> Step[object, [], T]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[Concatenate[A, P], Awaitable[T]], /
    ) -> Step[A, P, T]: ...
    @overload
    def __call__(self, function: Callable[[], Awaitable[T]], /) -> Step[object, [], T]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[A, WorkflowContext, P], T], /
    ) -> Step[A, P, T]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[WorkflowContext, A, P], T], /
    ) -> Step[A, P, T]: ...
    @overload
    def __call__(self, function: Callable[[WorkflowContext], T], /) -> Step[object, [], T]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[A, P], T], /) -> Step[A, P, T]: ...
    @overload
    def __call__(self, function: Callable[[], T], /) -> Step[object, [], T]: ...
    @overload
    def __call__(
        self, *, name: str | None = None, thread: bool = False, at_most_once: bool = False
    ) -> StepDecorator: ...
    def __call__(self, function: Callable[..., Any] | None = None, **options: Any) -> Any:
        """Decorate a function, or take options and decorate one later."""
        if function is None:
            return StepDecorator(**options)
        return Step(function, **self._options)


step = StepDecorator()
