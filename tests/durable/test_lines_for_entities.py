"""Lines for entities: who has waited longest is next, and costs the others nothing."""

import sqlite3
from contextlib import asynccontextmanager

import anyio
import pytest
from interruption import Gate
from waiting import runner_of, until, until_status, until_waiting

from plait import StepTimeoutError, WorkflowContext, step, workflow
from plait.durable import SqliteJournal

pytestmark = pytest.mark.anyio


@workflow
async def join(number: int, context: WorkflowContext) -> list:
    async with context.entity(list, "line") as line:
        line.append(number)
        return list(line)


@workflow
async def keep(signal: str, context: WorkflowContext) -> list:
    async with context.entity(list, "line") as line:
        await context.wait_for(signal)
        return list(line)


@pytest.fixture
def tries(monkeypatch):
    """The keys of the runs that tried to have an entity."""
    acquire, tries = SqliteJournal.acquire, []

    async def counted(self, kind, key, record, now):
        tries.append(record.run)
        return await acquire(self, kind, key, record, now)

    monkeypatch.setattr(SqliteJournal, "acquire", counted)
    return tries


def waiting(file):
    """How many stand in line."""
    connection = sqlite3.connect(file)
    ((count,),) = connection.execute("SELECT count(*) FROM turns").fetchall()
    connection.close()
    return count


@asynccontextmanager
async def kept(runner):
    """A run has the entity meanwhile."""
    run = await runner.start(keep, "go", run_id="keep")
    await until_waiting(runner, "keep")
    yield run
    await run.signal("go")
    await run.result()


@pytest.mark.parametrize(
    ("many", "suspend_after"), [(200, 60), (50, 0.02)], ids=["in memory", "out of memory"]
)
async def test_each_of_many_tries_once_as_it_comes_and_once_when_it_is_its_turn(
    journal, file, tries, many, suspend_after
):
    async with runner_of(journal, keep, join, suspend_after=suspend_after) as runner:
        if suspend_after > 1:
            holding = await runner.start(keep, "go")
            await until(lambda: len(tries) == 1)
        else:
            holding = await runner.start(keep, "go", run_id="keep")
            await until_waiting(runner, "keep")
        runs = []
        for number in range(many):
            runs.append(await runner.start(join, number, run_id=f"run-{number}"))
            await until(lambda number=number: len(tries) == number + 2)
        if suspend_after < 1:
            await until_waiting(runner, *(run.run_id for run in runs))
        await holding.signal("go")
        for number, run in enumerate(runs):
            assert await run.result() == list(range(number + 1))
    assert len(tries) <= 1 + 2 * many + 5
    assert waiting(file) == 0


async def test_the_line_is_one_over_runners_and_runs_out_of_memory(journal, file):
    async with (
        runner_of(journal, keep, join) as first,
        runner_of(journal, join, suspend_after=60) as second,
    ):
        async with kept(first):
            runs = []
            for number in range(9):
                runs.append(await (first, second)[number % 2].start(join, number))
                await until(lambda number=number: waiting(file) == number + 1)
        for number, run in enumerate(runs):
            assert await run.result() == list(range(number + 1))


async def test_tasks_of_one_run_stand_in_the_line_with_all_others(journal, file):
    begun = []

    @workflow
    async def several(_: None, context: WorkflowContext) -> None:
        async def one(number):
            # A call of its own tells it from the others when the run is carried on.
            await context.step("begin", begun.append, number)
            async with context.entity(list, "line") as line:
                line.append(number)

        async with anyio.create_task_group() as tasks:
            for number in (0, 2, 3):
                await context.wait_for(f"join {number}")
                tasks.start_soon(one, number)

    async with runner_of(journal, keep, join, several) as runner:
        async with kept(runner):
            run = await runner.start(several, None)
            for number in range(4):
                if number == 1:
                    await runner.start(join, 1)
                else:
                    await run.signal(f"join {number}")
                await until(lambda number=number: waiting(file) == number + 1)
        await run.result()
        assert await runner.run(join, 4) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("way", ["by time", "by its runner"])
async def test_one_that_gives_up_leaves_the_line(journal, file, way):
    gate = Gate()

    @workflow
    async def hurried(_: None, context: WorkflowContext) -> str:
        async def wait():
            async with context.entity(list, "line"):
                return "in time"

        try:
            return await context.within(0.2 if way == "by time" else 60, wait)
        except StepTimeoutError:
            return await context.step("gate", gate, "late")

    async with runner_of(journal, keep, join, hurried, suspend_after=60) as runner:
        await runner.start(keep, "go", run_id="keep")
        await until_status(runner, "keep", "running")
        run = await runner.start(hurried, None)
        joining = await runner.start(join, 1)
        await until(lambda: waiting(file) == 2)
        if way == "by its runner":
            await run.cancel()
        await until(lambda: waiting(file) == 1)
        gate.open()
        await runner.signal("keep", "go")
        assert await joining.result() == [1]


async def test_one_whose_workflow_no_runner_has_is_passed_over_until_one_has(journal, file):
    async with runner_of(journal, keep, join) as runner:
        await runner.start(keep, "go", run_id="keep")
        await until_waiting(runner, "keep")
        await runner.start(join, 1, run_id="join")
        await until_waiting(runner, "join")

    other = join.named("other")
    async with runner_of(journal, keep, other) as runner:
        run = await runner.start(other, 2)
        await until(lambda: waiting(file) == 2)
        await runner.signal("keep", "go")
        assert await run.result() == [2]
        assert await runner.run(other, 3) == [2, 3]
    async with runner_of(journal, join) as runner:
        assert await (await runner.get("join")).result() == [2, 3, 1]


async def test_an_entity_is_free_whose_default_cannot_be_made(journal):
    @workflow
    async def fail_first(_: None, context: WorkflowContext) -> list:
        def broken():
            raise LookupError

        try:
            async with context.entity(list, "line", default=broken):
                raise AssertionError
        except LookupError:
            async with context.entity(list, "line") as line:
                return line

    async with runner_of(journal, fail_first) as runner:
        assert await runner.run(fail_first, None) == []


async def test_what_a_run_has_when_it_fails_goes_to_the_next(journal, file):
    @step
    async def charge(_: None) -> None:
        raise ConnectionError

    @workflow
    async def lasting(_: None, context: WorkflowContext) -> None:
        async def hold():
            async with context.entity(list, "line"):
                await context.wait_for("nothing")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold)
            await context.wait_for("fail")
            await charge(None)

    async with runner_of(journal, lasting, join, suspend_after=60) as runner:
        run = await runner.start(lasting, None)
        await until_status(runner, run.run_id, "running")
        await anyio.sleep(0.1)
        joining = await runner.start(join, 1)
        await until(lambda: waiting(file) == 1)
        await run.signal("fail")
        assert await joining.result() == [1]
