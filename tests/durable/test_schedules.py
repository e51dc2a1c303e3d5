"""Schedules: runs that the clock starts, each tick once, however many runners keep it."""

import logging
import sqlite3
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import anyio
import pytest
from waiting import runner_of, until

from plait import step
from plait.durable import Schedule

pytestmark = pytest.mark.anyio

OFTEN = timedelta(milliseconds=40)


@pytest.fixture
def ticks():
    """The ticks whose runs were executed."""
    return []


@pytest.fixture
def work(ticks):
    @step(name="work")
    async def work(tick):
        ticks.append(tick)

    return work


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def some_ticks(schedule, after, count):
    ticks = schedule.ticks(at(after))
    return [next(ticks).isoformat(sep=" ")[:16] for _ in range(count)]


def set_last_tick(file, before):
    """Have it been some time since a schedule was kept."""
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE ticks SET at = at - ?", (before.total_seconds(),))
    connection.close()


async def test_an_interval_starts_a_run_at_each_tick(journal, work, ticks):
    schedule = Schedule(work, OFTEN, lambda tick: tick.timestamp(), missed="all")
    async with runner_of(journal, schedules=[schedule]) as runner:
        await until(lambda: len(ticks) >= 4)
        runs = await runner.list(workflow="work")
    assert ticks == sorted(set(ticks))
    steps = {round(later - earlier, 3) for earlier, later in pairwise(ticks)}
    assert steps == {0.04}
    assert all(tick % 0.04 < 1e-6 or tick % 0.04 > 0.04 - 1e-6 for tick in ticks)
    assert runs[-1].metadata["schedule"] == "work"
    assert runs[-1].run_id == f"work@{runs[-1].metadata['tick']}"


async def test_a_schedule_gives_its_runs_an_input(journal, work, ticks):
    schedule = Schedule(work, OFTEN, {"deep": True}, name="cleaning")
    assert repr(schedule) == "<Schedule 'cleaning': 0:00:00.040000>"
    async with runner_of(journal, schedules=[schedule]):
        await until(lambda: ticks)
    assert ticks[0] == {"deep": True}


async def test_two_runners_keep_one_schedule(journal, work, ticks):
    schedules = [Schedule(work, OFTEN, lambda tick: tick.timestamp(), missed="all")]
    async with runner_of(journal, schedules=schedules), runner_of(journal, schedules=schedules):
        await until(lambda: len(ticks) >= 8)
    assert len(ticks) == len(set(ticks))


async def test_runners_that_give_a_tick_another_input_start_it_once(journal, work, ticks, caplog):
    schedules = [
        [Schedule(work, OFTEN, lambda tick, who=who: (tick, who), missed="all")] for who in range(2)
    ]
    async with (
        runner_of(journal, schedules=schedules[0]),
        runner_of(journal, schedules=schedules[1]),
    ):
        await until(lambda: len(ticks) >= 8 and "had another input" in caplog.text)
    assert len({tick for tick, _ in ticks}) == len(ticks)


@pytest.mark.parametrize(("missed", "made_up_for"), [("skip", 0), ("once", 1), ("all", 3)])
async def test_ticks_that_were_missed(journal, file, work, ticks, missed, made_up_for):
    day = timedelta(days=1)
    schedule = Schedule(work, day, lambda tick: tick, missed=missed)
    async with runner_of(journal, schedules=[schedule]):

        def is_kept():
            with sqlite3.connect(file) as connection:
                found = connection.execute("SELECT 1 FROM ticks").fetchone()
            connection.close()
            return found is not None

        await until(is_kept)
    set_last_tick(file, 3 * day)
    async with runner_of(journal, schedules=[schedule]):
        await until(lambda: len(ticks) >= made_up_for)
        await anyio.sleep(0.1)
    today = schedule.last_tick(datetime.now(UTC))
    assert ticks == [today - n * day for n in reversed(range(made_up_for))]


async def test_ticks_are_made_up_for_once(journal, file, work, ticks):
    day = timedelta(days=1)
    schedule = Schedule(work, day, lambda tick: tick, missed="once")
    async with runner_of(journal, schedules=[schedule]):
        await anyio.sleep(0.1)
    set_last_tick(file, 2 * day)
    for _ in range(2):
        async with runner_of(journal, schedules=[schedule]):
            await until(lambda: ticks)
            await anyio.sleep(0.1)
    assert len(ticks) == 1


