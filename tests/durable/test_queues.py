"""Queues: how many runs are under way at once, how fast they begin, and which one is next."""

import sqlite3
import time
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.lowlevel import checkpoint
from interruption import Gate
from waiting import runner_of, until, until_waiting

from plait import SignalPrimitive, WorkflowContext, step, workflow
from plait.durable import DurableRunner, Queue, SqliteJournal

pytestmark = pytest.mark.anyio


def measured(gauge):
    @step(name="work")
    async def work(number):
        with gauge:
            await anyio.sleep(0.02)
        return number

    return work


async def test_a_queue_bounds_how_many_runs_are_under_way(journal, gauge):
    async with runner_of(journal, queues=[Queue("mail", max_concurrent=2)]) as runner:
        work = measured(gauge)
        runs = [await runner.start(work, n, queue="mail") for n in range(8)]
        assert [await run.result() for run in runs] == list(range(8))
        assert (await runs[0].info()).queue == "mail"
    assert gauge.peak == 2


async def test_a_queue_bounds_them_over_two_runners(journal, gauge):
    work, queues = measured(gauge), [Queue("mail", max_concurrent=2)]
    async with (
        runner_of(journal, work, queues=queues) as first,
        runner_of(journal, work, queues=queues) as second,
    ):
        runs = [await (first, second)[n % 2].start(work, n, queue="mail") for n in range(10)]
        assert [await run.result() for run in runs] == list(range(10))
    assert gauge.peak <= 2


async def test_the_run_with_the_highest_priority_goes_first(journal):
    order, gate = [], Gate()
    gated, work = step(gate).named("gated"), step(order.append, name="work")
    async with runner_of(journal, gated, work, queues=[Queue("one", 1)]) as runner:
        await runner.start(gated, 0, queue="one")
        await gate.reached.wait()
        runs = [
            await runner.start(work, (priority, n), queue="one", priority=priority)
            for priority in (0, 5, -1)
            for n in range(2)
        ]
        assert (await runs[2].info()).priority == 5
        gate.open()
        for run in runs:
            await run.result()
    assert order == [(5, 0), (5, 1), (0, 0), (0, 1), (-1, 0), (-1, 1)]


def begun(file):
    """When runs began, as the journal has it."""
    with sqlite3.connect(file) as connection:
        found = [at for (at,) in connection.execute("SELECT began FROM runs ORDER BY began")]
    connection.close()
    return found


async def test_a_queue_bounds_how_many_runs_begin_in_some_time(journal, file):
    work = step(str, name="work")
    async with runner_of(journal, queues=[Queue("slow", rate=2, per=0.2)]) as runner:
        for run in [await runner.start(work, n, queue="slow") for n in range(6)]:
            await run.result()
    times = begun(file)
    assert all(later - earlier >= 0.199 for earlier, later in zip(times, times[2:], strict=False))


async def test_a_queue_bounds_how_many_begin_over_two_runners(journal, file):
    work, queues = step(str, name="work"), [Queue("slow", rate=2, per=0.3)]
    async with (
        runner_of(journal, work, queues=queues) as first,
        runner_of(journal, work, queues=queues) as second,
    ):
        runs = [await (first, second)[n % 2].start(work, n, queue="slow") for n in range(6)]
        for run in runs:
            await run.result()
    times = begun(file)
    assert all(later - earlier >= 0.299 for earlier, later in zip(times, times[2:], strict=False))


async def test_a_run_that_waits_makes_room_and_comes_back_first(journal):
    order = []
    ask = (SignalPrimitive("go") >> order.append).named("ask")
    gate = Gate()
    gated, work = step(gate).named("gated"), step(order.append, name="work")
    async with runner_of(journal, ask, gated, work, queues=[Queue("one", 1)]) as runner:
        asking = await runner.start(ask, None, run_id="ask", queue="one")
        await until_waiting(runner, "ask")
        await runner.start(gated, None, queue="one")
        await gate.reached.wait()
        last = await runner.start(work, "new", queue="one", priority=9)
        await asking.signal("go", "back")
        await anyio.sleep(0.05)
        assert order == []
        gate.open()
        await last.result()
    assert order == ["back", "new"]


async def test_a_run_begins_after_a_delay(journal):
    from datetime import timedelta

    work = step(lambda _: time.time(), name="work")
    async with runner_of(journal) as runner:
        started = time.time()
        run = await runner.start(work, None, delay=timedelta(milliseconds=200))
        info = await run.info()
        assert info.status == "queued"
        assert info.due_at.timestamp() >= started + 0.2
        assert await run.result() >= started + 0.2


async def test_a_delayed_run_stands_in_line_once_it_is_due(journal):
    order, gate = [], Gate()
    gated, work = step(gate).named("gated"), step(order.append, name="work")
    async with runner_of(journal, gated, work, queues=[Queue("one", 1)]) as runner:
        late = await runner.start(work, "late", queue="one", delay=0.1)
        await runner.start(gated, None, queue="one")
        await gate.reached.wait()
        early = await runner.start(work, "early", queue="one")
        gate.open()
        await early.result()
        await late.result()
    assert order == ["early", "late"]


async def test_a_delayed_run_is_begun_by_the_next_runner(journal):
    work = step(str, name="work")
    async with runner_of(journal, work) as runner:
        await runner.start(work, 42, run_id="run", delay=0.1)
    async with runner_of(journal, work) as runner:
        assert await (await runner.get("run")).result() == "42"


