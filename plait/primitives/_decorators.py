"""Functions as primitives: `@step`, `@workflow`, and what composing makes of an operand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, TypeVar, overload

from plait.primitives._base import WorkflowPrimitive
from plait.primitives._context import WorkflowContext
from plait.primitives._step import P, Step
from plait.primitives._tail import TailStep, may_return_future
from plait.primitives._workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from plait.primitives._futures import Future

A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")


def make_step(function: Callable[..., Any], **options: Any) -> Step[Any, ..., Any]:
    """A step of the kind that the function needs."""
    return (TailStep if may_return_future(function) else Step)(function, **options)


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
        step = make_step(operand, pair=True)
    else:
        msg = (
            f"cannot compose {operand!r} ({type(operand).__name__}): it is neither a primitive nor "
            "a function of one argument (input) or two (input, context)"
        )
        raise TypeError(msg)
    if isinstance(step, Step) and step._shape.required > 1:
        msg = (
            f"cannot compose {step.name!r}, which needs {step._shape.required} arguments "
            f"({', '.join(step._shape.parameters)}): in a composition, and on a runner, it gets "
            "one input; take one dataclass or dict, or call it from the body of a workflow"
        )
        raise TypeError(msg)
    if isinstance(step, Step) and step._shape.keywords:
        msg = (
            f"cannot compose {step.name!r}: it needs the keyword argument "
            f"{step._shape.keywords[0]!r}, which nobody passes it"
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
        needs: A tag, such as "gpu", or several: a durable run executes it on a runner that has
            them all among its `capabilities`. In process it means nothing.

    Raises:
        TypeError: It is not callable, a generator, or async with `thread=True`.
        ValueError: A tag is empty, or has a comma.

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
        self,
        *,
        name: str | None = None,
        thread: bool = False,
        at_most_once: bool = False,
        needs: str | Collection[str] = (),
    ) -> None:
        self._options: dict[str, Any] = {
            "name": name,
            "thread": thread,
            "at_most_once": at_most_once,
            "needs": needs,
        }

    @overload
    def __call__(
        self, function: Callable[Concatenate[A, WorkflowContext, P], Awaitable[Future[T]]], /
    ) -> Step[A, P, T]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[Concatenate[A, P], Awaitable[Future[T]]], /
    ) -> Step[A, P, T]: ...
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
        self,
        *,
        name: str | None = None,
        thread: bool = False,
        at_most_once: bool = False,
        needs: str | Collection[str] = (),
    ) -> StepDecorator: ...
    def __call__(self, function: Callable[..., Any] | None = None, **options: Any) -> Any:
        """Decorate a function, or take options and decorate one later."""
        if function is None:
            return StepDecorator(**options)
        return make_step(function, **self._options | options)


step = StepDecorator()


class WorkflowDecorator:
    """Make an async function a workflow: the steps that it awaits are nodes of the run.

    It runs the same with no runner at all and under one. A durable run executes the function again
    after an interruption and finds the finished calls done: what the function does by itself,
    outside of steps, must be the same each time.

    Args:
        function: The async function; any signature, a parameter annotated `WorkflowContext` is
            filled with the context.
        name: Its name in paths and traces, and the one by which a durable runner finds it.
        version: Tells it from other ways of the same name: a durable run goes on with the version
            that it began with, and knows it as `name@version`.
        timeout: Its deadline, in seconds.

    Raises:
        TypeError: The function is not async.
        ValueError: The timeout is not positive.

    Example:
        >>> from plait import step, workflow
        >>> @step
        ... async def price(item: str, count: int = 1) -> int:
        ...     return len(item) * count
        >>> @workflow
        ... async def total(items: list[str]) -> int:
        ...     return sum([await price(item, count=2) for item in items])
        >>> total.run_sync(["tea", "bread"])
        16
    """

    def __init__(self, **options: Any) -> None:
        self._options = options

    @overload
    def __call__(
        self, function: Callable[Concatenate[A, WorkflowContext, P], Awaitable[T]], /
    ) -> Workflow[A, P, T]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[A, B, WorkflowContext, P], Awaitable[T]], /
    ) -> Workflow[A, Concatenate[B, P], T]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[WorkflowContext, A, P], Awaitable[T]], /
    ) -> Workflow[A, P, T]: ...
    @overload
    def __call__(
        self, function: Callable[[WorkflowContext], Awaitable[T]], /
    ) -> Workflow[object, [], T]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[A, P], Awaitable[T]], /
    ) -> Workflow[A, P, T]: ...
    @overload
    def __call__(self, function: Callable[[], Awaitable[T]], /) -> Workflow[object, [], T]: ...
    @overload
    def __call__(
        self, *, name: str | None = None, version: str | None = None, timeout: float | None = None
    ) -> WorkflowDecorator: ...
    def __call__(self, function: Callable[..., Any] | None = None, **options: Any) -> Any:
        """Decorate a function, or take options and decorate one later."""
        if function is None:
            return WorkflowDecorator(**options)
        return Workflow(function, **self._options | options)


workflow = WorkflowDecorator()
