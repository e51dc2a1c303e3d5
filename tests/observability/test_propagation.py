"""Traces and baggage over the borders of a process, and between runs."""

import sqlite3
from contextlib import closing

import anyio
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from plait import WorkflowContext, step
from plait.durable import DurableRunner
from plait.observability import propagation

pytestmark = pytest.mark.anyio

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


@step
async def tenant(_) -> object:
    return baggage.get_baggage("tenant")


def trace_ids(spans):
    return {trace.format_trace_id(span.context.trace_id) for span in spans}


CARRIERS = {
    "a dict of headers": {"Traceparent": TRACEPARENT, "Baggage": "tenant=acme"},
    "ASGI": [(b"traceparent", TRACEPARENT.encode()), (b"baggage", b"tenant=acme")],
    "Kafka": [("traceparent", TRACEPARENT.encode()), ("baggage", b"tenant=acme")],
    "baggage twice": [
        ("traceparent", TRACEPARENT),
        ("baggage", "user=ada"),
        ("baggage", "tenant=acme"),
    ],
}


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_a_run_goes_on_in_the_trace_that_came_with_a_request(spans, carrier):
    parent = propagation.extract(CARRIERS[carrier])
    assert await (tenant >> str).execute(1, WorkflowContext(parent_span=parent)) == "acme"
    assert trace_ids(spans()) == {TRACE_ID}
    root = spans()[-1]
    assert trace.format_span_id(root.parent.span_id) == "b7ad6b7169203331"


async def test_headers_may_be_given_to_a_context_as_they_are(spans):
    headers = {"traceparent": TRACEPARENT, "baggage": "tenant=acme"}
    assert await tenant.execute(1, WorkflowContext(parent_span=headers)) == "acme"
    assert trace_ids(spans()) == {TRACE_ID}


async def test_what_was_received_may_be_made_current_instead(spans):
    with propagation.attached({"traceparent": TRACEPARENT, "baggage": "tenant=acme"}):
        assert await tenant(1) == "acme"
    assert trace_ids(spans()) == {TRACE_ID}
    assert baggage.get_baggage("tenant") is None


async def test_headers_that_are_not_well_formed_are_left_out(spans):
    parent = propagation.extract({"traceparent": "00-nonsense", "baggage": "=;,"})
    assert await tenant.execute(1, WorkflowContext(parent_span=parent)) is None
    assert spans()[0].parent is None


async def test_what_a_step_sends_names_its_own_span(spans):
    @step
    async def send(_) -> tuple:
        headers, kafka, asgi = {"accept": "*/*"}, [], []
        propagation.inject(headers)
        propagation.inject(kafka)
        propagation.inject(asgi, as_bytes=True)
        return headers, kafka, asgi

    headers, kafka, asgi = await send(1)
    span = spans()[0].context
    assert headers["accept"] == "*/*"
    assert headers["traceparent"].split("-")[1:3] == [
        trace.format_trace_id(span.trace_id),
        trace.format_span_id(span.span_id),
    ]
    assert kafka == [("traceparent", headers["traceparent"].encode())]
    assert asgi == [(b"traceparent", headers["traceparent"].encode())]


async def test_a_carrier_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="carrier=7"):
        propagation.inject(7)


async def test_a_durable_run_is_in_the_trace_of_the_request_that_started_it(
    spans, provider, tmp_path
):
    async with DurableRunner(f"sqlite:///{tmp_path}/runs.db", workflows=[tenant]) as runner:
        token = context.attach(baggage.set_baggage("tenant", "acme"))
        with provider.get_tracer("web").start_as_current_span("POST /orders") as request:
            run = await runner.start(tenant, 1)
        context.detach(token)
        assert await run.result() == "acme"
    root = next(span for span in spans() if span.name == "tenant")
    assert root.parent.span_id == request.get_span_context().span_id
    assert not root.links


async def test_a_run_that_waited_for_another_process_is_in_the_trace_of_its_request(
    spans, provider, tmp_path
):
    journal = f"sqlite:///{tmp_path}/runs.db"
    is_held = anyio.Event()

    @step
    async def held(_) -> object:
        if not is_held.is_set():
            is_held.set()
            await anyio.sleep_forever()
        return baggage.get_baggage("tenant")

    # Its first runner leaves before a step has ended, its second finds it in the journal.
    async with DurableRunner(journal, workflows=[held], grace_seconds=0) as runner:
        token = context.attach(baggage.set_baggage("tenant", "acme"))
        with provider.get_tracer("web").start_as_current_span("POST /orders"):
            await runner.start(held, 1, run_id="order-42")
        context.detach(token)
        await is_held.wait()
    first = next(span for span in spans() if span.name == "held")
    async with DurableRunner(journal, workflows=[held]) as runner:
        assert await (await runner.get("order-42")).result() == "acme"
    second = spans()[-1]
    (link,) = second.links
    assert link.context.span_id == first.context.span_id
    assert second.context.trace_id != first.context.trace_id


async def test_a_child_run_is_a_trace_of_its_own_with_a_link_to_its_parent(spans, tmp_path):
    @step
    async def parent(_, context: WorkflowContext) -> str:
        await runner.run(tenant, 1, run_id="child")
        return context.path

    async with DurableRunner(f"sqlite:///{tmp_path}/runs.db") as runner:
        await runner.run(parent, 1, run_id="parent")
    by_name = {span.name: span for span in spans()}
    child, starter = by_name["tenant"], by_name["parent"]
    assert child.parent is None
    assert child.context.trace_id != starter.context.trace_id
    (link,) = child.links
    assert link.context.span_id == starter.context.span_id
    assert link.attributes == {"plait.link": "parent run", "plait.run_id": "parent"}


async def test_a_run_that_is_resumed_by_a_request_is_in_its_trace_and_linked_to_the_first(
    spans, provider, tmp_path
):
    is_down = True

    @step
    async def flaky(_) -> str:
        if is_down:
            raise OSError("down")
        return "done"

    async with DurableRunner(f"sqlite:///{tmp_path}/runs.db", workflows=[flaky]) as runner:
        run = await runner.start(flaky, 1)
        with pytest.raises(OSError, match="down"):
            await run.result()
        is_down = False
        with provider.get_tracer("web").start_as_current_span("POST /resume") as request:
            resumed = await run.resume()
        assert await resumed.result() == "done"
    first, second = (span for span in spans() if span.name == "flaky")
    assert second.parent.span_id == request.get_span_context().span_id
    assert [link.context.span_id for link in second.links] == [first.context.span_id]


async def test_a_run_that_is_not_sampled_leaves_nothing_to_link_to(tmp_path):
    trace.set_tracer_provider(TracerProvider(ALWAYS_OFF, shutdown_on_exit=False))
    async with DurableRunner(f"sqlite:///{tmp_path}/runs.db") as runner:
        await runner.run(tenant, 1)
    with closing(sqlite3.connect(tmp_path / "runs.db")) as journal:
        assert journal.execute("SELECT path FROM records").fetchall() == [("tenant",)]