async def test_a_run_that_was_interrupted_goes_on_without_a_new_turn(journal):
    gate, begun = Gate(), []

    @workflow
    async def work(number: int, context: WorkflowContext) -> int:
        begun.append(number)
        return await context.step("gate", gate, number)

    queues = [Queue("one", 1)]
    async with runner_of(journal, work, queues=queues) as runner:
        await runner.start(work, 1, run_id="first", queue="one")
        await gate.reached.wait()
        await runner.start(work, 2, run_id="second", queue="one", priority=9)
    gate.open()
    async with runner_of(journal, work, queues=queues) as runner:
        assert await (await runner.get("second")).result() == 2
        assert await (await runner.get("first")).result() == 1
    assert begun == [1, 1, 2]


async def test_a_queue_is_told_of_a_runner_that_ends(journal):
    """What another runner's end makes room for begins here."""
    gates = [Gate(), Gate()]
    works = [step(gate).named(f"work {n}") for n, gate in enumerate(gates)]
    queues = [Queue("one", 1)]
    async with (
        runner_of(journal, works[0], queues=queues) as first,
        runner_of(journal, works[1], queues=queues) as second,
    ):
        await first.start(works[0], 1, queue="one")
        await gates[0].reached.wait()
        run = await second.start(works[1], 2, queue="one")
        gates[0].open()
        gates[1].open()
        assert await run.result() == 2


async def test_a_runner_leaves_to_others_what_it_has_no_room_for(journal):
    """One that is busy takes three of ten; another one executes all the others meanwhile."""
    busy, idle = Gate(), Gate()
    idle.open()
    slow, quick = (step(gate).named("work") for gate in (busy, idle))
    queues = [Queue("mail")]
    async with runner_of(journal, slow, queues=queues, max_running=3) as first:
        runs = [await first.start(slow, n, queue="mail") for n in range(10)]
        await until(lambda: first._executor._taken == 3)
        async with runner_of(journal, quick, queues=queues, max_running=2) as second:
            results = [await (await second.get(run.run_id)).result() for run in runs[3:]]
            assert results == list(range(3, 10))
        assert [info.run_id for info in await first.list(status="running")] == [
            run.run_id for run in reversed(runs[:3])
        ]
        busy.open()
        assert [await run.result() for run in runs[:3]] == [0, 1, 2]


async def test_a_queue_is_shared_by_the_runners_there_are(file):
    shares, go = [], anyio.Event()

    @asynccontextmanager
    async def runner(share):
        @step(name="work")
        async def work(number):
            shares.append(share)
            await go.wait()
            return number

        async with runner_of(SqliteJournal(file), work, max_running=5, queues=[Queue("q")]) as made:
            yield made, work

    async with runner(0) as (first, work), runner(1), runner(2):
        runs = [await first.start(work, n, queue="q") for n in range(60)]
        await until(lambda: len(shares) == 15)
        assert sorted(shares) == [0] * 5 + [1] * 5 + [2] * 5
        go.set()
        assert [await run.result() for run in runs] == list(range(60))


async def test_what_is_interrupted_is_taken_over_a_few_at_a_time(journal, gauge):
    work, gate = measured(gauge), Gate()
    gated = step(gate).named("work")
    async with runner_of(journal) as runner:
        runs = [await runner.start(gated, n, run_id=str(n)) for n in range(10)]
        await gate.reached.wait()
    async with runner_of(journal, work, max_running=4) as runner:
        assert [await (await runner.get(run.run_id)).result() for run in runs] == list(range(10))
    assert gauge.peak == 4


def test_a_runner_that_takes_no_runs_is_refused(journal):
    with pytest.raises(ValueError, match="max_running=0 must be at least 1"):
        DurableRunner(journal, max_running=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, "the name of a queue must not be empty"),
        ({"name": "q", "max_concurrent": 0}, "max_concurrent=0 of queue 'q' must be positive"),
        ({"name": "q", "rate": -1}, "rate=-1 of queue 'q'"),
        ({"name": "q", "rate": 1, "per": 0}, "per=0 of queue 'q'"),
    ],
)
def test_a_queue_that_lets_nothing_through_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Queue(**arguments)


def test_two_queues_of_one_name_are_refused(journal):
    with pytest.raises(ValueError, match="two queues have one name"):
        DurableRunner(journal, queues=[Queue("mail", 1), Queue("mail", 2)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"queue": "male"}, "there is no queue 'male'; those of queues= are 'mail'"),
        ({"delay": -1}, "delay=-1 s of a run must be"),
        ({"delay": float("nan")}, "delay=nan s"),
        ({"run_id": ""}, "the id of a run must not be empty"),
    ],
)
async def test_a_start_that_makes_no_sense_is_refused(journal, arguments, message):
    async with runner_of(journal, queues=[Queue("mail")]) as runner:
        with pytest.raises(ValueError, match=message):
            await runner.start(step(str), 42, **arguments)
        assert await runner.list() == []


async def test_many_runs_go_through_a_narrow_queue(journal, gauge):
    async def one(number):
        with gauge:
            await checkpoint()

    work = step(one, name="work")
    async with runner_of(journal, queues=[Queue("narrow", 5)]) as runner:
        for number in range(100):
            await runner.start(work, number, queue="narrow")

        async def all_ended():
            return len(await runner.list(status="completed")) == 100

        await until(all_ended)
    assert gauge.peak <= 5
    assert gauge.total == 100
