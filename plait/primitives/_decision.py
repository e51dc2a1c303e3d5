"""A function that decides which way a run goes: a node, so that a durable run remembers it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from plait.primitives._base import WorkflowPrimitive
from plait.primitives._decorators import as_primitive

if TYPE_CHECKING:
    from collections.abc import Callable

    from plait.primitives._context import WorkflowContext

T = TypeVar("T")


class Decision(WorkflowPrimitive[Any, T]):
    """Asks a function, and reads its answer.

    Args:
        function: Is given the input and the context, or the input alone; sync or async.
        read: Makes the decision of what the function returned.
        accepts: Whether a decision that was made before can still be followed.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        read: Callable[[Any], T],
        accepts: Callable[[T], bool] = lambda _: True,
    ) -> None:
        asked = as_primitive(function)
        self._name = asked.name
        self._ask = asked._bare()
        self._read = read
        self._is_accepted = accepts

    async def execute(self, input_data: Any, context: WorkflowContext) -> T:
        """Ask the function."""
        return self._read(await self._ask(input_data, context))

    def _accepts(self, result: Any) -> bool:
        return self._is_accepted(result)
