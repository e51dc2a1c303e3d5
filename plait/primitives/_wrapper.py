"""What wrappers share: one primitive inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from plait.primitives._base import In, Out, WorkflowPrimitive
from plait.primitives._decorators import as_primitive

if TYPE_CHECKING:
    from plait.primitives._base import Operand
    from plait.primitives._context import WorkflowContext


class Wrapper(WorkflowPrimitive[In, Out]):
    """A primitive around one other, by whose label it goes in paths.

    Args:
        primitive: The one inside.

    Raises:
        TypeError: It cannot be composed.
    """

    _is_leaf: ClassVar[bool] = False
    _inside: ClassVar[str] = ""

    def __init__(self, primitive: Operand[Any, Any]) -> None:
        self._primitive = as_primitive(primitive)

    @property
    def label(self) -> str:
        """The label of what is inside."""
        return self._name or self._primitive.label

    @property
    def children(self) -> tuple[WorkflowPrimitive[Any, Any], ...]:
        """What is inside."""
        return (self._primitive,)

    async def _repeat(self, input_data: Any, context: WorkflowContext) -> None:
        frame = context.enter(self, 0)
        if frame._runtime is not None and frame._runtime.is_recorded(frame.path):
            await self._primitive.execute(input_data, frame)

    def _place(self, cursor: Any) -> tuple[str, WorkflowPrimitive[Any, Any]]:
        return self._inside.format(cursor), self._primitive
