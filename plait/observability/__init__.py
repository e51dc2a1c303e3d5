"""Traces, metrics and logs of what runs, where the application has set them up."""

from plait.observability import propagation
from plait.observability._ambient import ambient_runtime
from plait.observability._configure import configure
from plait.observability._instrument import Instrument, Node
from plait.observability._log_styles import configure_logging
from plait.observability._payloads import Payloads, redact_secrets
from plait.observability._run_log import RunFilter, RunLog, add_run
from plait.observability._settings import add_instrument, remove_instrument
from plait.observability._telemetry import Telemetry
from plait.observability._timeline import Timing, render_timeline, timings_of
from plait.primitives._public import publish as _publish

__all__ = [
    "Instrument",
    "Node",
    "Payloads",
    "RunFilter",
    "RunLog",
    "Telemetry",
    "Timing",
    "add_instrument",
    "add_run",
    "ambient_runtime",
    "configure",
    "configure_logging",
    "propagation",
    "redact_secrets",
    "remove_instrument",
    "render_timeline",
    "timings_of",
]

_publish(globals())
