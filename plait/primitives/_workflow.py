"""Imperative workflows: a plain `async def` that awaits steps as ordinary calls."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from plait.primitives._base import In, Out, WorkflowPrimitive
from plait.primitives._context import current_context
from plait.primitives._futures import Future, result_of, settle
from plait.primitives._step import P, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from plait.primitives._context import WorkflowContext


class Workflow(Step[In, P, Out]):
    """An async function whose calls of steps are nodes below it: what `@workflow` makes.

    A durable run executes its body again and finds the finished calls done, so what it does by
    itself, outside of steps, must be the same each time.

    Args:
        function: The async function.
        name: Its name in paths, traces and for the durable runner.
        version: Tells it from other ways of the same name: a durable run goes on with the version
            that it began with, and knows it as `name@version`.
        timeout: Its deadline, in seconds.

    Raises:
        TypeError: The function is not async.
        ValueError: The timeout is not positive.
    """

    _kind: ClassVar[str] = "workflow"
    _is_leaf: ClassVar[bool] = False
    _numbers_children: ClassVar[bool] = True
    _keeps_futures: ClassVar[bool] = True
    _may_compensate: ClassVar[bool] = True

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        version: str | None = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__(function, name=name)
        if not self._shape.is_async:
            msg = f"workflow {self.name!r} must be an `async def`"
            raise TypeError(msg)
        if timeout is not None and not timeout > 0:
            msg = f"timeout={timeout!r} of workflow {self.name!r} must be positive"
            raise ValueError(msg)
        self.version = version
        self.timeout = timeout

    async def execute(self, input_data: In, context: WorkflowContext) -> Out:
        """Execute the function, with the steps that it calls as nodes of this run."""
        token = current_context.set(context)
        result: Any
        try:
            call = partial(self.call, input_data, context)
            if self.timeout is None:
                result = await call()
            else:
                result = await context.within(self.timeout, call)
            if isinstance(result, Future):
                await settle([result], context)
                result = result_of(result)
        finally:
            current_context.reset(token)
        output: Out = result
        return output

    def _bare(self) -> Callable[[Any, WorkflowContext], Any]:
        return WorkflowPrimitive._bare(self)

    def _spec(self) -> dict[str, Any]:
        return {
            "function": self._function,
            "name": self._name,
            "version": self.version,
            "timeout": self.timeout,
        }
