"""Other primitives in the place of a workflow's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from plait.primitives import WorkflowPrimitive
from plait.primitives._decorators import as_primitive
from plait.testing._front import Around, Fronted, FrontRuntime
from plait.testing._mock import MockPrimitive
from plait.testing._selection import Selection, Sightings, check

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from plait.primitives import Runtime, WorkflowContext

A = TypeVar("A")
T = TypeVar("T")
In = TypeVar("In")
Out = TypeVar("Out")


def with_mocks(
    workflow: WorkflowPrimitive[In, Out], mocks: Mapping[str, Any]
) -> WorkflowPrimitive[In, Out]:
    """A workflow with others in the place of some of its nodes: `workflow.with_mocks(mocks)`."""
    chosen = [(Selection(name), _mock(name, mock)) for name, mock in mocks.items()]
    check([selection for selection, _ in chosen], workflow)

    def front(inner: Runtime | None) -> FrontRuntime:
        return _Replacing(workflow, chosen, inner)

    return Fronted(workflow, front)


class _Replacing(FrontRuntime):
    """Executes something else in the place of some nodes."""

    def __init__(
        self,
        workflow: WorkflowPrimitive[Any, Any],
        mocks: list[tuple[Selection, WorkflowPrimitive[Any, Any]]],
        inner: Runtime | None,
    ) -> None:
        super().__init__(inner)
        self._mocks = mocks
        self._sightings = Sightings([selection for selection, _ in mocks], workflow)

    def perform(
        self,
        primitive: WorkflowPrimitive[A, T],
        execute: Callable[[Any, A, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: A,
        context: WorkflowContext,
    ) -> Coroutine[Any, Any, T]:
        """Execute a node, or what stands in for it."""
        path = context.path
        self._sightings.see(primitive, path)
        for selection, mock in self._mocks:
            if selection.takes(primitive, path):
                # What stands around the node (a fault, a recording) stands around its mock.
                own = execute if isinstance(execute, Around) else type(mock)._undoored
                return super().perform(mock, own, input_data, context)
        return super().perform(primitive, execute, input_data, context)

    async def whole(self, call: Coroutine[Any, Any, T], context: WorkflowContext) -> T:
        """Refuse mocks of what there was not in a whole run."""
        result = await call
        self._sightings.check(self)
        return result


def _mock(name: str, mock: Any) -> WorkflowPrimitive[Any, Any]:
    if isinstance(mock, WorkflowPrimitive) or callable(mock):
        made = as_primitive(mock)
    else:
        msg = (
            f"the mock for {name!r} is {mock!r}, which is neither a primitive nor a function; for "
            f"what always returns it: MockPrimitive(return_value={mock!r})"
        )
        raise TypeError(msg)
    if isinstance(made, MockPrimitive) and made._name is None:
        made._name = name  # for its messages
    return made
