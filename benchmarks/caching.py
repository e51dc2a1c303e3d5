"""What a cache, a limit and a batch cost, beside async_lru, cashews, aiocache and a semaphore.

    uv run --group bench benchmarks/caching.py

Each table is one run: the cases take turns, and the figures are medians over their turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from _measure import Case, medians, row
from aiocache import cached as aiocache_cached
from async_lru import alru_cache
from cashews import Cache

from plait import (
    BatchPrimitive,
    CachePrimitive,
    ConcurrencyLimitPrimitive,
    RateLimitPrimitive,
    SequentialPrimitive,
    WorkflowContext,
    WorkflowPrimitive,
)

Run = Callable[[Any], Awaitable[Any]]

ROUNDS = 25
CALLS, KEYS = 10_000, 100
ROUND_TRIP = 0.0002


@dataclass(frozen=True)
class Query:
    user: str
    page: int


async def fetch(key: Any) -> Any:
    return key


def in_plait(primitive: WorkflowPrimitive[Any, Any]) -> Run:
    execute, context = primitive.execute, WorkflowContext()

    def run(key: Any) -> Awaitable[Any]:
        return execute(key, context)

    return run


def repeated(run: Run, key: Any, times: int) -> Case:
    async def case() -> None:
        for _ in range(times):
            await run(key)

    return case


def at_once(run: Run, keys: list[Any]) -> Case:
    async def case() -> None:
        await asyncio.gather(*map(run, keys))

    return case


async def table(title: str, base: str, cases: dict[str, tuple[Case, int]]) -> dict[str, float]:
    """Measure cases that do a different number of calls, print seconds a call, and return them."""
    seconds = await medians({name: case for name, (case, _) in cases.items()}, rounds=ROUNDS)
    each = {name: seconds[name] / calls for name, (_, calls) in cases.items()}
    print(f"\n{title}, median of {ROUNDS} interleaved rounds")
    for name, spent in each.items():
        row(name, f"{spent * 1e9:,.0f} ns", spent / each[base], base)
    return each


async def hits() -> None:
    cashews = Cache()
    cashews.setup("mem://", size=1024)
    lru: Run = alru_cache(maxsize=1024, ttl=60)(fetch)
    cache = CachePrimitive(fetch, 60)
    chain: Run = in_plait(SequentialPrimitive([cache] * 10))
    each = await table(
        "a hit in memory",
        "async_lru",
        {
            "async_lru": (repeated(lru, "user-1", 2_000), 2_000),
            "plait": (repeated(in_plait(cache), "user-1", 2_000), 2_000),
            "plait, a step of a chain": (repeated(chain, "user-1", 200), 2_000),
            "plait, a tuple as the input": (repeated(in_plait(cache), ("u", 1), 2_000), 2_000),
            "plait, an input to encode": (repeated(in_plait(cache), Query("u", 1), 200), 200),
            "cashews": (repeated(cashews(ttl=60)(fetch), "user-1", 200), 200),
            "aiocache": (repeated(aiocache_cached(ttl=60)(fetch), "user-1", 200), 200),
        },
    )
    print(f"a hit in plait costs {each['plait'] / each['cashews']:.3f} of one in cashews")


async def misses() -> None:
    executed = 0

    async def count(key: int) -> int:
        nonlocal executed
        executed += 1
        await asyncio.sleep(0.01)
        return key

    keys = [number % KEYS for number in range(CALLS)]

    def fresh(make: Callable[[], Run]) -> Case:
        async def case() -> None:
            nonlocal executed
            executed = 0
            await asyncio.gather(*map(make(), keys))
            assert executed == KEYS, executed

        return case

    await table(
        f"a call of {CALLS:,} at once that miss {KEYS} keys, which execute exactly {KEYS} times",
        "async_lru",
        {
            "async_lru": (fresh(lambda: alru_cache(maxsize=1024)(count)), CALLS),
            "plait": (fresh(lambda: in_plait(CachePrimitive(count, 60))), CALLS),
        },
    )


async def limits() -> None:
    semaphore = asyncio.Semaphore(10)

    async def with_semaphore(key: Any) -> Any:
        async with semaphore:
            return key

    async def slow_with_semaphore(key: Any) -> Any:
        async with semaphore:
            await asyncio.sleep(0)
            return key

    async def slow(key: Any) -> Any:
        await asyncio.sleep(0)
        return key

    gated = in_plait(ConcurrencyLimitPrimitive(fetch, 10))
    limited = in_plait(RateLimitPrimitive(fetch, 1e9, per=1, burst=10**9))
    crowded = in_plait(ConcurrencyLimitPrimitive(slow, 10))
    await table(
        "a call that a limit has room for",
        "asyncio.Semaphore",
        {
            "asyncio.Semaphore": (repeated(with_semaphore, 1, 1_000), 1_000),
            "plait, concurrency": (repeated(gated, 1, 1_000), 1_000),
            "plait, rate": (repeated(limited, 1, 1_000), 1_000),
        },
    )
    await table(
        "a call of 1,000 that share 10 places",
        "asyncio.Semaphore",
        {
            "asyncio.Semaphore": (at_once(slow_with_semaphore, list(range(1_000))), 1_000),
            "plait, concurrency": (at_once(crowded, list(range(1_000))), 1_000),
        },
    )


async def batches() -> None:
    connection = asyncio.Semaphore(1)

    async def load_one(key: int) -> int:
        async with connection:
            await asyncio.sleep(ROUND_TRIP)
            return key

    async def load(keys: list[int]) -> list[int]:
        async with connection:
            await asyncio.sleep(ROUND_TRIP)
            return keys

    keys = list(range(200))
    await table(
        f"a call of 200 over one connection, with a round trip of {ROUND_TRIP * 1e3:g} ms",
        "one by one",
        {
            "one by one": (at_once(load_one, keys), 200),
            "plait, batches of 100": (
                at_once(in_plait(BatchPrimitive(load, 100, max_wait_seconds=0.001)), keys),
                200,
            ),
        },
    )


async def main() -> None:
    await hits()
    await misses()
    await limits()
    await batches()


if __name__ == "__main__":
    asyncio.run(main())
