"""The instrument that makes a span of every node."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from opentelemetry import propagate, trace
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import Link, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from plait.observability._instrument import Instrument, Node
from plait.observability._runtime import PARENT_RUN, TRACE
from plait.observability._text import text_of, utf8
from plait.primitives import Step
from plait.primitives._errors import Abort

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.util.types import AttributeValue

    from plait.primitives import WorkflowContext

    Started: TypeAlias = tuple[trace.Span, Context, Token[Context]]


class Tracing(Instrument):
    """A span for each node: its parent's child, and current while the node is executed.

    Args:
        tracer: What makes the spans.
        marks_replayed: Whether nodes that a resumed run finds done are spans too, with
            `plait.replayed` set.
    """

    def __init__(self, tracer: trace.Tracer, *, marks_replayed: bool = False) -> None:
        self._tracer = tracer
        self._marks_replayed = marks_replayed

    def on_start(self, node: Node) -> Started:
        """Start the node's span and make it the current one."""
        attributes = _attributes(node)
        around = get_current()
        parent = node.parent
        if node.input is not None:
            attributes["plait.input"] = utf8(node.input)
        if parent is None:
            around, links = _origin(node.context, around)
            attributes |= _of_the_run(node.context)
            start = self._tracer.start_span
            span = start(utf8(node.name), around, attributes=attributes, links=links)
        else:
            if parent is not node.caller and isinstance(parent.span, trace.Span):
                around = trace.set_span_in_context(parent.span, around)
            name = node.primitive.name
            if not name.isascii():
                name = utf8(name)
            span = self._tracer.start_span(name, around, attributes=attributes)
        node.span = span
        current = trace.set_span_in_context(span, around)
        return span, current, attach(current)

    def on_end(self, node: Node, started: Started) -> None:
        """End the node's span."""
        span, current, token = started
        # The garbage collector closes a coroutine in a context that is not its own.
        if not isinstance(node.error, GeneratorExit) or get_current() is current:
            detach(token)
        if node.result is not None:
            span.set_attribute("plait.result", utf8(node.result))
        if node.error is not None:
            _tell_error(span, node, node.error)
        span.end()

    def on_event(
        self, node: Node, event: str, attributes: Mapping[str, str | int | float | bool]
    ) -> None:
        """Add an event to the node's span."""
        if isinstance(node.span, trace.Span):
            node.span.add_event(event, {key: _plain(part) for key, part in attributes.items()})

    def on_replayed(self, node: Node) -> None:
        """Show a node that was not executed as a span without length."""
        if self._marks_replayed:
            attributes = _attributes(node) | {"plait.replayed": True}
            self._tracer.start_span(utf8(node.name), attributes=attributes).end()


def _attributes(node: Node) -> dict[str, AttributeValue]:
    # This costs as much as the span does: what all of a run's nodes have in common is made once.
    context, primitive, root = node.context, node.primitive, node._root or node
    shared = root._shared
    if shared is None:
        run_id, workflow = utf8(context.run_id), utf8(node.workflow)
        shared = root._shared = {"plait.run_id": run_id, "plait.workflow": workflow}
    path = context.path
    attributes: dict[str, AttributeValue] = {
        "plait.path": path if path.isascii() else utf8(path),
        "plait.primitive": type(primitive).__name__,
        "plait.attempt": context.attempt,
        **shared,
    }
    # An abstract class is asked only where a look does not tell.
    if type(primitive) is Step or isinstance(primitive, Step):
        attributes["code.function.name"] = f"{primitive.__module__}.{primitive.__qualname__}"
    return attributes


def _of_the_run(context: WorkflowContext) -> dict[str, AttributeValue]:
    """What is the same for all nodes of a run, and so is on the root's span alone."""
    attributes: dict[str, AttributeValue] = {"plait.correlation_id": utf8(context.correlation_id)}
    for key, value in context.metadata.items():
        attributes[utf8(f"plait.metadata.{key}")] = _plain(value)
    return attributes


def _plain(value: object) -> AttributeValue:
    """A value that an attribute may have."""
    if isinstance(value, bool | float):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    return text_of(value)


def _tell_error(span: trace.Span, node: Node, error: BaseException) -> None:
    if node.cancelled:
        span.set_attribute("plait.cancelled", True)
        return
    if isinstance(error, Abort):
        error = error.error
    kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    message = text_of(error)
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {message}"))
    # An error passes each node on its way up; it is recorded where it was raised.
    if node.raised_here and span.is_recording():
        # What the SDK's record_exception writes, in text that can be encoded.
        trace_of_calls = text_of("".join(traceback.format_exception(error)))
        span.add_event(
            "exception",
            {
                "exception.type": kind,
                "exception.message": message,
                "exception.stacktrace": trace_of_calls,
            },
        )


def _origin(context: WorkflowContext, current: Context) -> tuple[Context, tuple[Link, ...]]:
    """The context of OpenTelemetry that a run's root is in, and the spans that it is linked to."""
    links: tuple[Link, ...] = ()
    resumed_from = None if context._runtime is None else context._runtime.kept(TRACE)
    parent = context.parent_span
    if isinstance(parent, Context):
        current = parent
    elif isinstance(parent, trace.Span):
        current = trace.set_span_in_context(parent, current)
    elif isinstance(parent, Mapping):
        caller = trace.get_current_span(current)
        current = propagate.extract(parent, current)
        if parent.get(PARENT_RUN):
            # A trace of its own: it may outlive the run that started it by days.
            links = _link(current, "parent run", parent[PARENT_RUN])
            current = trace.set_span_in_context(trace.INVALID_SPAN, current)
        if resumed_from is not None:
            current = trace.set_span_in_context(caller, current)
    if resumed_from is not None:
        before = TraceContextTextMapPropagator().extract({"traceparent": resumed_from}, Context())
        links += _link(before, "resumed from", context.run_id)
    return current, links


def _link(target: Context, reason: str, run_id: str) -> tuple[Link, ...]:
    span_context = trace.get_current_span(target).get_span_context()
    if not span_context.is_valid:
        return ()
    return (Link(span_context, {"plait.link": reason, "plait.run_id": utf8(run_id)}),)
