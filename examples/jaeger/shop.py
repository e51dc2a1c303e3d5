"""See runs in Jaeger: retries, a fallback, branches at the same time, and a run that is resumed.

    docker compose -f examples/jaeger/compose.yaml up -d
    uv run --extra otel examples/jaeger/shop.py

Then open http://localhost:16686, choose the service "shop", and "Find Traces". Without a receiver
it runs as well, says that nobody listens, and prints the trace as a timeline.

What to look at:

- One trace a run, with the tree of the workflow: `price` and `stock` lie side by side in time.
- `charge` failed twice: each attempt is a span of its own, the error an event in it.
- `ship` fell back to the other carrier; the trace says why.
- The SELECT inside of `stock` was made by the application, in a worker thread: it is below it.
- The second trace of the order links to the first ("References" in Jaeger), and has no span for
  what had finished there.
"""

from __future__ import annotations

import os
import socket
import tempfile
from urllib.parse import urlsplit

import anyio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from plait import FallbackPrimitive, RetryPrimitive, WorkflowContext, observability, step
from plait.durable import DurableRunner
from plait.observability import render_timeline, timings_of
from plait.recovery import constant

RECEIVER = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
PROMETHEUS = os.environ.get("PROMETHEUS", "http://localhost:9090")

Order = dict[str, int]


class Bank:
    is_down = True


bank = Bank()


@step
async def reserve(order: Order) -> Order:
    await anyio.sleep(0.02)
    return order | {"reserved": 1}


@step
async def price(order: Order) -> int:
    await anyio.sleep(0.05)
    return 7 * order["amount"]


@step(thread=True)
def stock(order: Order) -> int:
    with trace.get_tracer("database").start_as_current_span("SELECT stock"):
        return 12 - order["amount"]


@step
async def charge(found: tuple[int, int], context: WorkflowContext) -> str:
    await anyio.sleep(0.01)
    if bank.is_down or context.attempt < 3:
        raise ConnectionError("the bank does not answer")
    return f"{found[0]} paid"


@step
async def ship(receipt: str) -> str:
    raise TimeoutError("the first carrier is closed")


@step
async def ship_slowly(receipt: str) -> str:
    await anyio.sleep(0.03)
    return f"{receipt}, on its way"


robust_charge = RetryPrimitive(charge, 2, backoff=constant(0.02), jitter=False)
orders = (
    reserve >> (price | stock) >> robust_charge >> FallbackPrimitive(ship, [ship_slowly])
).named("orders")


async def fulfil(journal: str) -> str:
    """Run an order until the bank is down for good, and again once it is up."""
    async with DurableRunner(journal, workflows=[orders]) as runner:
        bank.is_down = True
        run = await runner.start(orders, {"amount": 3}, metadata={"customer": "ada"})
        try:
            await run.result()
        except ConnectionError as error:
            print(f"{run.run_id}: {error}; once more")
        bank.is_down = False
        return await (await run.resume()).result()


def is_listening(endpoint: str) -> bool:
    address = urlsplit(endpoint)
    try:
        with socket.create_connection((address.hostname or "", address.port or 80), timeout=1):
            return True
    except OSError:
        return False


def main() -> None:
    has_jaeger, has_prometheus = is_listening(RECEIVER), is_listening(PROMETHEUS)
    telemetry = observability.configure(
        "shop",
        otlp_endpoint=RECEIVER,
        metrics_endpoint=f"{PROMETHEUS}/api/v1/otlp/v1/metrics",
        protocol="http/protobuf",
        traces=has_jaeger,
        metrics=has_prometheus,
        logs="console",
    )
    finished = InMemorySpanExporter()
    provider = telemetry.tracer_provider
    if provider is None:
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(finished))

    with telemetry, tempfile.TemporaryDirectory() as folder:
        print(anyio.run(fulfil, f"sqlite:///{folder}/runs.db"))

    spans = finished.get_finished_spans()
    for trace_id in dict.fromkeys(span.context.trace_id for span in spans if span.context):
        print(f"\ntrace {trace.format_trace_id(trace_id)}")
        of_this = [span for span in spans if span.context and span.context.trace_id == trace_id]
        print(render_timeline(timings_of(of_this)))
    if has_jaeger:
        print('\nSee them at http://localhost:16686, service "shop".')
    else:
        print(f"\nNobody listens at {RECEIVER}; compose.yaml beside this file starts Jaeger.")


if __name__ == "__main__":
    main()
