"""The runtime that the code of a step is given, in which nothing waits for what Restate keeps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from plait.durable.restate._errors import UnsupportedOnRestateError
from plait.primitives import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from plait.primitives import WorkflowContext

T = TypeVar("T")


class InStep(Runtime):
    """What the code of a step is given: it waits for nothing that a replay would have to know."""

    def time(self) -> float:
        """The wall clock's time, which the deadlines around the step are told in."""
        return time.time()

    async def wait_for(
        self, signal: str, payload_type: Any, timeout: float | None, context: WorkflowContext
    ) -> Any:
        """Refuse: a step that waits cannot leave memory."""
        raise refused(context, f"waits for the signal {signal!r} inside of a step")

    async def set_event(self, name: str, value: Any, context: WorkflowContext) -> None:
        """Refuse: what a step does is kept when it has ended."""
        raise refused(context, f"sets the event {name!r} inside of a step")

    def entity(
        self, kind: type[T], key: str, default: Callable[[], T], context: WorkflowContext
    ) -> AbstractAsyncContextManager[T]:
        """Refuse: a run on Restate has no state but its own."""
        raise refused(context, f"holds the entity {kind.__qualname__} {key!r}")


def refused(context: WorkflowContext, what: str) -> UnsupportedOnRestateError:
    """The error of a node that does what Restate cannot carry."""
    return UnsupportedOnRestateError(f"{context.path!r} {what}, which Restate cannot carry")
