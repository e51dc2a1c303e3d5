"""A durable workflow of DBOS, before and after.

    uv run examples/from_dbos.py

Before:

    from dbos import DBOS, SetWorkflowID

    @DBOS.step(retries_allowed=True, interval_seconds=1.0, max_attempts=5, backoff_rate=2.0)
    def reserve(item: str) -> str: ...

    @DBOS.step()
    def charge(card: str, price: int) -> str: ...

    @DBOS.step()
    def release(reservation: str) -> None: ...

    @DBOS.workflow()
    def checkout(order: Order) -> str:
        reservation = reserve(order.item)
        DBOS.set_event("status", "reserved")
        if DBOS.recv("payment", timeout_seconds=3600) != "paid":
            release(reservation)
            return "released"
        receipt = charge(order.card, order.price)
        DBOS.sleep(2)
        return receipt

    DBOS(config={"name": "shop", "system_database_url": "sqlite:///shop.sqlite"})
    DBOS.launch()
    with SetWorkflowID("order-1"):
        handle = DBOS.start_workflow(checkout, order)
    DBOS.get_event("order-1", "status")
    DBOS.send("order-1", "paid", topic="payment")
    handle.get_result()

After: what is below. What to look at:

- The decorators are `@step` and `@workflow`, which need no DBOS launched: a test just awaits them.
- Retries are a primitive around a step, with any backoff, and show in the run's paths.
- `recv` and `send` are `context.wait_for` and `run.signal`, with the payload's type; `set_event`
  and `get_event` are `context.set_event` and `run.event`. A wait that is over raises, where `recv`
  returns None.
- A compensation is said where the thing is done, and holds for every way in which what follows
  can fail, a cancellation too.
- A workflow's id is `run_id=`. A journal is a file or a database, and belongs to a runner: a
  program may have several.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass

import anyio

from plait import PermanentError, RetryPrimitive, WorkflowContext, step, workflow
from plait.durable import DurableRunner
from plait.recovery import exponential

log: list[str] = []
busy = iter([True, False])


@dataclass(frozen=True)
class Order:
    item: str
    card: str
    price: int


@step
async def reserve(item: str) -> str:
    if next(busy, False):
        raise ConnectionError
    log.append(f"reserved {item}")
    return f"reservation of {item}"


@step
async def charge(card: str, price: int) -> str:
    if card == "empty":
        raise PermanentError("card declined")
    log.append(f"charged {price}")
    return f"receipt for {price}"


@step
async def release(reservation: str) -> None:
    log.append(f"released {reservation}")


patiently_reserve = RetryPrimitive(reserve, 4, backoff=exponential(0.01))


@workflow
async def checkout(order: Order, context: WorkflowContext) -> str:
    reservation = await patiently_reserve(order.item)
    context.compensate(release, reservation)
    await context.set_event("status", "reserved")
    await context.wait_for("payment", str, timeout=3600)
    receipt = await charge(order.card, order.price)
    await context.sleep(0.01)
    return receipt


async def main(journal: str) -> None:
    async with DurableRunner(journal, workflows=[checkout]) as runner:
        for run_id, order in {
            "order-1": Order("lamp", "full", 45),
            "order-2": Order("book", "empty", 20),
        }.items():
            run = await runner.start(checkout, order, run_id=run_id)
            print(run_id, await run.event("status"))
            await run.signal("payment", "paid")
            try:
                print(run_id, await run.result())
            except PermanentError as error:
                print(run_id, error)
    print(log)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(main, f"sqlite:///{folder}/shop.db")
