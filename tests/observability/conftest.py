"""Real receivers of OTLP, and OpenTelemetry as it is in a process that has set up nothing."""

import gzip
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.metrics import _internal as metrics
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once

from plait.observability import _settings

REQUESTS = {
    "traces": trace_service_pb2.ExportTraceServiceRequest,
    "metrics": metrics_service_pb2.ExportMetricsServiceRequest,
    "logs": logs_service_pb2.ExportLogsServiceRequest,
}


class Receiver:
    """Keeps the bytes that it is sent."""

    def __init__(self, protocol):
        self.protocol = protocol
        self.bodies = defaultdict(list)
        if protocol == "grpc":
            self._serve_grpc()
        else:
            self._serve_http()

    def requests(self, signal):
        return [REQUESTS[signal].FromString(body) for body in self.bodies[signal]]

    def spans(self):
        return [
            span
            for request in self.requests("traces")
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]

    def _serve_http(self):
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers["content-encoding"] == "gzip":
                    body = gzip.decompress(body)
                bodies[self.path.removeprefix("/v1/")].append(body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        self._stop = lambda: (server.shutdown(), server.server_close())

    def _serve_grpc(self):
        server = grpc.server(ThreadPoolExecutor(2))
        for signal, service in (
            ("traces", "trace.v1.TraceService"),
            ("metrics", "metrics.v1.MetricsService"),
            ("logs", "logs.v1.LogsService"),
        ):

            def export(body, _, kept=self.bodies[signal]):
                kept.append(body)
                return b""

            handlers = {"Export": grpc.unary_unary_rpc_method_handler(export)}
            name = f"opentelemetry.proto.collector.{service}"
            server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, handlers)])
        self.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        self._stop = lambda: server.stop(0).wait()

    def close(self):
        self._stop()


@pytest.fixture(scope="module", params=["http/protobuf", "grpc"])
def _receiver(request):
    receiver = Receiver(request.param)
    yield receiver
    receiver.close()


@pytest.fixture
def receiver(_receiver):
    """A receiver of OTLP, over HTTP and over gRPC."""
    for bodies in _receiver.bodies.values():
        bodies.clear()
    return _receiver


@pytest.fixture
def http_receiver():
    """Another one, over HTTP."""
    receiver = Receiver("http/protobuf")
    yield receiver
    receiver.close()


@pytest.fixture(autouse=True)
def _unset(monkeypatch):
    """Nothing is set up, as when a process starts, and nothing is left after the test."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(metrics, "_METER_PROVIDER", None)
    monkeypatch.setattr(metrics, "_METER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(metrics, "_PROXY_METER_PROVIDER", metrics._ProxyMeterProvider())
    monkeypatch.setattr(_settings, "_settings", _settings.Settings())


@pytest.fixture
def provider():
    """What an application sets up for traces."""
    provider = TracerProvider(shutdown_on_exit=False)
    trace.set_tracer_provider(provider)
    return provider


@pytest.fixture
def spans(provider):
    """The spans that have ended, in that order."""
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter.get_finished_spans


@pytest.fixture
def measured():
    """What an application sets up for metrics: the points of each, by name and attributes."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    metrics.set_meter_provider(provider)

    def points(name):
        return {
            tuple(sorted(point.attributes.items())): point
            for of_resource in reader.get_metrics_data().resource_metrics
            for of_scope in of_resource.scope_metrics
            for metric in of_scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        }

    return points
