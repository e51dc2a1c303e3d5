"""What a worker executes: `plait worker worker:runner`, any number of them beside each other.

    JOURNAL=postgresql://plait@localhost/plait plait worker worker:runner

SIGTERM lets what is under way go on for `grace_seconds`; what is left then, another worker carries
on.
"""

from __future__ import annotations

import os

from plait import step
from plait.durable import DurableRunner, Queue


@step
async def reserve(order: dict[str, int]) -> dict[str, int]:
    return order | {"reserved": 1}


@step
async def charge(order: dict[str, int]) -> str:
    return f"paid {order['total']}"


orders = (reserve >> charge).named("orders")
runner = DurableRunner(
    os.environ["JOURNAL"],
    workflows=[orders],
    queues=[Queue("orders", max_concurrent=200)],
    grace_seconds=25,
)
