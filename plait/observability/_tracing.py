"""The runtime that makes a span of every node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode

from plait.primitives import Runtime
from plait.primitives._errors import note_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

    from plait.primitives import WorkflowContext, WorkflowPrimitive

In = TypeVar("In")
T = TypeVar("T")


class TracingRuntime(Runtime):
    """Executes each node inside of a span: its parent's child, and current while it runs.

    Args:
        tracer: What makes the spans.
        inner: The runtime to go on with.
    """

    def __init__(self, tracer: trace.Tracer, inner: Runtime | None = None) -> None:
        super().__init__(inner)
        self._tracer = tracer

    async def perform(
        self,
        primitive: WorkflowPrimitive[In, T],
        execute: Callable[[Any, In, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: In,
        context: WorkflowContext,
    ) -> T:
        """Execute a node in its span."""
        with self._tracer.start_as_current_span(
            primitive.name,
            _parent(context),
            attributes=_attributes(primitive, context),
            # An error passes each node on its way up; it is recorded where it was raised.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                return await super().perform(primitive, execute, input_data, context)
            except Exception as error:
                _record(span, error, context)
                raise


def _parent(context: WorkflowContext) -> Context | None:
    """Where the span of a run's root hangs, if its caller said so; others hang where they run."""
    parent = context.parent_span
    if parent is None or not context.is_root:
        return None
    if isinstance(parent, trace.Span):
        return trace.set_span_in_context(parent)
    found: Any = parent
    context_of_caller: Context = found
    return context_of_caller


def _attributes(
    primitive: WorkflowPrimitive[Any, Any], context: WorkflowContext
) -> Mapping[str, AttributeValue]:
    return {
        "plait.path": context.path,
        "plait.primitive": type(primitive).__name__,
        "plait.run_id": context.run_id,
        "plait.attempt": context.attempt,
        "plait.workflow": context.workflow_id or context.path.partition("/")[0],
    }


def _record(span: trace.Span, error: Exception, context: WorkflowContext) -> None:
    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
    if note_failure(error, context):
        span.record_exception(error)
