"""What the application has set up of OpenTelemetry, without importing any of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

# They do nothing themselves, or stand in for one that is still to be set.
_STAND_INS = frozenset(
    {"NoOpMeterProvider", "NoOpTracerProvider", "ProxyTracerProvider", "_ProxyMeterProvider"}
)


def tracer_provider() -> TracerProvider | None:
    """The provider of tracers that the application has set, or None."""
    provider: TracerProvider | None = _set_in(
        "opentelemetry.trace", "_TRACER_PROVIDER", "get_tracer_provider"
    )
    return provider


def meter_provider() -> MeterProvider | None:
    """The provider of meters that the application has set, or None."""
    provider: MeterProvider | None = _set_in(
        "opentelemetry.metrics._internal", "_METER_PROVIDER", "get_meter_provider"
    )
    return provider


def current_trace() -> dict[str, str]:
    """The ids of the span that is current, as logs have them; empty where there is none."""
    trace = sys.modules.get("opentelemetry.trace")
    span = None if trace is None else trace.get_current_span().get_span_context()
    if span is None or not span.is_valid:
        return {}
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}


def _set_in(module: str, variable: str, function: str) -> Any:
    loaded = sys.modules.get(module)
    if loaded is None:
        return None
    # The public function looks into the environment each time, which takes longer than a step.
    provider = getattr(loaded, variable, loaded)
    if provider is loaded:
        provider = getattr(loaded, function)()
    return None if type(provider).__name__ in _STAND_INS else provider
