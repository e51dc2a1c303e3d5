"""A choice between two primitives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from plait.primitives._base import In, Out, WorkflowPrimitive
from plait.primitives._decision import Decision
from plait.primitives._decorators import as_primitive
from plait.primitives._errors import note_failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from plait.primitives._base import Operand
    from plait.primitives._context import WorkflowContext


_CONDITION, _THEN, _ELSE = "condition", "then", "else"


class ConditionalPrimitive(WorkflowPrimitive[In, Out]):
    """Executes one of two primitives; a durable run keeps to the branch that it took.

    Args:
        condition: Is given the input and the context, or the input alone; sync or async.
        then_primitive: Executed where the condition holds.
        else_primitive: Executed where it does not; without one the input passes through.

    Raises:
        TypeError: One of them cannot be composed.

    Example:
        >>> from plait import ConditionalPrimitive
        >>> shorten = ConditionalPrimitive(lambda text: len(text) > 5, lambda text: text[:5] + "…")
        >>> shorten.run_sync("workflow"), shorten.run_sync("plait")
        ('workf…', 'plait')
    """

    _kind: ClassVar[str] = "conditional"
    _is_leaf: ClassVar[bool] = False

    def __init__(
        self,
        condition: Callable[..., Any],
        then_primitive: Operand[In, Out],
        else_primitive: Operand[In, Out] | None = None,
    ) -> None:
        self._condition = condition
        self._places: dict[str, WorkflowPrimitive[Any, Any]] = {
            _CONDITION: Decision(condition, bool),
            _THEN: as_primitive(then_primitive),
        }
        if else_primitive is not None:
            self._places[_ELSE] = as_primitive(else_primitive)

    async def execute(self, input_data: In, context: WorkflowContext) -> Out:
        """Decide, then execute the branch."""
        frame = context.enter(self, _CONDITION)
        try:
            holds = await self._places[_CONDITION].execute(input_data, frame)
            frame._cursor = _THEN if holds else _ELSE
            branch = self._places.get(frame._cursor)
            output: Any = input_data
            if branch is not None:
                output = await branch.execute(input_data, frame)
        except Exception as error:
            note_failure(error, frame)
            raise
        result: Out = output
        return result

    @property
    def children(self) -> tuple[WorkflowPrimitive[Any, Any], ...]:
        """The condition, then the branches."""
        return tuple(self._places.values())

    def __str__(self) -> str:
        if self._name is not None:
            return self._name
        condition, *branches = (str(child) for child in self._places.values())
        return f"if {condition} then {' else '.join(branches)}"

    def _spec(self) -> dict[str, Any]:
        return {
            "condition": self._condition,
            "then_primitive": self._places[_THEN],
            "else_primitive": self._places.get(_ELSE),
        }

    def _place(self, cursor: str) -> tuple[str, WorkflowPrimitive[Any, Any]]:
        return f"/{cursor}", self._places[cursor]
