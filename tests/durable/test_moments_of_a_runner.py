"""What a runner does at the edges: waits that are nearly over, news from elsewhere, bad input."""

import sqlite3
from contextlib import closing

import anyio
import anyio.lowlevel
import pytest
from interruption import Gate
from waiting import runner_of, until, until_waiting

from plait import WorkflowContext, step, workflow
from plait.durable import (
    DurableRunner,
    JournalError,
    Queue,
    RunCancelledError,
    RunNotFoundError,
    SqliteJournal,
)
from plait.durable import _executor as executor
from plait.durable import _messages as messages

pytestmark = pytest.mark.anyio


def test_a_durability_that_there_is_not_is_refused(journal):
    with pytest.raises(ValueError, match="durability='maybe' must be"):
        DurableRunner(journal, durability="maybe")


async def test_a_signal_to_no_run_is_refused(journal):
    async with DurableRunner(journal) as runner:
        with pytest.raises(RunNotFoundError, match="'nobody'"):
            await runner.signal("nobody", "go")


async def test_a_signal_to_a_run_that_is_removed_meanwhile_is_refused(journal, monkeypatch):
    send = SqliteJournal.send
    work = step(str)
    async with DurableRunner(journal) as runner, DurableRunner(journal) as late:
        await runner.run(work, 42, run_id="run")

        async def send_late(self, *arguments):
            assert await runner.prune(0) == 1
            return await send(self, *arguments)

        monkeypatch.setattr(SqliteJournal, "send", send_late)
        with pytest.raises(RunNotFoundError, match="'run'"):
            await late.signal("run", "go")


async def test_a_wait_that_is_nearly_over_is_stayed_for(journal):
    """Replaying the run would cost more than keeping it."""
    bodies = []

    @workflow
    async def nap(number: int, context: WorkflowContext) -> int:
        bodies.append(number)
        await context.sleep(0.15)
        return number

    async with runner_of(journal, nap, suspend_after=0.1) as runner:
        assert await runner.run(nap, 42) == 42
    assert bodies == [42]


async def test_a_runner_hears_what_another_one_is_told(journal):
    @workflow
    async def ask(_: None, context: WorkflowContext) -> str:
        return await context.wait_for("answer", str)

    async with runner_of(journal, ask) as runner, runner_of(journal) as other:
        run = await runner.start(ask, None, run_id="run")
        await until_waiting(runner, "run")
        await other.signal("run", "answer", "yes")
        assert await run.result() == "yes"


async def test_leaving_waits_for_the_runs_that_are_under_way(journal):
    gates, done = [Gate(), Gate(), Gate()], []
    works = [(step(gate) >> done.append).named(f"work {n}") for n, gate in enumerate(gates)]
    queues = [Queue("two", 2)]

    async def open_later():
        await anyio.sleep(0.01)
        for gate in gates:
            gate.open()

    async with (
        anyio.create_task_group() as tasks,
        DurableRunner(journal, workflows=works, queues=queues) as runner,
    ):
        for number, work in enumerate(works):
            await runner.start(work, number, queue="two" if number < 2 else None)
        for gate in gates:
            await gate.reached.wait()
        tasks.start_soon(open_later)
    assert sorted(done) == [0, 1, 2]


async def test_a_runner_that_may_wait_no_longer_lets_go_of_all_its_runs(journal):
    gate, done = Gate(), []
    work = (step(gate) >> done.append).named("work")
    async with DurableRunner(journal, workflows=[work], grace_seconds=0) as runner:
        for number in range(3):
            await runner.start(work, number, run_id=f"run-{number}")
        await gate.reached.wait()
    assert done == []
    gate.open()
    async with DurableRunner(journal, workflows=[work]) as runner:
        for number in range(3):
            await (await runner.get(f"run-{number}")).result()
    assert sorted(done) == [0, 1, 2]


async def test_a_run_that_is_cancelled_as_it_works_ends_so(journal):
    gate = Gate()
    work = step(gate).named("work")
    async with runner_of(journal, work) as runner:
        run = await runner.start(work, 1, run_id="run")
        await gate.reached.wait()
        await run.cancel()
        with pytest.raises(RunCancelledError):
            await run.result()


async def test_progress_is_kept_again_after_a_while_of_silence(journal, monkeypatch):
    monkeypatch.setattr(messages, "_PROGRESS_SECONDS", 0.001)
    gate = Gate()

    @step
    async def work(_, context: WorkflowContext):
        context.progress(1, 2)
        await gate(None)
        context.progress(2, 2)
        await anyio.sleep(0.05)

    async with runner_of(journal) as runner:
        run = await runner.start(work, None, run_id="run")

        async def has_begun():
            progress = (await run.info()).progress
            return progress is not None and progress.done == 1

        await until(has_begun)
        await anyio.sleep(0.01)
        gate.open()
        await run.result()
        assert (await run.info()).progress.done == 2


