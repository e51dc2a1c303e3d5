"""Traces of what runs: a span for every node, where the application has set up OpenTelemetry."""

from plait.observability._ambient import ambient_runtime
from plait.primitives._public import publish as _publish

__all__ = ["ambient_runtime"]

_publish(globals())
