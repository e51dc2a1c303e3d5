"""When the machine fails, each run goes on or says so, and none is lost or done twice."""

import subprocess
import sys
import time
from collections import Counter

import anyio
import pytest
from noticing import Steps

from plait import SleepPrimitive, WorkflowContext, step, workflow
from plait.durable import DurableRunner, JournalError, RunNotFoundError, SqliteJournal

pytestmark = pytest.mark.anyio

RUNS = 12


@pytest.fixture
def steps(file):
    return Steps(file)


@pytest.fixture
def long(steps):
    """A workflow that writes much."""

    @step
    async def work(number: int, context: WorkflowContext) -> int:
        steps.effect(context)
        return number + 1

    @step
    async def write(number: int, context: WorkflowContext) -> str:
        steps.effect(context)
        await anyio.sleep(0.01)
        return str(number % 10) * 200_000

    @step
    async def measure(text: str, context: WorkflowContext) -> int:
        steps.effect(context)
        return len(text) + int(text[0])

    return (work >> write >> measure >> work).named("long")


async def ends(runner, workflow, numbers):
    """How each run ended: what it returned, or the journal's error."""
    found = {}

    async def see(number):
        try:
            run = await runner.start(workflow, number, run_id=f"run {number}")
            found[number] = await run.result()
        except JournalError as error:
            found[number] = str(error)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for number in numbers:
                tasks.start_soon(see, number)
    return found


def lengths(numbers):
    return {number: 200_000 + (number + 1) % 10 + 1 for number in numbers}


def once_each(steps):
    """Each step was executed, and was so again only where the journal had no result of it."""
    assert not steps.done_again
    assert len(Counter(steps.executed)) == 4 * RUNS


@pytest.mark.parametrize("is_restarted", [True, False])
async def test_runs_go_on_when_a_full_disk_has_room_again(journal, long, steps, room, is_restarted):
    room(400)  # of four KB each: for some of the runs
    async with DurableRunner(journal, workflows=[long]) as runner:
        found = await ends(runner, long, range(RUNS))
        stopped = {number: told for number, told in found.items() if isinstance(told, str)}
        assert 0 < len(stopped) < RUNS
        assert all("disk is full" in told for told in stopped.values())
        room(2**30)
        if not is_restarted:
            found |= await ends(runner, long, stopped)
    async with DurableRunner(journal, workflows=[long]) as runner:
        assert await ends(runner, long, range(RUNS)) == lengths(range(RUNS))
    once_each(steps)


LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("is_restarted", [True, False])
async def test_runs_go_on_when_another_process_lets_go_of_the_file(file, long, steps, is_restarted):
    async with DurableRunner(SqliteJournal(file, lock_seconds=0.1), workflows=[long]) as runner:
        found = await ends(runner, long, range(RUNS // 2))
        with subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", LOCK, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other:
            other.stdout.readline()
            found |= await ends(runner, long, range(RUNS // 2, RUNS))
            other.stdin.close()
        stopped = {number: told for number, told in found.items() if isinstance(told, str)}
        assert set(stopped) == set(range(RUNS // 2, RUNS))
        assert all("locked" in told for told in stopped.values())
        if not is_restarted:
            found |= await ends(runner, long, stopped)
            assert found == lengths(range(RUNS))
    async with DurableRunner(SqliteJournal(file), workflows=[long]) as runner:
        assert await ends(runner, long, range(RUNS)) == lengths(range(RUNS))
    once_each(steps)


async def test_runs_whose_file_is_removed_say_so(file, journal, long):
    async with DurableRunner(journal, workflows=[long]) as runner:
        assert await ends(runner, long, [1]) == lengths([1])
        for part in file.parent.glob("runs.db*"):
            part.unlink()
        (told,) = (await ends(runner, long, [2])).values()
        assert "was removed or replaced" in told
    async with DurableRunner(journal, workflows=[long]) as runner:
        with pytest.raises(RunNotFoundError):
            await runner.get("run 1")
        assert await ends(runner, long, [2]) == lengths([2])


async def test_a_file_that_was_put_in_place_of_the_journal_is_not_written_to(file, long):
    async with DurableRunner(SqliteJournal(file), workflows=[long]) as runner:
        file.rename(file.with_name("moved"))
        async with DurableRunner(SqliteJournal(file)) as other:
            (told,) = (await ends(runner, long, [1])).values()
            assert "was removed or replaced" in told
            assert await other.list() == []


class Clock:
    """The wall clock, which somebody may set."""

    def __init__(self, now):
        self._now = now
        self.jump = 0.0

    def __call__(self):
        return self._now() + self.jump


@pytest.fixture
def clock(monkeypatch):
    clock = Clock(time.time)
    monkeypatch.setattr(time, "time", clock)
    return clock


@pytest.mark.parametrize("days", [-3, 3])
async def test_no_run_is_lost_or_done_twice_when_the_clock_is_set(file, steps, clock, days):
    @step
    async def work(number: int, context: WorkflowContext) -> int:
        steps.effect(context)
        await anyio.sleep(0.02)
        return number + 1

    @workflow
    async def asking(number: int, context: WorkflowContext) -> int:
        return await work(await work(number) + await context.wait_for("answer", int))

    steady = (work >> work >> work >> work).named("steady")
    sleeping = (work >> SleepPrimitive(1.5) >> work).named("sleeping")
    workflows = [steady, sleeping, asking]
    options = {"workflows": workflows, "suspend_after": 0.05}
    async with (
        DurableRunner(SqliteJournal(file, lease_seconds=1.5), **options) as first,
        DurableRunner(SqliteJournal(file, lease_seconds=1.5), **options) as second,
    ):
        runs = [
            await runner.start(workflow, number, run_id=f"{workflow.name} {number}")
            for number, runner in enumerate([first, second] * 3)
            for workflow in workflows
        ]
        with anyio.fail_after(10):
            while len(await first.list(workflow="sleeping", status="waiting")) < 6:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        clock.jump = days * 86_400
        await anyio.sleep(1.7)  # longer than a lease lasts
        for number in range(6):
            await second.signal(f"asking {number}", "answer", 1)
        with anyio.fail_after(10):
            for run in runs:
                if days > 0 or not run.run_id.startswith("sleeping"):
                    await run.result()
            if days < 0:
                # These wait for a time that is three days off, by this clock.
                assert len(await first.list(workflow="sleeping", status="waiting")) == 6
                clock.jump = 0
            for run in runs:
                await run.result()
    executed = Counter(steps.executed)
    assert set(executed.values()) == {1}
    assert len(executed) == 6 * (4 + 2 + 2)
