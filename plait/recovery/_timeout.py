"""A deadline."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from plait.primitives._base import In, Out
from plait.primitives._errors import StepTimeoutError, note_failure
from plait.primitives._wrapper import Wrapper

if TYPE_CHECKING:
    from plait.primitives._base import Operand
    from plait.primitives._context import WorkflowContext


class TimeoutPrimitive(Wrapper[In, Out]):
    """Executes a primitive, and cancels it when it takes too long.

    Only this deadline becomes a `StepTimeoutError`: a `TimeoutError` that the primitive raises by
    itself stays what it is. A step inside of it finds when its time is over in `context.deadline`.

    Args:
        primitive: What is executed.
        timeout_seconds: The deadline, in seconds from its start.

    Raises:
        ValueError: The deadline is not positive.
        TypeError: The primitive cannot be composed.

    Example:
        >>> import asyncio
        >>> from plait import StepTimeoutError, TimeoutPrimitive
        >>> try:
        ...     TimeoutPrimitive(asyncio.sleep, 0.01).run_sync(60)
        ... except StepTimeoutError as error:
        ...     print(error)
        'sleep' did not finish within 0.01 s
    """

    _kind: ClassVar[str] = "timeout"
    _inside: ClassVar[str] = "/timed"
    # Whether the deadline passed does not follow from what is inside.
    _is_leaf: ClassVar[bool] = True

    def __init__(self, primitive: Operand[In, Out], timeout_seconds: float) -> None:
        if not timeout_seconds > 0:
            msg = f"timeout_seconds={timeout_seconds!r} must be positive"
            raise ValueError(msg)
        super().__init__(primitive)
        self._seconds = timeout_seconds

    async def execute(self, input_data: In, context: WorkflowContext) -> Out:
        """Execute the primitive under the deadline."""
        frame = context.enter(self, 0)
        call = partial(self._primitive.execute, input_data, frame)
        try:
            result: Out = await frame.within(self._seconds, call)
        except Exception as error:
            if note_failure(error, frame) and isinstance(error, StepTimeoutError):
                frame.report("timeout", seconds=self._seconds)
            raise
        return result

    def _spec(self) -> dict[str, Any]:
        return {"primitive": self._primitive, "timeout_seconds": self._seconds}
