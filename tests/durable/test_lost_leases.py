"""A runner that others think dead, and what it cannot write."""

import sqlite3
from contextlib import closing

import anyio
import pytest
from interruption import Gate
from waiting import runner_of, until

from plait import step, workflow
from plait.durable import JournalError, SqliteJournal

pytestmark = pytest.mark.anyio


def take_over(file):
    """Have others think every runner of a journal dead."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE runners SET is_gone = 1")


async def test_a_runner_that_was_taken_over_goes_on_with_its_runs_on_a_new_lease(journal, file):
    gates = [Gate(), Gate()]
    orders = [(step(str) >> gate).named(f"order {n}") for n, gate in enumerate(gates)]
    async with runner_of(journal, *orders) as runner:
        runs = [await runner.start(order, 42) for order in orders]
        for gate in gates:
            await gate.reached.wait()
        take_over(file)
        for gate in gates:
            gate.open()
        assert [await run.result() for run in runs] == ["42", "42"]
    # What was executed and could not be recorded was executed again.
    assert [gate.passed for gate in gates] == [2, 2]


async def test_several_runs_that_cannot_end_without_the_lease_get_one_new_one(
    journal, file, monkeypatch, caplog
):
    finish, finishing, may_finish = SqliteJournal.finish, [], anyio.Event()

    async def late(self, *asked):
        finishing.append(asked)
        await may_finish.wait()
        await finish(self, *asked)

    monkeypatch.setattr(SqliteJournal, "finish", late)
    orders = [step(str).named(f"order {n}") for n in range(2)]
    async with runner_of(journal, *orders) as runner:
        runs = [await runner.start(order, 42) for order in orders]
        await until(lambda: len(finishing) == 2)
        take_over(file)
        may_finish.set()
        assert [await run.result() for run in runs] == ["42", "42"]
    assert caplog.text.count("are stopped") == 1


async def test_a_new_lease_waits_for_what_was_begun_with_the_old_one(journal, file):
    short, held = Gate(), Gate()

    @step
    async def hold(value: int) -> int:
        with anyio.CancelScope(shield=True):
            return await held(value)

    orders = [step(short).named("short"), hold.named("long")]
    async with runner_of(journal, *orders) as runner:
        runs = [await runner.start(order, 42, run_id=order.name) for order in orders]
        for gate in (short, held):
            await gate.reached.wait()
        take_over(file)
        short.open()
        # Nobody asks for its end here: whoever waits for it is the runner itself.
        await until(lambda: runner._executor.executions["long"].ending.is_awaited)
        assert runner._executor.lost_lease is not None
        held.open()
        assert [await run.result() for run in runs] == [42, 42]
    assert held.passed == 2


async def test_a_run_that_is_started_without_a_lease_begins_with_the_new_one(
    journal, file, monkeypatch
):
    renew, may_renew, results = SqliteJournal.renew, anyio.Event(), []

    async def late(self):
        await may_renew.wait()
        await renew(self)

    monkeypatch.setattr(SqliteJournal, "renew", late)
    work = step(str).named("work")
    async with runner_of(journal, work) as runner, anyio.create_task_group() as tasks:

        async def run():
            results.append(await runner.run(work, 42))

        take_over(file)
        # It had nothing to write: it finds out as it looks for runs.
        await until(lambda: runner._executor.lost_lease is not None)
        tasks.start_soon(run)
        await anyio.wait_all_tasks_blocked()
        assert not results
        may_renew.set()
    assert results == ["42"]


async def test_a_cancellation_that_cannot_be_recorded_is_told(journal, monkeypatch):
    append, gate = SqliteJournal.append, Gate()

    def failing(self, record):
        async def fail():
            msg = "the disk is gone"
            raise JournalError(msg)

        return fail() if record.path == "#cancelled" else append(self, record)

    monkeypatch.setattr(SqliteJournal, "append", failing)
    order = step(gate).named("order")
    async with runner_of(journal, order) as runner:
        run = await runner.start(order, 42)
        await gate.reached.wait()
        await run.cancel()
        with pytest.raises(JournalError, match="the disk is gone"):
            await run.result()
        assert (await run.info()).status == "running"


async def test_nothing_is_executed_before_a_journal_that_is_unsure_has_confirmed_it(
    journal, monkeypatch
):
    confirmed = anyio.Event()
    monkeypatch.setattr(SqliteJournal, "confirm", lambda self: confirmed.wait())
    gate = Gate()
    gate.open()

    @workflow
    async def order(number: int) -> int:
        return await step(gate)(number)

    async with runner_of(journal, order) as runner:
        run = await runner.start(order, 42)
        await anyio.sleep(0.05)
        assert not gate.reached.is_set()
        confirmed.set()
        assert await run.result() == 42
