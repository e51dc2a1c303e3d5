"""An order whose process is killed while it is undone: what is left to undo is undone by the next.

    uv run examples/order_saga.py

What to look at:

- `fulfil`: each step stands beside what undoes it. When no courier comes, the money goes back and
  the shelf is freed, the last first, and nobody had to write that down a second time.
- The first process is killed (`os._exit`, as SIGKILL does it) when the money is back and the shelf
  is not free yet. The second finds in the journal what had been done and what had been undone, and
  goes on with the shelf.
- `refund` and `free` are given what `charge` and `reserve` returned, though these were executed in
  a process that is gone.
- The error is the courier's, whichever process raises it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import anyio

from plait import CompensationPrimitive, RetryPrimitive, failed_path, step
from plait.durable import DurableRunner
from plait.recovery import constant


@dataclass(frozen=True)
class Order:
    item: str
    price: int


@dataclass(frozen=True)
class Reserved:
    order: Order
    shelf: int


@dataclass(frozen=True)
class Charged:
    reserved: Reserved
    receipt: str


folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")


def happened(what: str) -> None:
    with (folder / "world.log").open("a") as log:
        log.write(f"{what} (process {os.environ['LIFE']})\n")


@step
async def reserve(order: Order) -> Reserved:
    happened(f"{order.item} is reserved on shelf 7")
    return Reserved(order, shelf=7)


@step
async def free(reserved: Reserved) -> None:
    if os.environ["LIFE"] == "1":
        os._exit(9)
    happened(f"shelf {reserved.shelf} is free")


@step
async def charge(reserved: Reserved) -> Charged:
    happened(f"{reserved.order.price} charged")
    return Charged(reserved, receipt="receipt 1")


@step
async def refund(charged: Charged) -> None:
    happened(f"{charged.reserved.order.price} back for {charged.receipt}")


@step
async def send(charged: Charged) -> str:
    happened("no courier comes")
    raise ConnectionError("no courier comes")


fulfil = (
    CompensationPrimitive(reserve, free)
    >> CompensationPrimitive(RetryPrimitive(charge), refund)
    >> RetryPrimitive(send, 1, backoff=constant(0.01))
).named("fulfil")


async def live() -> None:
    async with DurableRunner(f"sqlite:///{folder}/runs.db", workflows=[fulfil]) as runner:
        try:
            await runner.run(fulfil, Order("lamp", 45), run_id="order-1")
        except ConnectionError as error:
            print(f"{failed_path(error)} failed: {error}")


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        for life in ("1", "2"):
            command = [sys.executable, __file__, place]
            environment = os.environ | {"LIFE": life}
            done = subprocess.run(
                command, env=environment, stdout=subprocess.PIPE, text=True, check=False
            )
            print(f"process {life} ended with {done.returncode}", done.stdout)
        print("", *(Path(place) / "world.log").read_text().splitlines(), sep="\n  ")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        anyio.run(live)
    else:
        main()
