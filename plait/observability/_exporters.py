"""What sends spans, metrics and logs, chosen as OpenTelemetry's environment variables say."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.trace.export import SpanExporter

Signal: TypeAlias = Literal["traces", "metrics", "logs"]
Protocol: TypeAlias = Literal["http/protobuf", "grpc"]

_GRPC_PORT = 4317


class Destination:
    """Where a signal is sent; what is not given, the environment says.

    Args:
        endpoint: The address of the receiver, such as `http://localhost:4318`.
        protocol: "http/protobuf" or "grpc".
        headers: Sent along, such as an API key.

    Raises:
        ValueError: The endpoint is no address, or there is no such protocol.
    """

    def __init__(
        self,
        endpoint: str | None,
        protocol: Protocol | None,
        headers: Mapping[str, str] | None,
    ) -> None:
        if endpoint is not None and urlsplit(endpoint).scheme not in {"http", "https"}:
            msg = f"{endpoint!r} is no address of a receiver; one is 'http://localhost:4318'"
            raise ValueError(msg)
        if protocol is not None and protocol not in get_args(Protocol):
            msg = f'protocol={protocol!r} must be "http/protobuf" or "grpc"'
            raise ValueError(msg)
        self._endpoint = endpoint
        self._protocol = protocol
        self._headers = headers

    def is_grpc(self, signal: Signal) -> bool:
        """Whether gRPC is spoken to the receiver: where nobody says so, by its usual port."""
        said = (
            self._protocol
            or os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL")
            or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        )
        if said:
            return said == "grpc"
        endpoint = (
            self._endpoint
            or os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
            or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
        )
        return urlsplit(endpoint).port == _GRPC_PORT

    def is_default(self, signal: Signal) -> bool:
        """Whether neither the application nor the environment says where a signal goes."""
        variables = (f"OTEL_{signal.upper()}_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT")
        own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
        return self._endpoint is None and not any(map(os.environ.get, (*variables, own)))

    def arguments(self, signal: Signal) -> dict[str, Any]:
        """What the exporter of a signal is made with."""
        found: dict[str, Any] = {}
        if self._endpoint is not None:
            found["endpoint"] = self._endpoint
            if not self.is_grpc(signal) and urlsplit(self._endpoint).path in {"", "/"}:
                found["endpoint"] = f"{self._endpoint.rstrip('/')}/v1/{signal}"
        if self._headers is not None:
            found["headers"] = dict(self._headers)
        return found


def span_exporters(destination: Destination) -> list[SpanExporter]:
    """The exporters that `OTEL_TRACES_EXPORTER` names; OTLP where it names none."""
    return _exporters("traces", destination, default="otlp")


def metric_readers(destination: Destination) -> list[MetricReader]:
    """The readers that `OTEL_METRICS_EXPORTER` names; OTLP where it names none."""
    from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

    found = _exporters("metrics", destination, default="otlp")
    return [
        # Prometheus asks for its metrics by itself, so its exporter is a reader already.
        made if isinstance(made, MetricReader) else PeriodicExportingMetricReader(made)
        for made in found
    ]


def log_exporters(destination: Destination) -> list[LogRecordExporter]:
    """The exporters that `OTEL_LOGS_EXPORTER` names; none where it names none."""
    return _exporters("logs", destination, default="none")


def _exporters(signal: Signal, destination: Destination, *, default: str) -> list[Any]:
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    named = os.environ.get(variable) or default
    return [
        _made(signal, name.strip(), variable, destination)
        for name in named.split(",")
        if name.strip() != "none"
    ]


def _made(signal: Signal, name: str, variable: str, destination: Destination) -> Any:
    arguments: dict[str, Any] = {}
    if name == "otlp":
        name = "otlp_proto_grpc" if destination.is_grpc(signal) else "otlp_proto_http"
        arguments = destination.arguments(signal)
    from importlib.metadata import entry_points

    # OpenTelemetry's register of exporters, which other packages enter theirs into.
    group = f"opentelemetry_{signal}_exporter"
    for entry in entry_points(group=group, name=name):
        return entry.load()(**arguments)
    known = ", ".join(sorted({entry.name for entry in entry_points(group=group)}))
    msg = f"{variable}={name!r} names no exporter that is installed; there are: {known}, none"
    raise ValueError(msg)
