"""The one call that an application makes to see its runs."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from plait.observability._exporters import (
    Destination,
    log_exporters,
    metric_readers,
    span_exporters,
)
from plait.observability._log_styles import configure_logging
from plait.observability._run_log import name_run
from plait.observability._settings import remove_instrument, settings
from plait.observability._telemetry import Telemetry
from plait.primitives._providers import meter_provider, tracer_provider

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from opentelemetry.sdk.resources import Resource

    from plait.observability._exporters import Protocol
    from plait.observability._instrument import Instrument
    from plait.observability._log_styles import LogStyle
    from plait.observability._payloads import Payloads


def configure(
    service_name: str | None = None,
    *,
    otlp_endpoint: str | None = None,
    metrics_endpoint: str | None = None,
    protocol: Protocol | None = None,
    headers: Mapping[str, str] | None = None,
    traces: bool = True,
    metrics: bool = True,
    sample: float | None = None,
    prometheus_port: int | None = None,
    logs: LogStyle | None = None,
    log_level: int | str = "INFO",
    resource: Mapping[str, str | bool | int | float] | None = None,
    instruments: Iterable[Instrument] = (),
    payloads: Payloads | None = None,
    replayed: bool = False,
) -> Telemetry:
    """Send traces and metrics of this process to where they are looked at, and show its logs.

    OpenTelemetry's environment variables say what is not given here: `OTEL_SERVICE_NAME`,
    `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_EXPORTER`, `OTEL_TRACES_SAMPLER`,
    `OTEL_SDK_DISABLED` and the others. Needs the extra: `pip install "plait[otel]"`.

    Args:
        service_name: What the application is called in Jaeger.
        otlp_endpoint: The receiver of OTLP, such as `http://localhost:4318` (HTTP) or
            `http://localhost:4317` (gRPC).
        metrics_endpoint: The receiver of metrics, where it is another one. Jaeger takes traces
            alone; Prometheus takes metrics at `http://localhost:9090/api/v1/otlp/v1/metrics`.
        protocol: "http/protobuf" or "grpc"; by the port where none is given.
        headers: Sent to the receivers, such as an API key.
        traces: Whether to set up traces; False leaves them to the application.
        metrics: Whether to set up metrics; False leaves them to the application.
        sample: The share of runs that is traced, from 0 to 1, where the caller has not decided.
        prometheus_port: Serve the metrics at this port for Prometheus to scrape, to this machine
            or at the address in `OTEL_EXPORTER_PROMETHEUS_HOST`.
        logs: Show logs on the standard error, "console" or "json"; see `configure_logging`.
        log_level: The least level of them.
        resource: More facts about this process, such as `{"deployment.environment.name": "test"}`.
        instruments: What else is told of every node.
        payloads: How inputs and results are shown on spans and to instruments; None for not at all.
        replayed: Whether nodes that a resumed run finds done are spans too.

    Returns:
        What to shut down when the application ends; a context manager.

    Raises:
        RuntimeError: The application has set up traces or metrics before.
        ValueError: An argument or variable is out of its range.
        ImportError: The extra is not installed.

    Example:
        >>> from plait import observability
        >>> with observability.configure("shop", traces=False, metrics=False):
        ...     pass  # anyio.run(main)
    """
    if sample is not None and not 0 <= sample <= 1:
        msg = f"sample={sample!r} must be from 0 to 1"
        raise ValueError(msg)
    spans_to = Destination(otlp_endpoint, protocol, headers)
    metrics_to = spans_to
    if metrics_endpoint is not None:
        metrics_to = Destination(metrics_endpoint, protocol, headers)
    if traces:
        _check_unset(tracer_provider(), "traces")
    if metrics:
        _check_unset(meter_provider(), "metrics")
    telemetry = Telemetry()
    try:
        if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true":
            described = _Described(service_name, resource or {})
            if traces:
                _set_up_traces(telemetry, described, spans_to, sample)
            if metrics:
                _set_up_metrics(telemetry, described, metrics_to, prometheus_port)
            _set_up_logs(telemetry, described, spans_to)
        if logs is not None:
            _show_logs(telemetry, logs, log_level)
    except BaseException:
        telemetry.shutdown()
        raise
    # Last, as a process can do it once.
    if telemetry.tracer_provider is not None:
        from opentelemetry.trace import set_tracer_provider

        set_tracer_provider(telemetry.tracer_provider)
    if telemetry.meter_provider is not None:
        from opentelemetry.metrics import set_meter_provider

        set_meter_provider(telemetry.meter_provider)
    telemetry.observe_with(tuple(instruments), payloads, marks_replayed=replayed)
    return telemetry


class _Described:
    """The facts about this process, made into a resource only where the SDK is there."""

    def __init__(
        self, service_name: str | None, facts: Mapping[str, str | bool | int | float]
    ) -> None:
        self._facts = dict(facts)
        if service_name is not None:
            self._facts["service.name"] = service_name

    def resource(self) -> Resource:
        from opentelemetry.sdk.resources import Resource

        return Resource.create(self._facts)


def _check_unset(provider: object, signal: str) -> None:
    if provider is not None:
        msg = (
            f"{signal} are set up already, by {type(provider).__module__}; configure() can be "
            f"called once in a process, and {signal}=False leaves them as they are"
        )
        raise RuntimeError(msg)


def _set_up_traces(
    telemetry: Telemetry, described: _Described, destination: Destination, sample: float | None
) -> None:
    with _needing_the_extra():
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    exporters = span_exporters(destination)
    provider = TracerProvider(
        sampler=None if sample is None else ParentBasedTraceIdRatio(sample),
        resource=described.resource(),
        shutdown_on_exit=False,
    )
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    telemetry.tracer_provider = provider
    telemetry.hold(provider.force_flush, provider.shutdown)


def _set_up_metrics(
    telemetry: Telemetry, described: _Described, destination: Destination, port: int | None
) -> None:
    with _needing_the_extra():
        from opentelemetry.sdk.metrics import MeterProvider

    # Whoever has Prometheus scrape, and names no receiver, has none.
    is_scraped_only = port is not None and destination.is_default("metrics")
    readers = [] if is_scraped_only else metric_readers(destination)
    if port is not None:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader
        from prometheus_client import start_http_server

        host = os.environ.get("OTEL_EXPORTER_PROMETHEUS_HOST", "localhost")
        server, _ = start_http_server(port, host)

        def stop() -> None:
            server.shutdown()
            server.server_close()

        telemetry.hold(None, stop)
        readers.append(PrometheusMetricReader())
    provider = MeterProvider(readers, described.resource(), shutdown_on_exit=False)
    telemetry.meter_provider = provider
    telemetry.hold(provider.force_flush, provider.shutdown)


def _set_up_logs(telemetry: Telemetry, described: _Described, destination: Destination) -> None:
    exporters = log_exporters(destination)
    if not exporters:
        return
    with _needing_the_extra():
        from opentelemetry.instrumentation.logging.handler import LoggingHandler
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    provider = LoggerProvider(described.resource(), shutdown_on_exit=False)
    for exporter in exporters:
        provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    handler = LoggingHandler(logger_provider=provider)
    handler.addFilter(name_run)
    root = logging.getLogger()
    root.addHandler(handler)
    telemetry.hold(provider.force_flush, provider.shutdown)
    telemetry.hold(None, lambda: root.removeHandler(handler))


def _show_logs(telemetry: Telemetry, style: LogStyle, level: int | str) -> None:
    before = settings().instruments
    handler = configure_logging(style, level=level)
    telemetry.hold(None, lambda: logging.getLogger().removeHandler(handler))
    for instrument in settings().instruments[len(before) :]:
        telemetry.hold(None, partial(remove_instrument, instrument))


@contextmanager
def _needing_the_extra() -> Generator[None]:
    try:
        yield
    except ImportError as error:
        msg = f'{error.name} is not installed; pip install "plait[otel]" brings it'
        raise ImportError(msg, name=error.name) from error
