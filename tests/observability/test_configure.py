"""The one call that sets it all up, and what it refuses."""

import logging
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import anyio
import pytest
import structlog
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter

from plait import WorkflowContext, observability, step
from plait.durable import DurableRunner
from plait.observability import Instrument
from plait.observability._exporters import Destination, span_exporters
from plait.primitives import _providers

pytestmark = pytest.mark.anyio

OFF = {"traces": False, "metrics": False}


@step
async def double(number: int) -> int:
    return number * 2


class Counting(Instrument):
    nodes = 0

    def on_start(self, node):
        self.nodes += 1


@pytest.fixture(autouse=True)
def _without_variables(monkeypatch):
    for signal in ("TRACES", "METRICS", "LOGS"):
        monkeypatch.setenv(f"OTEL_{signal}_EXPORTER", "none")


async def test_what_is_configured_holds_until_it_is_shut_down():
    counting = Counting()
    with observability.configure("shop", instruments=[counting]) as telemetry:
        assert trace.get_tracer_provider() is telemetry.tracer_provider
        assert metrics.get_meter_provider() is telemetry.meter_provider
        await double(1)
        assert telemetry.flush()
    assert telemetry.shutdown()
    await double(1)
    assert counting.nodes == 1
    # The providers cannot be taken back, but nobody pays for them any more.
    assert WorkflowContext()._runtime is None


async def test_what_others_had_set_up_stays_after_the_shutdown():
    counting = Counting()
    observability.add_instrument(counting)
    observability.configure(**OFF).shutdown()
    await double(1)
    assert counting.nodes == 1


def test_the_service_is_named_in_the_resource():
    resource = {"deployment.environment.name": "test"}
    with observability.configure("shop", resource=resource) as telemetry:
        found = telemetry.tracer_provider.resource.attributes
    assert (found["service.name"], found["deployment.environment.name"]) == ("shop", "test")


def test_the_environment_names_the_service_where_the_call_does_not(monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from the environment")
    with observability.configure() as telemetry:
        found = telemetry.tracer_provider.resource.attributes
    assert found["service.name"] == "from the environment"


@pytest.mark.parametrize("signal", ["traces", "metrics"])
def test_what_the_application_has_set_up_is_not_set_up_again(signal, provider):
    metrics.set_meter_provider(MeterProvider(shutdown_on_exit=False))
    left_alone = {"metrics" if signal == "traces" else "traces": False}
    with pytest.raises(RuntimeError, match=f"{signal} are set up already, by opentelemetry.sdk"):
        observability.configure("shop", **left_alone)
    observability.configure("shop", **OFF).shutdown()
    assert trace.get_tracer_provider() is provider


async def test_a_disabled_sdk_is_not_set_up(monkeypatch):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with observability.configure("shop", otlp_endpoint="http://127.0.0.1:9") as telemetry:
        assert telemetry.tracer_provider is None
        assert WorkflowContext()._runtime is None


async def test_a_disabled_sdk_of_the_applications_own_costs_nothing(monkeypatch, request):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    request.getfixturevalue("provider")
    metrics.set_meter_provider(MeterProvider(shutdown_on_exit=False))
    assert WorkflowContext()._runtime is None


async def test_a_share_of_the_runs_is_traced(monkeypatch):
    with observability.configure(sample=0):

        @step
        async def is_traced(_) -> bool:
            return trace.get_current_span().is_recording()

        assert await is_traced(1) is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sample": 1.5}, "sample=1.5"),
        ({"otlp_endpoint": "localhost:4318"}, "'localhost:4318' is no address"),
        ({"metrics_endpoint": ""}, "'' is no address"),
        ({"protocol": "http/json"}, "protocol='http/json'"),
        ({"logs": "xml"}, "style='xml'"),
    ],
)
def test_what_is_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        observability.configure("shop", **arguments)
    assert WorkflowContext()._runtime is None
    # Nothing of it is left: the corrected call is the first.
    with observability.configure("shop") as telemetry:
        assert trace.get_tracer_provider() is telemetry.tracer_provider


def test_a_port_that_is_taken_is_an_error_and_leaves_nothing(http_receiver):
    port = urlsplit(http_receiver.endpoint).port
    with pytest.raises(OSError, match="in use"):
        observability.configure("shop", prometheus_port=port)
    observability.configure("shop").shutdown()


def test_an_exporter_that_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "carrier-pigeon")
    with pytest.raises(ValueError, match=r"names no exporter .*; there are: console, otlp"):
        observability.configure("shop")


