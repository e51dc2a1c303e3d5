"""What retries, deadlines and circuit breakers cost where nothing fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import stamina
import tenacity
from _measure import Case, medians, row

from plait import (
    CircuitBreakerPrimitive,
    CompensationPrimitive,
    FallbackPrimitive,
    RetryPrimitive,
    TimeoutPrimitive,
    WorkflowContext,
    WorkflowPrimitive,
    step,
)

TIMES = 2_000
ROUNDS = 15

Run = Callable[[int], Awaitable[int]]


async def increment(number: int) -> int:
    return number + 1


in_stamina: Run = stamina.retry(on=Exception)(increment)
in_tenacity: Run = tenacity.retry(
    stop=tenacity.stop_after_attempt(4), wait=tenacity.wait_random_exponential(0.5, max=60)
)(increment)


async def in_asyncio(number: int) -> int:
    async with asyncio.timeout(60):
        return await increment(number)


def repeated(run: Run) -> Case:
    async def case() -> None:
        for _ in range(TIMES):
            await run(0)

    return case


def of(primitive: WorkflowPrimitive[int, int]) -> Case:
    context = WorkflowContext()
    return repeated(lambda number: primitive.execute(number, context))


async def recovery() -> None:
    """Print two tables: what each wrapper costs, and the same beside the peers."""
    child = step(increment)
    seconds = await medians(
        {
            "plain await": repeated(increment),
            "Retry": of(RetryPrimitive(child)),
            "stamina": repeated(in_stamina),
            "tenacity": repeated(in_tenacity),
            "Timeout": of(TimeoutPrimitive(child, 60)),
            "asyncio.timeout": repeated(in_asyncio),
            "Fallback": of(FallbackPrimitive(child, [child])),
            "CircuitBreaker": of(CircuitBreakerPrimitive(child)),
            "Compensation": of(CompensationPrimitive(child, child) >> child),
        },
        rounds=ROUNDS,
    )
    each = {name: spent / TIMES for name, spent in seconds.items()}
    print(f"\na call that succeeds, median of {ROUNDS} interleaved rounds")
    for name, spent in each.items():
        row(name, f"{spent * 1e9:,.0f} ns", spent / each["plain await"], "plain await")
    print("\nbeside the same by others")
    for ours, other, most in (
        ("Retry", "stamina", 0.1),
        ("Retry", "tenacity", 0.1),
        ("Timeout", "asyncio.timeout", 1.3),
    ):
        ratio = each[ours] / each[other]
        row(f"{ours}, at most {most}x", f"{each[ours] * 1e9:,.0f} ns", ratio, other)
