"""Whether there is anybody to observe: the runtime of a new context."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from plait.observability._settings import settings
from plait.primitives._providers import meter_provider, tracer_provider

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from plait.observability._instrument import Instrument
    from plait.observability._settings import Settings
    from plait.primitives import Runtime

_made: tuple[Settings, object, object, Runtime | None] | None = None


def ambient_runtime() -> Runtime | None:
    """What tells spans, metrics and instruments of every node; None where there are none."""
    global _made  # noqa: PLW0603 - it stays the same until something else is set up
    held = settings()
    # The fast path of nearly every process; the SDK imports this module for metrics alone, too.
    if "opentelemetry.trace" not in sys.modules and not held.instruments:
        return None
    tracers, meters = tracer_provider(), meter_provider()
    if tracers is None and meters is None and not held.instruments:
        return None
    if _made is None or not (_made[0] is held and _made[1] is tracers and _made[2] is meters):
        _made = held, tracers, meters, _runtime(held, tracers, meters)
    return _made[3]


def _runtime(
    held: Settings, tracers: TracerProvider | None, meters: MeterProvider | None
) -> Runtime | None:
    instruments: list[Instrument] = []
    if tracers is not None and tracers not in held.retired:
        from opentelemetry.trace import NoOpTracer

        from plait.observability._tracing import Tracing

        tracer = tracers.get_tracer("plait")
        # OTEL_SDK_DISABLED leaves a provider whose tracers make nothing.
        if not isinstance(tracer, NoOpTracer):
            instruments.append(Tracing(tracer, marks_replayed=held.marks_replayed))
    if meters is not None and meters not in held.retired:
        from opentelemetry.metrics import NoOpMeter

        from plait.observability._metrics import Metrics

        meter = meters.get_meter("plait")
        if not isinstance(meter, NoOpMeter):
            instruments.append(Metrics(meter))
    instruments += held.instruments
    if not instruments:
        return None
    from plait.observability._runtime import ObservingRuntime

    return ObservingRuntime(instruments, held.payloads)
