"""What a receiver of OTLP gets, decoded from its bytes: one trace a run, with the exact tree."""

import operator
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from opentelemetry import trace

from plait import (
    CachePrimitive,
    ConditionalPrimitive,
    FallbackPrimitive,
    MapPrimitive,
    MockPrimitive,
    ParallelPrimitive,
    ReducePrimitive,
    RetryPrimitive,
    RouterPrimitive,
    TimeoutPrimitive,
    WorkflowContext,
    observability,
    step,
    workflow,
)
from plait.recovery import constant

pytestmark = pytest.mark.anyio


@step
async def double(number: int) -> int:
    return number * 2


@step
async def add(left: int, right: int) -> int:
    return left + right


@step
def is_small(number: int) -> bool:
    return number < 10


@step(thread=True)
def query(number: int) -> int:
    with trace.get_tracer("database").start_as_current_span("SELECT"):
        return number


@workflow
async def quadruple(number: int) -> int:
    return await double(await double(number))


@workflow
async def sum_of_doubles(number: int) -> int:
    doubled = double.future(number)
    return await add.future(doubled, doubled)


def flaky():
    return MockPrimitive("flaky", side_effect=[OSError("down"), "done"])


def broken():
    return MockPrimitive("broken", side_effect=OSError("down"))


WORKFLOWS = {
    "sequential": (
        lambda: double >> double,
        {"w": None, "w/1:double": "w", "w/2:double": "w"},
    ),
    "parallel": (
        lambda: double | query,
        {"w": None, "w/1:double": "w", "w/2:query": "w", "SELECT": "w/2:query"},
    ),
    "parallel by name": (
        lambda: ParallelPrimitive({"low": double, "high": double >> double}),
        {
            "w": None,
            "w/low": "w",
            "w/high": "w",
            "w/high/1:double": "w/high",
            "w/high/2:double": "w/high",
        },
    ),
    "conditional": (
        lambda: ConditionalPrimitive(is_small, double >> double),
        {
            "w": None,
            "w/condition": "w",
            "w/then": "w",
            "w/then/1:double": "w/then",
            "w/then/2:double": "w/then",
        },
    ),
    "router": (
        lambda: RouterPrimitive({"a": double, "b": query}, lambda number, _: ["a", "b"]),
        {"w": None, "w/router": "w", "w/a": "w", "w/b": "w", "SELECT": "w/b"},
    ),
    "map": (
        lambda: step(range) >> MapPrimitive(double),
        {"w": None, "w/1:range": "w", "w/2:double": "w", "w/2:double[0]": "w/2:double"},
    ),
    "fold of a map": (
        lambda: step(range) >> MapPrimitive(double) >> ReducePrimitive(operator.add, 0),
        {
            "w": None,
            "w/1:range": "w",
            "w/2:double": "w",
            "w/2:double[0]": "w/2:double",
            "w/3:add": "w",
        },
    ),
    "retry": (
        lambda: RetryPrimitive(flaky(), backoff=constant(0)),
        {"w": None, "w/attempt 1": "w", "w/attempt 2": "w"},
    ),
    "fallback": (
        lambda: FallbackPrimitive(broken(), [double]),
        {"w": None, "w/primary": "w", "w/fallback 1": "w"},
    ),
    "timeout": (
        lambda: TimeoutPrimitive(double, 10),
        {"w": None, "w/timed": "w"},
    ),
    "cache": (
        lambda: CachePrimitive(double, 10),
        {"w": None, "w/miss": "w"},
    ),
    "imperative": (
        lambda: quadruple,
        {"w": None, "w/1:double": "w", "w/2:double": "w"},
    ),
    "futures": (
        lambda: sum_of_doubles,
        {"w": None, "w/1:double": "w", "w/2:add": "w"},
    ),
}


def attributes(span):
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes
    }


def tree(spans):
    """Each node's path with its parent's; all spans are of one trace."""
    assert len({span.trace_id for span in spans}) == 1
    paths = {span.span_id: attributes(span).get("plait.path", span.name) for span in spans}
    return {
        paths[span.span_id]: paths[span.parent_span_id] if span.parent_span_id else None
        for span in spans
    }


async def sent(receiver, run):
    """The spans that the receiver has once a run has ended."""
    telemetry = observability.configure(
        "shop", otlp_endpoint=receiver.endpoint, protocol=receiver.protocol
    )
    try:
        await run()
    finally:
        assert await anyio.to_thread.run_sync(telemetry.shutdown)
    return receiver.spans()


@pytest.mark.parametrize("shape", WORKFLOWS)
async def test_a_run_is_one_trace_with_the_tree_of_the_workflow(receiver, shape):
    make, expected = WORKFLOWS[shape]
    assert tree(await sent(receiver, lambda: make().named("w")(1))) == expected


async def test_spans_that_a_step_makes_are_below_it_also_in_a_worker_thread(receiver):
    spans = await sent(receiver, lambda: (query | query).named("w")(1))
    selects = [span for span in spans if span.name == "SELECT"]
    queries = {span.span_id for span in spans if span.name == "query"}
    assert {span.parent_span_id for span in selects} == queries
    assert len(queries) == len(selects) == 2


async def test_hundred_branches_at_once_are_all_in_the_one_trace(receiver):
    wide = (step(range) >> MapPrimitive(double >> quadruple)).named("w")
    found = tree(await sent(receiver, lambda: wide(100)))
    assert len(found) == 1 + 1 + 1 + 100 * (1 + 1 + 1 + 2)
    for path, parent in found.items():
        assert parent is None or path.startswith(parent)


