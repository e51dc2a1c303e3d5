"""Ask a human, for up to 24 hours; remind them after 20; escalate where nobody answers.

    uv run examples/approval.py

An hour takes a tenth of a second here. The tests let real ones pass, in virtual time.

What to look at:

- `expense`, the whole process as plain code: it waits for a signal with `context.wait_for`, twice,
  and goes on with what the signal brings, checked to be a `Decision`.
- A run that waits is out of memory: `waiting` in what is printed. Its deadline is in the journal:
  the runner that takes over after 12 hours waits for the other 12 alone.
- A `Decision` reaches the run from anywhere that has the journal: a web handler calls
  `runner.signal`.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass

import anyio

from plait import StepTimeoutError, WorkflowContext, step, workflow
from plait.durable import DurableRunner

hour = 3600.0


@dataclass(frozen=True)
class Expense:
    number: int
    employee: str
    amount: int


@dataclass(frozen=True)
class Decision:
    approved: bool
    by: str


sent: list[str] = []


@step
async def send(to: str, text: str) -> None:
    sent.append(f"to {to}: {text}")


@step
async def pay(expense: Expense) -> str:
    return f"{expense.employee} gets {expense.amount}"


async def decision(expense: Expense, context: WorkflowContext) -> Decision | None:
    await send("boss", f"please approve {expense.number}")
    try:
        return await context.wait_for("decision", Decision, timeout=20 * hour)
    except StepTimeoutError:
        await send("boss", f"reminder: {expense.number}")
    try:
        return await context.wait_for("decision", Decision, timeout=4 * hour)
    except StepTimeoutError:
        return None


@workflow
async def expense(expense: Expense, context: WorkflowContext) -> str:
    if expense.amount < 50:
        return await pay(expense)
    decided = await decision(expense, context)
    if decided is None:
        await send("the boss's boss", f"nobody has decided about {expense.number}")
        return f"{expense.number} was escalated"
    if not decided.approved:
        return f"{decided.by} has refused {expense.number}"
    return await pay(expense)


EXPENSES = [
    Expense(1, "ada", 20),
    Expense(2, "bob", 700),
    Expense(3, "eve", 99),
    Expense(4, "al", 80),
]


async def main(journal: str) -> None:
    async with DurableRunner(journal, workflows=[expense], suspend_after=0.01) as runner:
        for each in EXPENSES:
            await runner.start(expense, each, run_id=f"expense-{each.number}")
        await anyio.sleep(12 * hour)
        for number in range(1, 5):
            print(f"expense-{number}:", (await runner.info(f"expense-{number}")).status)
    async with DurableRunner(journal, workflows=[expense], suspend_after=0.01) as runner:
        await runner.signal("expense-2", "decision", Decision(approved=True, by="boss"))
        await runner.signal("expense-3", "decision", Decision(approved=False, by="boss"))
        for number in range(1, 5):
            print(f"expense-{number}:", await (await runner.get(f"expense-{number}")).result())
    print("", *sent, sep="\n  ")


if __name__ == "__main__":
    hour = 0.1
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(main, f"sqlite:///{folder}/runs.db")
