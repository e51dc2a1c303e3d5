"""What telemetry costs a step, beside the same spans made by hand.

The spans are the SDK's behind a batch processor, as in an application; what is sent goes nowhere.
Each setting has a process of its own, as OpenTelemetry's providers can be set once in one.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from _measure import Case, medians, row

from plait import SequentialPrimitive, WorkflowContext
from plait.observability import ambient_runtime
from plait.primitives import Runtime, _ambient

if TYPE_CHECKING:
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.trace import ReadableSpan

STEPS = 10
RUNS = 200
ROUNDS = 15
ATTRIBUTES: dict[str, str | int] = {
    "plait.path": "sequential/1:add_one",
    "plait.primitive": "Step",
    "plait.run_id": "5b8aa5a2d2c872e8321cf37308d69df2",
    "plait.attempt": 1,
    "plait.workflow": "sequential",
    "code.function.name": "__main__.add_one",
}


async def add_one(number: int) -> int:
    return number + 1


async def add_one_later(number: int) -> int:
    """The least that a step which waits for something does: one turn of the event loop."""
    await asyncio.sleep(0)
    return number + 1


Function = Callable[[int], Awaitable[int]]


def of_plait(function: Function) -> Case:
    chain = SequentialPrimitive[int, int]([function] * STEPS)

    async def run() -> None:
        for _ in range(RUNS):
            await chain.execute(0, WorkflowContext())

    return run


def by_hand(
    function: Function,
    tracer: trace.Tracer,
    attributes: dict[str, str | int] | None = None,
    histogram: metrics.Histogram | None = None,
) -> Case:
    """The same tree: a span for the chain, and one for each of its steps."""

    async def run() -> None:
        for _ in range(RUNS):
            with tracer.start_as_current_span("sequential", attributes=attributes):
                number = 0
                for _ in range(STEPS):
                    with tracer.start_as_current_span("add_one", attributes=attributes):
                        number = await function(number)
                        if histogram is not None:
                            histogram.record(0.001, {"step": "add_one"})

    return run


async def compare(title: str, bare: Case, plait: Case) -> None:
    seconds = await medians({"bare": bare, "plait": plait}, rounds=ROUNDS)
    took = f"{seconds['plait'] / RUNS / STEPS * 1e6:.2f} us a step"
    row(title, took, seconds["plait"] / seconds["bare"], "by hand")


def set_up(*, drops: bool = False) -> trace.Tracer:
    # Imported here, as the SDK is for applications that trace: one setting is without.
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    class Nowhere(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider(sampler=ALWAYS_OFF if drops else None)
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    trace.set_tracer_provider(provider)
    return provider.get_tracer("by hand")


async def batched() -> None:
    tracer = set_up()
    for name, function in (("that waits", add_one_later), ("that does nothing", add_one)):
        bare = by_hand(function, tracer)
        await compare(f"step {name}, batch processor", bare, of_plait(function))
        bare = by_hand(function, tracer, ATTRIBUTES)
        await compare("  beside spans with attributes", bare, of_plait(function))


async def dropped() -> None:
    bare = by_hand(add_one, set_up(drops=True))
    await compare("step, sampler that drops", bare, of_plait(add_one))


async def measured() -> None:
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    tracer = set_up()
    meters = MeterProvider([InMemoryMetricReader()])
    metrics.set_meter_provider(meters)
    histogram = meters.get_meter("by hand").create_histogram("duration")
    bare = by_hand(add_one, tracer, ATTRIBUTES, histogram)
    await compare("step, traces and metrics", bare, of_plait(add_one))


async def unset() -> None:
    """Without an SDK, beside a context that is never asked to be observed."""
    run = of_plait(add_one)

    def asking(source: Callable[[], Runtime | None]) -> Case:
        async def asked() -> None:
            _ambient.use(source)
            await run()

        return asked

    await compare("step, no SDK", asking(lambda: None), asking(ambient_runtime))


SETTINGS = {"batched": batched, "dropped": dropped, "measured": measured, "unset": unset}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(SETTINGS[sys.argv[1]]())
    else:
        for setting in SETTINGS:
            subprocess.run([sys.executable, __file__, setting], check=True)