def test_the_environment_chooses_exporters(monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console, none")
    (exporter,) = span_exporters(Destination(None, None, None))
    assert isinstance(exporter, ConsoleSpanExporter)


@pytest.mark.parametrize(
    ("variables", "endpoint", "protocol", "is_grpc"),
    [
        ({}, None, None, False),
        ({}, "http://jaeger:4317", None, True),
        ({}, "http://jaeger:4318", None, False),
        ({}, "http://jaeger:4317", "http/protobuf", False),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http://jaeger:4318", None, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, None, None, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://jaeger:4317"}, None, None, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://jaeger:4317"}, None, None, True),
    ],
)
def test_the_protocol_is_what_is_said_or_what_the_port_is_for(
    monkeypatch, variables, endpoint, protocol, is_grpc
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Destination(endpoint, protocol, None).is_grpc("traces") is is_grpc


def test_the_path_of_a_signal_is_added_to_an_address_without_one():
    def made(endpoint):
        return Destination(endpoint, "http/protobuf", {"key": "k"}).arguments("metrics")

    assert made("http://jaeger:4318/")["endpoint"] == "http://jaeger:4318/v1/metrics"
    whole = "http://prometheus:9090/api/v1/otlp/v1/metrics"
    assert made(whole) == {"endpoint": whole, "headers": {"key": "k"}}


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ImportError, match=r'pip install "plait\[otel\]"'):
        observability.configure("shop")


async def test_metrics_may_go_elsewhere(monkeypatch, http_receiver):
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    path = "/api/v1/otlp/v1/metrics"
    with observability.configure("shop", metrics_endpoint=http_receiver.endpoint + path):
        await double(1)
    assert http_receiver.bodies[path]


async def test_logs_are_shown_until_the_shutdown(capsys):
    root = logging.getLogger()
    level = root.level
    try:
        with observability.configure("shop", logs="json", **OFF):
            await double(1)
        assert WorkflowContext()._runtime is None
    finally:
        root.setLevel(level)
        structlog.reset_defaults()
    await double(1)
    assert capsys.readouterr().err.count("workflow_complete") == 1


def test_a_part_that_fails_to_end_is_logged_and_the_others_end(caplog):
    ended = []
    telemetry = observability.configure(**OFF)

    def fail():
        raise OSError("down")

    telemetry.hold(lambda: False, fail)
    telemetry.hold(None, lambda: ended.append(1))
    assert telemetry.flush() is False
    assert telemetry.shutdown() is False
    assert ended == [1]
    assert "telemetry was lost" in caplog.text


def test_a_part_that_does_not_end_is_not_waited_for():
    telemetry = observability.configure(**OFF)
    gone_on = threading.Event()
    telemetry.hold(None, gone_on.wait)
    began = time.monotonic()
    assert telemetry.shutdown(0.05) is False
    assert time.monotonic() - began < 2
    gone_on.set()


def test_while_the_interpreter_ends_parts_are_ended_one_after_the_other(monkeypatch):
    def refuse(_):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    ended = []
    telemetry = observability.configure(**OFF)
    telemetry.hold(None, lambda: ended.append(1))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert telemetry.shutdown()
    assert ended == [1]


def test_a_process_that_ends_without_a_shutdown_sends_what_it_has():
    script = (
        "from plait import observability, step\n"
        "observability.configure('shop', metrics=False)\n"
        "step(len).run_sync('plait')\n"
    )
    environment = {"OTEL_TRACES_EXPORTER": "console"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    assert '"plait.path": "len"' in done.stdout
    assert done.stderr == ""


def test_a_library_of_another_layout_is_asked_by_its_public_function(monkeypatch):
    class Layout:
        get_tracer_provider = staticmethod(lambda: "a provider")

    monkeypatch.setitem(sys.modules, "opentelemetry.trace", Layout)
    assert _providers.tracer_provider() == "a provider"
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    assert _providers.tracer_provider() is None


async def test_replayed_nodes_are_spans_where_they_are_asked_for(spans, tmp_path):
    is_down = True

    @step
    async def flaky(number: int) -> int:
        if is_down:
            raise OSError("down")
        return number

    pipeline = (double >> flaky).named("w")
    with observability.configure(**OFF, replayed=True):
        async with DurableRunner(f"sqlite:///{tmp_path}/runs.db", workflows=[pipeline]) as runner:
            run = await runner.start(pipeline, 1)
            with pytest.raises(OSError, match="down"):
                await run.result()
            is_down, before = False, len(spans())
            await (await run.resume()).result()
    again = {span.attributes["plait.path"]: span for span in spans()[before:]}
    assert set(again) == {"w", "w/1:double", "w/2:flaky"}
    assert again["w/1:double"].attributes["plait.replayed"] is True
    assert again["w/1:double"].parent.span_id == again["w"].context.span_id
    assert "plait.replayed" not in again["w/2:flaky"].attributes


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_runtime_is_made_once(loop, provider):
    found = []

    async def look():
        found.append(WorkflowContext()._runtime)

    anyio.run(look, backend=loop)
    anyio.run(look, backend=loop)
    assert found[0] is found[1] is not None


async def test_the_environment_names_the_receiver(monkeypatch, http_receiver):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", http_receiver.endpoint)
    with observability.configure():
        await double(1)
    assert [span.name for span in http_receiver.spans()] == ["double"]


async def test_where_nobody_has_imported_opentelemetry_a_context_is_observed_by_nobody(monkeypatch):
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    assert WorkflowContext()._runtime is None
