"""Workflows that something stands in front of, such as mocks, executed by a runner."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from plait import MockPrimitive, step
from plait.durable import DurableRunner

pytestmark = pytest.mark.anyio


@step
async def reserve(order: int) -> int:
    return order


@step
async def charge(order: int) -> str:
    raise ConnectionError("not in a test")


@pytest.fixture
def spans(monkeypatch):
    """The spans that have ended, in that order."""
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return exporter.get_finished_spans


async def test_a_run_with_mocks_is_resumed_in_a_trace_that_knows_the_first(journal, spans):
    mock = MockPrimitive(side_effect=[OSError("down"), "charged"])
    orders = (reserve >> charge).named("orders").with_mocks({"charge": mock})
    async with DurableRunner(journal, workflows=[orders]) as runner:
        run = await runner.start(orders, 42, run_id="run")
        with pytest.raises(OSError, match="down"):
            await run.result()
        first = {span.context.trace_id for span in spans()}
        before = len(spans())
        assert await (await run.resume()).result() == "charged"
    resumed = spans()[before:]
    linked = {link.context.trace_id for span in resumed for link in span.links}
    assert linked == first


async def test_without_a_runner_nobody_keeps_the_trace(spans):
    orders = (reserve >> charge).named("orders").with_mocks({"charge": str})
    assert await orders(42) == "42"
    assert {len(span.links) for span in spans()} == {0}