async def test_runs_that_begin_to_wait_one_after_the_other_all_leave_memory(journal):
    @workflow
    async def nap(days: int, context: WorkflowContext) -> None:
        await context.gather(context.wait_for("wake"), context.sleep(days * 86_400))

    async with runner_of(journal, nap) as runner:
        await runner.start(nap, 1, run_id="first")
        await until_waiting(runner, "first")
        for name in ("second", "third"):
            await runner.start(nap, 2, run_id=name)
        await until_waiting(runner, "second", "third")
        assert {info.run_id: info.status for info in await runner.list()} == dict.fromkeys(
            ("first", "second", "third"), "waiting"
        )


async def test_more_runs_are_due_than_are_taken_at_once(journal, monkeypatch):
    monkeypatch.setattr(executor, "_RUNS_AT_ONCE", 2)
    work = step(str).named("work")
    async with runner_of(journal, work) as runner:
        for number in range(5):
            await runner.start(work, number, run_id=f"run-{number}", delay=0.05)
    async with runner_of(journal, work) as runner:
        for number in range(5):
            assert await (await runner.get(f"run-{number}")).result() == str(number)


async def test_a_run_that_is_woken_as_it_leaves_memory_goes_on(journal, monkeypatch):
    suspend, begun = SqliteJournal.suspend, []

    @workflow
    async def ask(_: None, context: WorkflowContext) -> str:
        begun.append(context.run_id)
        return await context.wait_for("answer", str)

    async with runner_of(journal, ask) as runner:

        async def suspend_late(self, *arguments):
            await suspend(self, *arguments)
            await runner.signal("run", "answer", "yes")
            await until(lambda: len(begun) == 2)

        monkeypatch.setattr(SqliteJournal, "suspend", suspend_late)
        assert await runner.run(ask, None, run_id="run") == "yes"
    assert begun == ["run", "run"]


class Slow(SqliteJournal):
    """Answers late: what it was asked to do is done, and nobody knows yet."""

    claims_late = finishes_late = False

    def __init__(self, path):
        super().__init__(path)
        self.done, self.answers = anyio.Event(), anyio.Event()

    async def claim(self, *asked):
        found = await super().claim(*asked)
        if self.claims_late and found.runs:
            self.done.set()
            await self.answers.wait()
        return found

    async def finish(self, *asked):
        await super().finish(*asked)
        if self.finishes_late:
            self.done.set()
            await self.answers.wait()


async def test_a_run_that_is_asked_for_while_it_is_claimed_is_executed_once(file):
    executed = []
    work, journal = step(executed.append).named("work"), Slow(file)
    async with runner_of(journal, work) as runner:
        journal.claims_late = True
        await runner.start(work, 42, run_id="run", delay=0.01)
        await journal.done.wait()
        run = await runner.get("run")
        begun = runner._executor.executions["run"]
        journal.answers.set()
        await run.result()
        assert run.executed == 1
    assert executed == [42]
    assert begun.ending is run._ending


async def test_a_run_that_was_claimed_as_the_lease_was_lost_is_begun_with_the_new_one(file):
    gate, executed = Gate(), []
    gated, work = step(gate).named("gated"), step(executed.append).named("work")
    journal = Slow(file)
    async with runner_of(journal, gated, work) as runner:
        first = await runner.start(gated, 1)
        await gate.reached.wait()
        journal.claims_late = True
        second = await runner.start(work, 2, delay=0.01)
        await journal.done.wait()
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("UPDATE runners SET is_gone = 1")
        gate.open()
        await until(lambda: runner._executor.lost_lease is not None)
        journal.answers.set()
        assert await first.result() == 1
        await second.result()
    assert executed == [2]


async def test_a_run_that_is_resumed_as_it_fails_goes_on_once_it_has_left(file):
    calls = []

    @step
    async def work(number: int) -> int:
        calls.append(number)
        if len(calls) == 1:
            raise OSError("down")
        return number

    journal = Slow(file)
    async with runner_of(journal, work) as runner:
        journal.finishes_late = True
        failed = await runner.start(work, 42, run_id="run")
        await journal.done.wait()
        resumed = []

        async def resume():
            resumed.append(await failed.resume())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(resume)
            await until(lambda: is_reopened(runner))
            journal.finishes_late = False
            journal.answers.set()
        assert await resumed[0].result() == 42
    assert calls == [42, 42]


async def is_reopened(runner):
    return (await runner.info("run")).status == "running"


async def test_a_run_that_is_started_as_its_runner_is_left_is_the_next_ones(journal):
    executed, started = [], []
    work = step(lambda number: executed.append(number) or number, name="work").named("work")

    async def start(runner):
        started.append(await runner.start(work, 42, run_id="run"))

    async with anyio.create_task_group() as tasks, runner_of(journal, work) as runner:
        tasks.start_soon(start, runner)
        await anyio.lowlevel.checkpoint()
    with pytest.raises(JournalError, match="run 'run' was suspended as its runner ended"):
        await started[0].result()
    assert executed == []
    async with runner_of(journal, work) as runner:
        assert await (await runner.get("run")).result() == 42
