"""What a passed deadline is to its caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from plait.primitives._concurrency import DeadlineExceededError
from plait.primitives._errors import StepTimeoutError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from plait.primitives._context import WorkflowContext

T = TypeVar("T")


async def run_within(
    seconds: float, call: Callable[[], Awaitable[T]], context: WorkflowContext
) -> T:
    """Run a call under a deadline.

    Args:
        seconds: The deadline, from now.
        call: What to run.
        context: The context at its place.

    Raises:
        StepTimeoutError: This deadline passed.
    """
    try:
        return await context.within(seconds, call)
    except DeadlineExceededError:
        msg = f"{context.label!r} did not finish within {seconds:g} s"
        raise StepTimeoutError(msg, seconds) from None
