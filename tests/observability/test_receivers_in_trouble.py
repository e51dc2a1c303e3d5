"""A receiver that is away, slow or refusing costs spans, and never a run or its time."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anyio.to_thread
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from plait import observability, step

pytestmark = pytest.mark.anyio

STEPS = 400
RUNS = 20

chain = step(abs)
for _ in range(STEPS - 1):
    chain = chain >> abs


@pytest.fixture(params=["away", "slow", "refusing"])
def endpoint(request):
    """The address of a receiver in trouble."""
    if request.param == "away":
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
        yield f"http://127.0.0.1:{port}"
        return
    is_over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            if request.param == "slow":
                is_over.wait(30)
            self.send_response(503)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    is_over.set()
    server.shutdown()
    server.server_close()


async def run_all():
    began = time.perf_counter()
    for _ in range(RUNS):
        assert await chain(-1) == 1
    return time.perf_counter() - began


@pytest.fixture
def _impatient(monkeypatch):
    """A small queue, and exporters that give up soon and are gone before the next test."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "512")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "256")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")
    yield
    for thread in threading.enumerate():
        if thread.name.startswith(("Otel", "plait-telemetry")):
            thread.join(30)
            assert not thread.is_alive()


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
async def test_a_receiver_in_trouble_fails_and_slows_no_run(endpoint, protocol, monkeypatch):
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider(shutdown_on_exit=False))
    usual = await run_all()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    # More spans than the queue holds: what does not fit is dropped, and nobody waits.
    telemetry = observability.configure("shop", otlp_endpoint=endpoint, protocol=protocol)
    seconds = await run_all()
    began = time.perf_counter()
    await anyio.to_thread.run_sync(telemetry.shutdown, 0.2)
    assert time.perf_counter() - began < 10
    # To wait for the receiver, once for each batch of spans, would take ten seconds more.
    assert seconds < 5 + 5 * usual
