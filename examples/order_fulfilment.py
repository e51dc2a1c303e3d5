"""Fulfil orders: check, reserve and charge side by side, ship. No order is ever charged twice.

    uv run examples/order_fulfilment.py

AGNT5's order fulfilment, written with plait.

What to look at:

- `fulfil`, an imperative workflow. Its steps are called like any function, its decisions are plain
  `if` and `except`, and `reserve | charge` is awaited where two things happen at the same time.
- `charge` is tried again when the bank is busy. Each attempt has the same idempotency key, and so
  has one after an interruption: a bank that keeps the keys cannot take the money twice.
- Order 4: the carrier fails, and with it the run. `run.resume()` carries it on from there: what had
  been reserved and charged is found in the journal and not done again.
- `shop.log` is what really happened, written by the services themselves.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field

import anyio

from plait import PermanentError, RetryPrimitive, WorkflowContext, step, workflow
from plait.durable import DurableRunner
from plait.recovery import constant

PRICES = {"book": 20, "lamp": 45}


@dataclass(frozen=True)
class Order:
    number: int
    items: dict[str, int]
    card: str


@dataclass(frozen=True)
class Receipt:
    order: int
    status: str
    total: int = 0
    tracking: str | None = None


@dataclass
class Shop:
    """The services around the workflow."""

    carrier_works: bool = True
    log: list[str] = field(default_factory=list[str])


shop = Shop()


class CardDeclinedError(PermanentError):
    """Asking again would not help, so no retry does."""


@step
def find_problem(order: Order) -> str | None:
    unknown = sorted(order.items.keys() - PRICES.keys())
    return f"there is no {' and no '.join(unknown)}" if unknown else None


@step
async def reserve(order: Order) -> None:
    await anyio.sleep(0.01)
    shop.log.append(f"order {order.number}: reserved")


@step
async def release(order: Order) -> None:
    shop.log.append(f"order {order.number}: released")


@step
async def charge_card(order: Order, context: WorkflowContext) -> int:
    await anyio.sleep(0.02)
    if order.card == "closed":
        raise CardDeclinedError(f"card of order {order.number} is closed")
    if order.card == "slow bank" and context.attempt == 1:
        raise ConnectionError("the bank is busy")
    total = sum(PRICES[item] * count for item, count in order.items.items())
    shop.log.append(f"order {order.number}: charged {total}, key {context.idempotency_key}")
    return total


@step
async def ship(order: Order, *, express: bool) -> str:
    if not shop.carrier_works:
        raise ConnectionError("the carrier does not answer")
    shop.log.append(f"order {order.number}: shipped")
    return f"{'EXPRESS' if express else 'PARCEL'}-{order.number:04}"


charge = RetryPrimitive(charge_card, 2, backoff=constant(0.01))


@workflow
async def fulfil(order: Order) -> Receipt:
    problem = await find_problem(order)
    if problem:
        return Receipt(order.number, f"rejected: {problem}")
    try:
        _, total = await (reserve | charge)(order)
    except CardDeclinedError as error:
        await release(order)
        return Receipt(order.number, f"rejected: {error}")
    tracking = await ship(order, express=total > 50)
    return Receipt(order.number, "shipped", total, tracking)


ORDERS = [
    Order(1, {"book": 2}, card="valid"),
    Order(2, {"unicorn": 1}, card="valid"),
    Order(3, {"book": 1}, card="closed"),
    Order(4, {"lamp": 2}, card="slow bank"),
]


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with DurableRunner(f"sqlite:///{folder}/orders.db", workflows=[fulfil]) as runner:
            for order in ORDERS:
                shop.carrier_works = order.number != 4
                run = await runner.start(fulfil, order, run_id=f"order-{order.number}")
                try:
                    print(await run.result())
                except ConnectionError as error:
                    print(f"order {order.number} failed: {error}\n  {error.__notes__[0]}")
                    shop.carrier_works = True
                    run = await run.resume()
                    print(await run.result())
                    print(f"  {run.replayed} steps found done, {run.executed} executed")
    print("\nWhat happened:", *shop.log, sep="\n  ")


if __name__ == "__main__":
    anyio.run(main)
