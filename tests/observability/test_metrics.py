"""What Prometheus shows: scraped from the exporter, with names, labels and values."""

import re
import socket
import urllib.request
from pathlib import Path

import anyio
import pytest
from opentelemetry import metrics
from opentelemetry.metrics import NoOpMeterProvider

from plait import (
    CachePrimitive,
    MockPrimitive,
    ParallelPrimitive,
    WorkflowContext,
    observability,
    step,
)
from plait.durable import DurableRunner

pytestmark = pytest.mark.anyio


@step
async def double(number: int) -> int:
    return number * 2


@step
async def report(event, context: WorkflowContext) -> None:
    name, attributes = event
    context.report(name, **attributes)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def scraped(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    samples = {}
    for line in lines:
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            # The exporter says of each from which scope it is.
            labels = re.findall(r'(\w+)="([^"]*)"', name)
            own = tuple(pair for pair in labels if not pair[0].startswith("otel_scope"))
            samples[name.partition("{")[0], own] = float(value)
    return samples


async def test_prometheus_scrapes_every_metric_with_its_labels(tmp_path):
    port = free_port()
    telemetry = observability.configure("shop", traces=False, prometheus_port=port)
    merge = (double >> (double | str) >> ParallelPrimitive({"low": len, "high": str})).named(
        "merge"
    )
    try:
        await merge(1)
        with pytest.raises(OSError, match="down"):
            await MockPrimitive("broken", side_effect=OSError("down"))(1)
        async with DurableRunner(f"sqlite:///{tmp_path}/runs.db", workflows=[merge]) as runner:
            await runner.run(merge, 1)
        for event in (
            ("retry", {"attempt": 1}),
            ("fallback", {}),
            ("timeout", {"seconds": 1.0}),
            ("cache_hit", {}),
            ("cache_miss", {}),
            ("breaker_opened", {"breaker": "bank"}),
        ):
            await report(event)
        samples = scraped(port)
    finally:
        assert telemetry.shutdown()

    def value(name, **labels):
        return samples[name, tuple(sorted(labels.items()))]

    # What the dashboard asks for is there.
    dashboard = Path(__file__).parents[2] / "examples" / "jaeger" / "grafana" / "plait.json"
    asked = set(re.findall(r"\b(?:plait|sequential|parallel)_\w+", dashboard.read_text()))
    assert asked <= {name for name, _ in samples}

    for label in ("double", "parallel"):
        assert value("sequential_step_duration_seconds_count", step=label) >= 2
        assert value("sequential_step_duration_seconds_sum", step=label) > 0
    assert value("sequential_total_duration_seconds_count") == 2
    for label in ("double", "str", "low", "high"):
        assert value("parallel_branch_duration_seconds_count", branch=label) == 2
        assert value("parallel_branch_duration_seconds_sum", branch=label) > 0
    assert value("parallel_total_duration_seconds_count") == 4
    assert value("plait_runs_total", workflow="merge", state="completed") == 2
    assert value("plait_runs_total", workflow="broken", state="failed") == 1
    assert value("plait_runs_active", workflow="merge") == 0
    assert value("plait_retries_total", step="report") == 1
    assert value("plait_fallbacks_total", step="report") == 1
    assert value("plait_timeouts_total", step="report") == 1
    assert value("plait_cache_requests_total", step="report", result="hit") == 1
    assert value("plait_cache_requests_total", step="report", result="miss") == 1
    assert value("plait_circuit_breaker_state", breaker="bank") == 2
    assert value("plait_journal_commits_total") > 0
    assert value("plait_journal_commit_records_sum") >= 4
    assert value("plait_journal_commit_duration_seconds_sum") > 0


async def test_durations_are_in_buckets_for_seconds(measured):
    await (double >> double)(1)
    (point,) = measured("sequential_total_duration").values()
    assert point.explicit_bounds[0] < 0.001
    assert point.explicit_bounds[-1] > 60
    assert 0 < point.sum < 1


async def test_a_branch_that_is_cancelled_has_no_duration(measured):
    @step
    async def forever(_):
        await anyio.sleep_forever()

    with pytest.raises(OSError, match="down"):
        await (forever | MockPrimitive("broken", side_effect=OSError("down")))(1)
    assert set(measured("parallel_branch_duration")) == {(("branch", "broken"),)}


async def test_a_run_is_active_while_it_runs(measured):
    @step
    async def look(_):
        ((_, point),) = measured("plait_runs_active").items()
        return point.value

    assert await look(1) == 1
    (point,) = measured("plait_runs_active").values()
    assert point.value == 0


async def test_a_run_that_was_cancelled_is_counted_as_such(measured):
    with anyio.move_on_after(0.01):
        await step(anyio.sleep).named("nap")(60)
    assert set(measured("plait_runs")) == {(("state", "cancelled"), ("workflow", "nap"))}


async def test_metrics_say_in_which_trace_a_value_was_measured(measured, spans):
    await (double >> double)(1)
    (point,) = measured("sequential_step_duration").values()
    ids = {span.context.span_id for span in spans()}
    assert point.exemplars
    assert {exemplar.span_id for exemplar in point.exemplars} <= ids


async def test_a_provider_that_measures_nothing_costs_nothing():
    metrics.set_meter_provider(NoOpMeterProvider())
    assert WorkflowContext()._runtime is None


async def test_a_journal_without_metrics_measures_nothing(tmp_path):
    async with DurableRunner(f"sqlite:///{tmp_path}/runs.db") as runner:
        assert await runner.run(double, 1) == 2


async def test_a_cache_is_counted_by_how_it_answers(measured):
    cached = CachePrimitive(double, ttl_seconds=60)
    assert await (cached >> cached)(1) == 4
    assert await cached(1) == 2
    found = measured("plait_cache_requests").items()
    results = {dict(labels)["result"]: point.value for labels, point in found}
    assert results == {"miss": 2, "hit": 1}
