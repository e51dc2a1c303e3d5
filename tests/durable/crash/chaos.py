"""One of several processes on one journal: starts its share of the runs, and executes any."""

import os
import random
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio

from plait import (
    MapPrimitive,
    RetryPrimitive,
    SignalPrimitive,
    SleepPrimitive,
    WorkflowContext,
    step,
    workflow,
)
from plait.durable import DurableRunner, JournalError, RunEndedError, SqliteJournal, TransactionStep
from plait.recovery import constant

FENCED = 3
LEASE_SECONDS = 1.0


class Place:
    """Where the steps of this process leave what they did."""

    def open(self, folder):
        self._effects = os.open(folder / "effects", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._journal = sqlite3.connect(folder / "runs.db", isolation_level=None)

    def effect(self, context):
        """Leave a line, which says whether the journal had a result of this node already."""
        recorded = self._journal.execute(
            "SELECT count(*) FROM records JOIN runs ON records.run = runs.key WHERE run_id = ?"
            " AND kind IN (0, 1) AND (path = ?2 OR substr(?2, 1, length(path) + 1)"
            " IN (path || '/', path || '['))",
            (context.run_id, context.path),
        ).fetchone()[0]
        key = f"{context.idempotency_key} {context.attempt}"
        os.write(self._effects, f"{key}\t{context.path}\t{recorded}\n".encode())


place = Place()


@step
async def work(number, context: WorkflowContext):
    place.effect(context)
    await anyio.sleep(random.uniform(0, 0.02))
    return number + 1


@step
async def flaky(number, context: WorkflowContext):
    place.effect(context)
    if context.attempt < 3:
        raise ConnectionError(context.attempt)
    return number


@step
async def spread(number, context: WorkflowContext):
    place.effect(context)
    return [number] * 4


@TransactionStep
def enter(number, database):
    database.execute("INSERT INTO entered VALUES (?)", (number - 1,))
    return number


@dataclass
class Count:
    runs: int = 0


@workflow
async def imperative(number, context: WorkflowContext):
    async with context.entity(Count, str(number % 3)) as count:
        count.runs += 1
        await work(number)
    first = await work(number)

    async def branch(n):
        return await work(await work(first + n))

    return sum(await context.gather(*[branch(1000 * n) for n in range(3)]))


WORKFLOWS = (
    (spread >> MapPrimitive(work >> work, max_concurrency=2) >> sum >> work).named("mapping"),
    (work >> RetryPrimitive(flaky, backoff=constant(0.01)) >> (work | work) >> sum).named("retry"),
    (work >> SleepPrimitive(0.3) >> work).named("sleeping"),
    (work >> SignalPrimitive("go", int, combine=lambda a, b: a + b) >> work).named("signalled"),
    (work >> enter >> work).named("entering"),
    imperative,
)
STEPS = (1 + 8 + 1, 1 + 3 + 2, 2, 2, 2, 2 + 6)
"""How many effects a run of each of them has."""


def outcome(number):
    """What the run of a number returns."""
    return (
        4 * (number + 2) + 1,
        2 * (number + 2),
        number + 2,
        number + 9,
        number + 2,
        3 * (number + 3) + 3000,
    )[number % len(WORKFLOWS)]


def carry_out(share, shares, count, seconds, folder, backend):
    """Take part until all runs have ended; the process says by its exit code if it was fenced."""
    try:
        anyio.run(_take_part, share, shares, count, seconds, Path(folder), backend=backend)
    except* JournalError as errors:
        if "has taken over" not in str(errors.exceptions):
            raise
        os._exit(FENCED)


async def _take_part(share, shares, count, seconds, folder):
    journal = SqliteJournal(folder / "runs.db", lease_seconds=LEASE_SECONDS)
    runner = DurableRunner(journal, workflows=WORKFLOWS, suspend_after=0.05)
    place.open(folder)
    async with runner, anyio.create_task_group() as tasks:
        for number in range(share, count, shares):
            tasks.start_soon(_see_through, runner, number, seconds * number / count)
        unended = ["queued", "running", "waiting"]
        while await runner.list(status=unended, limit=1):  # noqa: ASYNC110
            await anyio.sleep(0.05)


async def _see_through(runner, number, delay):
    chosen = WORKFLOWS[number % len(WORKFLOWS)]
    run = await runner.start(chosen, number, run_id=f"run {number}", delay=delay)
    if chosen.name == "signalled":
        with suppress(RunEndedError):
            await runner.signal(run.run_id, "go", 7, signal_id="once")
    found = await run.result()
    assert found == outcome(number), f"run {number} returned {found}"


def prepare(folder):
    """Make the table that a step of a transaction enters its run into."""
    anyio.run(_make, folder)
    connection = sqlite3.connect(Path(folder) / "runs.db")
    connection.execute("CREATE TABLE entered (number INTEGER)")
    connection.commit()
    connection.close()


async def _make(folder):
    async with DurableRunner(SqliteJournal(Path(folder) / "runs.db")):
        pass
