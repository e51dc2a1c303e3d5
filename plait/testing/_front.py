"""A workflow with a runtime in front, which is at the same places as the workflow itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from plait.primitives import Runtime, Workflow, WorkflowContext, WorkflowPrimitive
from plait.primitives._base import In, Out
from plait.primitives._errors import noting
from plait.primitives._wrapper import Wrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import TypeAlias

    Execute: TypeAlias = Callable[[Any, Any, WorkflowContext], Coroutine[Any, Any, Any]]

T = TypeVar("T")
A = TypeVar("A")


class Around:
    """Executes a node, or what takes its place further in, with something around it.

    Args:
        primitive: The node.
        execute: What executes it.
        around: Is given what executes, what is executed, the input and the context.
    """

    def __init__(
        self,
        primitive: WorkflowPrimitive[Any, Any],
        execute: Execute,
        around: Callable[[Execute, Any, Any, WorkflowContext], Coroutine[Any, Any, Any]],
    ) -> None:
        self._primitive = primitive
        self._execute = execute
        self._around = around

    def __call__(
        self, primitive: WorkflowPrimitive[Any, Any], input_data: Any, context: WorkflowContext
    ) -> Coroutine[Any, Any, Any]:
        """Execute what is at the node in the end."""
        execute = self._execute
        if primitive is not self._primitive and not isinstance(execute, Around):
            execute = type(primitive)._undoored
        return self._around(execute, primitive, input_data, context)


class FrontRuntime(Runtime):
    """Stands in front of the runtime that a context has, for the nodes of one workflow."""

    def run(
        self,
        primitive: WorkflowPrimitive[A, T],
        execute: Callable[[Any, A, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: A,
        context: WorkflowContext,
    ) -> Coroutine[Any, Any, T]:
        """Give an execution its place, or have it given by the runtime that has its own way."""
        inner = self.inner
        while isinstance(inner, FrontRuntime):
            inner = inner.inner
        if inner is not None and type(inner).run is not Runtime.run:
            return inner.run(primitive, execute, input_data, context)
        node = context.open(primitive)
        return noting(self.perform(primitive, execute, input_data, node), node)

    async def whole(self, call: Coroutine[Any, Any, T], context: WorkflowContext) -> T:
        """Await the execution of the workflow as a whole, which this runtime was made for."""
        return await call


class _Direct(Generic[In, Out]):
    """`execute` without a door: a subclass below finds it here, and not in its own class."""

    _primitive: WorkflowPrimitive[Any, Any]
    _fronts: tuple[Callable[[Runtime | None], FrontRuntime], ...]

    def execute(self, input_data: In, context: WorkflowContext) -> Coroutine[Any, Any, Out]:
        """Execute the workflow with the runtimes in front of the context's own."""
        primitive = self._primitive
        if not isinstance(context, WorkflowContext):
            return primitive.execute(input_data, context)
        before = runtime = context._runtime
        fronts: list[FrontRuntime] = []
        for front in self._fronts:
            runtime = front(runtime)
            fronts.append(runtime)
        # What is called now has it, and all that is below that.
        context._runtime = runtime
        try:
            call = primitive.execute(input_data, context)
        finally:
            context._runtime = before
        for made in fronts:
            call = made.whole(call, context)
        return call


class Fronted(_Direct[In, Out], Wrapper[In, Out]):
    """A workflow with a runtime in front of it.

    It is no node of its own: paths, names and records are the workflow's.

    Args:
        primitive: The workflow.
        front: Makes the runtime for one run, given the one to go on with.
    """

    def __init__(
        self,
        primitive: WorkflowPrimitive[In, Out],
        front: Callable[[Runtime | None], FrontRuntime],
    ) -> None:
        inside = primitive._primitive if isinstance(primitive, Fronted) else primitive
        super().__init__(inside)
        before = primitive._fronts if isinstance(primitive, Fronted) else ()
        self._fronts = (*before, front)

    @property
    def name(self) -> str:
        """The workflow's name, with its version where it has one: what a durable runner goes by."""
        inside = self._primitive
        version = inside.version if isinstance(inside, Workflow) else None
        name = self._name or inside.name
        return name if version is None else f"{name}@{version}"

    def __str__(self) -> str:
        return str(self._primitive)

    def _bare(self) -> Callable[[Any, WorkflowContext], Coroutine[Any, Any, Any]]:
        return self.execute
