"""What recovery, caches and limits cost, beside stamina, tenacity, `asyncio.timeout`, async_lru
and cashews.

    uv run --group bench benchmarks/resilience.py

Each table is one run: the cases take turns, and the figures are medians over their turns.
"""

from __future__ import annotations

import asyncio

import caching
from _resilience_recovery import recovery


async def main() -> None:
    await recovery()
    await caching.main()


if __name__ == "__main__":
    asyncio.run(main())
