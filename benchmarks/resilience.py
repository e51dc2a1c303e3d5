"""What recovery costs where nothing fails, beside stamina, tenacity and `asyncio.timeout`.

    uv run --group bench benchmarks/resilience.py

Each table is one run: the cases take turns, and the figures are medians over their turns.
"""

from __future__ import annotations

import asyncio

from _resilience_recovery import recovery


async def main() -> None:
    await recovery()


if __name__ == "__main__":
    asyncio.run(main())
