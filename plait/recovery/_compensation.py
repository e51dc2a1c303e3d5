"""Undoing what had finished when a later part of the run fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from plait.primitives._base import In, Out, WorkflowPrimitive
from plait.primitives._compensation import compensate, finished_before, scope_of
from plait.primitives._decorators import as_primitive
from plait.primitives._errors import note_failure

if TYPE_CHECKING:
    from plait.primitives._base import Operand
    from plait.primitives._context import WorkflowContext

_FORWARD, _COMPENSATION = "forward", "compensation"


class CompensationPrimitive(WorkflowPrimitive[In, Out]):
    """Executes a primitive, and undoes it when a later part of the run fails or is cancelled.

    What had finished is undone in reverse order, each compensation with the result of its own
    forward primitive; none is cancelled, and one that fails is logged, noted on the error and does
    not stop the others. Then the error goes on that they were run for ("Sagas", Garcia-Molina and
    Salem, 1987).

    A node whose failure somebody handles has been undone by then: the attempt that a retry makes
    again, the primary of a fallback, a branch whose failure is collected, a step that a workflow's
    own `try` is around. What had finished before that node is left alone. Nodes inside of `forward`
    that have compensations of their own are undone too, after it.

    Args:
        forward: What is executed.
        compensation: What undoes it, given its result. In a durable run it may be executed again
            when it was interrupted, as every step.

    Raises:
        TypeError: One of them cannot be composed.

    Example:
        >>> from plait import CompensationPrimitive, step
        >>> @step
        ... async def reserve(seat: str) -> str:
        ...     return f"seat {seat}"
        >>> @step
        ... async def release(reservation: str) -> None:
        ...     print(f"released {reservation}")
        >>> @step
        ... async def pay(reservation: str) -> str:
        ...     raise PermissionError("card declined")
        >>> booking = CompensationPrimitive(reserve, release) >> pay
        >>> try:
        ...     booking.run_sync("12A")
        ... except PermissionError as error:
        ...     print(error)
        released seat 12A
        card declined
    """

    _kind: ClassVar[str] = "compensation"
    _is_leaf: ClassVar[bool] = False

    def __init__(self, forward: Operand[In, Out], compensation: Operand[Out, Any]) -> None:
        self._places: dict[str, WorkflowPrimitive[Any, Any]] = {
            _FORWARD: as_primitive(forward),
            _COMPENSATION: as_primitive(compensation),
        }

    async def execute(self, input_data: In, context: WorkflowContext) -> Out:
        """Execute the forward primitive, and remember how to undo it."""
        # The view of a sequence moves on; this node's place is needed when it has.
        own = context if context._cursor is None else context.open(self)
        self._check(own)
        frame = own.enter(self, _FORWARD)
        try:
            result: Out = await self._places[_FORWARD].execute(input_data, frame)
        except Exception as error:
            note_failure(error, frame)
            raise
        except BaseException as cancelled:
            finished = finished_before(cancelled, frame.path)
            if finished is not None:
                self._compensate(finished[0], own)
            raise
        self._compensate(result, own)
        return result

    @property
    def label(self) -> str:
        """The label of what is executed."""
        return self._name or self._places[_FORWARD].label

    @property
    def children(self) -> tuple[WorkflowPrimitive[Any, Any], ...]:
        """What is executed, and what undoes it."""
        return tuple(self._places.values())

    def _check(self, own: WorkflowContext) -> None:
        is_root = own._primitive is None or (own._primitive is self and own.is_root)
        if scope_of(own) is None and not is_root:
            msg = (
                f"nothing would undo {own.path!r}: a primitive that executes others lists them in "
                "its `children`, and the one around it does not"
            )
            raise RuntimeError(msg)

    def _compensate(self, result: Any, own: WorkflowContext) -> None:
        compensate(self._places[_COMPENSATION], result, own.enter(self, _COMPENSATION))

    @property
    def _compensates(self) -> bool:
        return True

    @property
    def _is_scope(self) -> bool:
        # What has finished in it is undone with it, by the scope around.
        return False

    def _spec(self) -> dict[str, Any]:
        return dict(self._places)

    def _place(self, cursor: str) -> tuple[str, WorkflowPrimitive[Any, Any]]:
        return f"/{cursor}", self._places[cursor]
