"""A workflow of Temporal, before and after.

    uv run examples/from_temporal.py

Before:

    from temporalio import activity, workflow
    from temporalio.client import Client
    from temporalio.common import RetryPolicy
    from temporalio.worker import Worker

    @activity.defn
    async def withdraw(details: Transfer) -> str: ...

    @activity.defn
    async def deposit(details: Transfer) -> str: ...

    @activity.defn
    async def refund(details: Transfer) -> str: ...

    @workflow.defn
    class MoneyTransfer:
        def __init__(self) -> None:
            self.approved = False
            self.state = "waiting"

        @workflow.run
        async def run(self, details: Transfer) -> str:
            policy = RetryPolicy(maximum_attempts=3, non_retryable_error_types=["AccountClosed"])
            options = {"start_to_close_timeout": timedelta(seconds=5), "retry_policy": policy}
            await workflow.wait_condition(lambda: self.approved, timeout=timedelta(hours=1))
            self.state = "moving"
            withdrawn = await workflow.execute_activity(withdraw, details, **options)
            try:
                deposited = await workflow.execute_activity(deposit, details, **options)
            except ActivityError:
                await workflow.execute_activity(refund, details, **options)
                raise
            return f"{withdrawn}, {deposited}"

        @workflow.signal
        def approve(self) -> None:
            self.approved = True

        @workflow.query
        def current(self) -> str:
            return self.state

    client = await Client.connect("localhost:7233")
    async with Worker(client, task_queue="bank", workflows=[MoneyTransfer],
                      activities=[withdraw, deposit, refund]):
        handle = await client.start_workflow(
            MoneyTransfer.run, details, id="t-1", task_queue="bank"
        )
        await handle.signal(MoneyTransfer.approve)
        print(await handle.result())

After: what is below. What to look at:

- No server, no task queue, no list of activities: a runner over a file, or over PostgreSQL where
  several machines share the work.
- An activity is a step, and its options are wrappers around it: `safely` is what they all get. An
  error that is not to be retried is a `PermanentError`; nobody lists names.
- A signal is waited for where it is needed, with its payload. What a query told, an event tells, to
  somebody who waits for it too.
- The saga is a `CompensationPrimitive`: the refund stands beside the withdrawal, and runs whatever
  goes wrong later.
- The workflow is code of the program's own: no sandbox. What must be the same at a replay comes
  from the context: `now()`, `random`, `uuid()`.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass

import anyio

from plait import (
    CompensationPrimitive,
    PermanentError,
    RetryPrimitive,
    TimeoutPrimitive,
    WorkflowContext,
    step,
    workflow,
)
from plait.durable import DurableRunner
from plait.primitives import Step
from plait.recovery import exponential

log: list[str] = []
busy = iter([True, False])


@dataclass(frozen=True)
class Transfer:
    source: str
    target: str
    amount: int


class AccountClosedError(PermanentError):
    """Trying again would not help."""


@step
async def withdraw(transfer: Transfer) -> str:
    if next(busy, False):
        log.append("the bank is busy")
        raise ConnectionError
    log.append(f"withdrew {transfer.amount} from {transfer.source}")
    return f"-{transfer.amount}"


@step
async def deposit(transfer: Transfer) -> str:
    if transfer.target == "closed":
        raise AccountClosedError(f"account {transfer.target!r} is closed")
    log.append(f"deposited {transfer.amount} to {transfer.target}")
    return f"+{transfer.amount}"


@step
async def refund(withdrawn: str) -> None:
    log.append(f"refunded {withdrawn}")


def safely(activity: Step[Transfer, [], str]) -> RetryPrimitive[Transfer, str]:
    return RetryPrimitive(TimeoutPrimitive(activity, 5), 2, backoff=exponential(0.01))


withdraw_safely = CompensationPrimitive(safely(withdraw), refund)
deposit_safely = safely(deposit)


@workflow
async def money_transfer(transfer: Transfer, context: WorkflowContext) -> str:
    await context.wait_for("approve", timeout=3600)
    await context.set_event("state", "moving")
    withdrawn = await withdraw_safely(transfer)
    deposited = await deposit_safely(transfer)
    return f"{withdrawn}, {deposited}"


async def main(journal: str) -> None:
    async with DurableRunner(journal, workflows=[money_transfer]) as runner:
        for number, target in enumerate(["eve", "closed"], 1):
            transfer = Transfer("ada", target, 100)
            run = await runner.start(money_transfer, transfer, run_id=f"t-{number}")
            await run.signal("approve")
            print(run.run_id, await run.event("state"))
            try:
                print(run.run_id, await run.result())
            except AccountClosedError as error:
                print(run.run_id, error)
    print(*log, sep="\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(main, f"sqlite:///{folder}/bank.db")
