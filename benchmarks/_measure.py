"""How the benchmarks measure: interleaved rounds, medians, ratios."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable

Case = Callable[[], Awaitable[object]]


async def medians(cases: dict[str, Case], *, rounds: int, warm_up: int = 1) -> dict[str, float]:
    """Seconds of each case: the median over rounds in which every case has one turn.

    Args:
        cases: What is measured, by name.
        rounds: How many turns each has.
        warm_up: How many more it has before they count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(warm_up + rounds):
        for name, case in cases.items():
            gc.collect()
            gc.disable()
            start = time.perf_counter()
            await case()
            spent = time.perf_counter() - start
            gc.enable()
            if turn >= warm_up:
                seconds[name].append(spent)
    return {name: statistics.median(times) for name, times in seconds.items()}


def row(name: str, value: str, ratio: float, against: str) -> None:
    """Print one line of a table."""
    print(f"{name:<34} {value:>16}   {ratio:6.2f}x {against}")
