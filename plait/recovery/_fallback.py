"""Another way where the first one fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from plait.primitives._base import In, Out, WorkflowPrimitive
from plait.primitives._decorators import as_primitive
from plait.primitives._errors import note_failure
from plait.recovery._match import ErrorMatch, matcher

if TYPE_CHECKING:
    from plait.primitives._base import Operand
    from plait.primitives._context import WorkflowContext


class FallbackPrimitive(WorkflowPrimitive[In, Out]):
    """Executes the primary, and where it fails each fallback in order until one succeeds.

    Where all fail, the primary's error is raised with a note for each fallback's.

    Args:
        primary: What is executed first.
        fallbacks: What is executed with the same input where that fails, at least one.
        fallback_on: Exception classes of the primary, or a function of its exception; any other is
            raised at once.

    Raises:
        ValueError: There are no fallbacks.
        TypeError: `fallback_on` is of another kind, or one of them cannot be composed.

    Example:
        >>> from plait import FallbackPrimitive
        >>> FallbackPrimitive(int, [float, str.title]).run_sync("four")
        'Four'
    """

    _repeats_input: ClassVar[bool] = True
    _kind: ClassVar[str] = "fallback"
    _is_leaf: ClassVar[bool] = False

    def __init__(
        self,
        primary: Operand[In, Out],
        fallbacks: Sequence[Operand[In, Out]],
        *,
        fallback_on: ErrorMatch = Exception,
    ) -> None:
        if not isinstance(fallbacks, Sequence):
            msg = f"fallbacks={fallbacks!r} of a FallbackPrimitive must be a list of primitives"
            raise TypeError(msg)
        self._ways: tuple[WorkflowPrimitive[Any, Any], ...] = tuple(
            map(as_primitive, (primary, *fallbacks))
        )
        if len(self._ways) == 1:
            msg = f"a FallbackPrimitive over {self._ways[0]} needs at least one fallback, got none"
            raise ValueError(msg)
        self._fallback_on = fallback_on
        self._falls_back = matcher(fallback_on, "fallback_on")

    async def execute(self, input_data: In, context: WorkflowContext) -> Out:
        """Execute the primary, then the fallbacks, until one succeeds."""
        frame = context.enter(self, 0)
        try:
            result: Out = await self._ways[0].execute(input_data, frame)
        except Exception as error:
            note_failure(error, frame)
            if not self._falls_back(error):
                raise
            for frame._cursor in range(1, len(self._ways)):
                if not frame.has_begun:
                    frame.report("fallback", fallback=frame.label, error=type(error).__name__)
                try:
                    result = await self._ways[frame._cursor].execute(input_data, frame)
                except Exception as failure:  # noqa: BLE001 - the primary's is raised
                    note_failure(failure, frame)
                    error.add_note(f"fallback {frame._cursor} ({frame.label}) failed: {failure!r}")
                else:
                    return result
            raise
        return result

    @property
    def label(self) -> str:
        """The primary's label."""
        return self._name or self._ways[0].label

    @property
    def children(self) -> tuple[WorkflowPrimitive[Any, Any], ...]:
        """The primary, then the fallbacks."""
        return self._ways

    def _spec(self) -> dict[str, Any]:
        primary, *fallbacks = self._ways
        return {"primary": primary, "fallbacks": fallbacks, "fallback_on": self._fallback_on}

    def _place(self, cursor: int) -> tuple[str, WorkflowPrimitive[Any, Any]]:
        return f"/fallback {cursor}" if cursor else "/primary", self._ways[cursor]
