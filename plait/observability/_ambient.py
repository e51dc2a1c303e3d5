"""Whether there is anybody to observe: the runtime of a new context."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plait.primitives import Runtime


def ambient_runtime() -> Runtime | None:
    """The tracing runtime where the application has set up OpenTelemetry, else None."""
    # Only the application imports opentelemetry.trace and sets a provider; until it does, this is
    # one look into a dict.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    from plait.observability._tracing import TracingRuntime

    return TracingRuntime(trace.get_tracer("plait"))
