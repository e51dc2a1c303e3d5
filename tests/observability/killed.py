"""A durable run that is killed in its second step, and another process that goes on with it."""

import os
import signal
import sys

import anyio

from plait import observability, step
from plait.durable import DurableRunner

backend, journal, endpoint, protocol, do = sys.argv[1:]
telemetry = observability.configure("shop", otlp_endpoint=endpoint, protocol=protocol)


@step
async def reserve(order: int) -> int:
    return order


@step
async def charge(order: int) -> str:
    if do == "die":
        telemetry.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return f"charged {order}"


orders = (reserve >> charge).named("orders")


async def main() -> None:
    async with DurableRunner(f"sqlite:///{journal}", workflows=[orders]) as runner:
        sys.stdout.write(await runner.run(orders, 42, run_id="order-42"))


with telemetry:
    anyio.run(main, backend=backend)