async def test_an_input_that_cannot_be_made_is_reported_and_skipped(journal, work, ticks, caplog):
    def input_of(tick):
        if not caplog.records:
            raise ZeroDivisionError
        return tick.timestamp()

    async with runner_of(journal, schedules=[Schedule(work, OFTEN, input_of)]):
        await until(lambda: ticks)
    (record, *_) = caplog.records
    assert (record.name, record.levelno) == ("plait.durable", logging.ERROR)
    assert "of schedule 'work' could not be started" in record.message


async def test_a_journal_that_fails_for_a_while_ends_no_schedule(journal, work, ticks, monkeypatch):
    from plait.durable import JournalError, SqliteJournal, _schedules

    monkeypatch.setattr(_schedules, "_PAUSE_SECONDS", 0.01)
    failures = [JournalError("locked"), JournalError("locked")]
    create = SqliteJournal.create

    async def failing(self, runs):
        if failures:
            raise failures.pop()
        return await create(self, runs)

    monkeypatch.setattr(SqliteJournal, "create", failing)
    async with runner_of(journal, schedules=[Schedule(work, OFTEN, missed="all")]):
        await until(lambda: ticks)
    assert not failures


def test_a_cron_expression():
    noon = Schedule(abs, "0 12 * * mon-fri", name="noon")
    assert some_ticks(noon, "2026-03-05 13:00", 3) == [
        "2026-03-06 12:00",
        "2026-03-09 12:00",
        "2026-03-10 12:00",
    ]
    assert noon.last_tick(at("2026-03-09 11:59:59")) == at("2026-03-06 12:00")
    assert noon.last_tick(at("2026-03-09 12:00")) == at("2026-03-09 12:00")
    assert noon.last_tick(at("2026-03-09 12:00:30")) == at("2026-03-09 12:00")


def test_a_cron_expression_of_a_time_zone_follows_its_clocks():
    morning = Schedule(abs, "0 9 * * *", name="morning", timezone="Europe/Berlin")
    assert some_ticks(morning, "2026-03-27 12:00", 3) == [
        "2026-03-28 08:00",
        "2026-03-29 07:00",  # the clocks were put forward
        "2026-03-30 07:00",
    ]
    assert some_ticks(morning, "2026-10-23 12:00", 3) == [
        "2026-10-24 07:00",
        "2026-10-25 08:00",  # and back
        "2026-10-26 08:00",
    ]


def test_a_time_that_the_clocks_leave_out_is_not_left_out():
    night = Schedule(abs, "30 2 * * *", name="night", timezone="Europe/Berlin")
    assert some_ticks(night, "2026-03-28 00:00", 3) == [
        "2026-03-28 01:30",
        "2026-03-29 01:00",
        "2026-03-30 00:30",
    ]


def test_a_time_that_the_clocks_show_twice_comes_once():
    night = Schedule(abs, "30 2 * * *", name="night", timezone="Europe/Berlin")
    assert some_ticks(night, "2026-10-24 12:00", 2) == ["2026-10-25 00:30", "2026-10-26 01:30"]


def test_an_interval_is_counted_from_the_epoch():
    schedule = Schedule(abs, timedelta(minutes=20), name="often")
    assert some_ticks(schedule, "2026-03-05 13:01", 2) == ["2026-03-05 13:20", "2026-03-05 13:40"]
    assert schedule.last_tick(at("2026-03-05 13:20")) == at("2026-03-05 13:20")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"when": "every day"}, "'every day' of schedule 'work' is no cron expression"),
        ({"when": timedelta()}, "must be positive, not 0:00:00"),
        ({"when": "* * * * *", "timezone": "Mars/Olympus"}, "timezone='Mars/Olympus'"),
        ({"when": "* * * * *", "timezone": "../etc"}, r"timezone='\.\./etc'"),
        ({"when": "* * * * *", "missed": "some"}, "missed='some' of schedule 'work'"),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused(arguments, message, work):
    with pytest.raises(ValueError, match=message):
        Schedule(work, **arguments)


def test_a_time_of_another_type_is_refused(work):
    with pytest.raises(TypeError, match="a cron expression or a timedelta, not 5"):
        Schedule(work, 5)


def test_cron_expressions_need_a_package(work, monkeypatch):
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(ImportError, match=r"plait\[schedules\]"):
        Schedule(work, "* * * * *")
    Schedule(work, OFTEN)