async def test_what_a_step_reports_is_an_event_of_its_span(receiver):
    @step
    async def upload(_, context: WorkflowContext) -> None:
        context.progress(1, 2, "half")

    spans = await sent(receiver, lambda: upload.named("w")(1))
    (event,) = spans[0].events
    assert event.name == "progress"
    assert attributes(event) == {"done": 1, "total": 2, "message": "half"}


async def test_an_error_is_said_as_the_conventions_say_it(receiver):
    async def run():
        with pytest.raises(OSError, match="down"):
            await (double >> broken()).named("w")(1)

    by_path = {attributes(span)["plait.path"]: span for span in await sent(receiver, run)}
    failed = by_path["w/2:broken"]
    assert failed.status.code == failed.status.STATUS_CODE_ERROR
    assert attributes(failed)["error.type"] == "OSError"
    (event,) = failed.events
    assert event.name == "exception"
    said = attributes(event)
    assert (said["exception.type"], said["exception.message"]) == ("OSError", "down")
    assert "OSError: down" in said["exception.stacktrace"]
    assert by_path["w"].status.code == failed.status.STATUS_CODE_ERROR
    assert not by_path["w"].events


async def test_a_branch_that_was_cancelled_says_so_and_is_no_error(receiver):
    @step
    async def forever(_):
        await anyio.sleep_forever()

    async def run():
        with pytest.raises(OSError, match="down"):
            await (forever | broken()).named("w")(1)

    spans = {span.name: span for span in await sent(receiver, run)}
    assert attributes(spans["forever"])["plait.cancelled"] is True
    assert spans["forever"].status.code == spans["forever"].status.STATUS_CODE_UNSET


async def test_a_run_that_was_killed_goes_on_in_a_trace_that_is_linked_to_the_first(
    receiver, tmp_path, anyio_backend
):
    script = Path(__file__).with_name("killed.py")

    def run(do):
        arguments = [anyio_backend, f"{tmp_path}/runs.db", receiver.endpoint, receiver.protocol, do]
        return subprocess.run(
            [sys.executable, script, *arguments], capture_output=True, text=True, check=False
        )

    killed = await anyio.to_thread.run_sync(run, "die")
    assert killed.returncode == -signal.SIGKILL
    (reserve,) = receiver.spans()
    assert attributes(reserve)["plait.path"] == "orders/1:reserve"

    resumed = await anyio.to_thread.run_sync(run, "go on")
    assert resumed.stdout == "charged 42", resumed.stderr
    spans = receiver.spans()[1:]
    assert tree(spans) == {"orders": None, "orders/2:charge": "orders"}
    root = next(span for span in spans if not span.parent_span_id)
    (link,) = root.links
    assert (link.trace_id, link.span_id) == (reserve.trace_id, reserve.parent_span_id)
    assert attributes(link) == {"plait.link": "resumed from", "plait.run_id": "order-42"}
    assert root.trace_id != reserve.trace_id


JAEGER_TYPES = {"string_value", "bool_value", "int_value", "double_value"}


async def test_jaeger_takes_what_is_sent(receiver):
    """What Jaeger refuses or mangles: ids, parents, times, text, types and the service's name."""
    odd = "w\udcff \N{SNOWMAN}"

    @step(name=odd)
    async def fail(_):
        raise ValueError(odd)

    workflow = (fail | RetryPrimitive(flaky(), backoff=constant(0)) | query).named(odd)

    async def run():
        metadata = {"big": 2**70, "list": [1], odd: odd, "ratio": 0.5, "yes": True}
        with pytest.raises(ValueError, match="w"):
            await workflow.execute(1, WorkflowContext(f"request {odd}", metadata=metadata))

    spans = await sent(receiver, run)
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans) >= 4
    for span in spans:
        assert len(span.trace_id) == 16
        assert any(span.trace_id)
        assert len(span.span_id) == 8
        assert any(span.span_id)
        assert not span.parent_span_id or span.parent_span_id in by_id
        assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.name
        for pair in (
            *span.attributes,
            *(pair for event in span.events for pair in event.attributes),
        ):
            assert pair.key
            assert pair.value.WhichOneof("value") in JAEGER_TYPES
    (root,) = (span for span in spans if not span.parent_span_id)
    assert root.name == "w\\udcff \N{SNOWMAN}"
    for request in receiver.requests("traces"):
        for of_resource in request.resource_spans:
            assert attributes(of_resource.resource)["service.name"] == "shop"


async def test_metrics_are_sent_to_the_same_receiver(receiver):
    await sent(receiver, lambda: (double >> double)(1))
    names = {
        metric.name
        for request in receiver.requests("metrics")
        for of_resource in request.resource_metrics
        for of_scope in of_resource.scope_metrics
        for metric in of_scope.metrics
    }
    assert {"sequential_step_duration", "sequential_total_duration", "plait_runs"} <= names


async def test_logs_are_sent_where_the_environment_says_so(receiver, monkeypatch):
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "otlp")

    @step
    async def complain(_, context: WorkflowContext) -> None:
        context.logger.warning("odd", size=3)

    (span,) = await sent(receiver, lambda: complain(1))
    (record,) = (
        record
        for request in receiver.requests("logs")
        for of_resource in request.resource_logs
        for of_scope in of_resource.scope_logs
        for record in of_scope.log_records
    )
    assert record.body.string_value == "odd"
    assert (record.trace_id, record.span_id) == (span.trace_id, span.span_id)
    said = attributes(record)
    assert (said["path"], said["size"]) == ("complain", 3)
