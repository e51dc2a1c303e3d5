"""Who lives, by clocks that do not jump."""

import os
import sqlite3
import sys
import threading
import time
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint
from journaling import claimed, new, record, start

from plait.durable import JournalError, LeaseLostError, SqliteJournal
from plait.durable._opened import opened
from plait.durable._sqlite._leases import Lease
from plait.durable._sqlite._writer import Uses

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self):
        self.now = 10_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """The clock that goes on evenly since the machine was started."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture
def no_beat(monkeypatch):
    """Runners that take a lease and are stuck from then on."""
    monkeypatch.setattr(Lease, "renew", lambda *_: None)


@pytest.fixture
async def pair(file):
    """The journal of a runner that executes a run, and that of another."""
    async with opened(SqliteJournal(file)) as first, opened(SqliteJournal(file)) as second:
        await start(first)
        yield first, second


def change(file, facts):
    """Change what the first runner says of itself."""
    connection = sqlite3.connect(file)
    assert connection.execute(f"UPDATE runners SET {facts} WHERE id = 1").rowcount
    connection.commit()
    connection.close()


async def is_taken_over(pair):
    found = await claimed(pair[1])
    if found:
        with pytest.raises(JournalError, match="another runner has taken over from this one"):
            await pair[0].append(record(1))
    else:
        await pair[0].append(record(1))
    return bool(found)


@pytest.mark.parametrize("jump", [-1e6, 1e6])
async def test_a_wall_clock_that_jumps_makes_no_living_runner_dead(pair, monkeypatch, jump):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + jump)
    assert not await is_taken_over(pair)


@pytest.mark.usefixtures("no_beat")
@pytest.mark.parametrize("jump", [-1e6, 0, 1e6])
async def test_a_wall_clock_that_jumps_makes_no_dead_runner_live(clock, file, monkeypatch, jump):
    async with opened(SqliteJournal(file)) as first, opened(SqliteJournal(file)) as second:
        await start(first)
        monkeypatch.setattr(time, "time", lambda: 1e9 + jump)
        clock.now += 29
        assert await claimed(second) == []
        clock.now += 2
        assert await claimed(second) == ["run"]


async def test_a_runner_that_renews_its_lease_lives(clock, file):
    async with (
        opened(SqliteJournal(file, lease_seconds=0.3)) as first,
        opened(SqliteJournal(file)) as second,
    ):
        await start(first)
        clock.now += 0.2
        with anyio.fail_after(5):
            while _lease(file) < 10_000.5:
                await first.find("run")
        clock.now += 0.2
        assert await claimed(second) == []


def _lease(file):
    connection = sqlite3.connect(file)
    (lease,) = connection.execute("SELECT lease FROM runners WHERE id = 1").fetchone()
    connection.close()
    return lease


@pytest.mark.parametrize(
    ("facts", "is_gone"),
    [
        ("lease = lease", False),
        ("lease = 0", True),
        ("lease = lease + 1e6", True),  # of a clock that was started anew
        ("host = 'elsewhere'", False),
        ("host = 'elsewhere', lease = 0", True),
        ("born = 'earlier'", True),
        ("pid = {ended}", True),
        ("pid = {ended}, spaces = 'another container'", False),
        ("pid = {ended}, host = 'elsewhere'", False),
        ("boot = 'another boot'", True),
        ("boot = ''", False),
        ("boot = 'another boot', host = 'elsewhere'", False),
        ("boot = substr(boot, 1, 36) || ' another clock', lease = 0", False),
    ],
)
@pytest.mark.skipif(not Path("/proc/self/ns/time").exists(), reason="needs Linux")
async def test_a_runner_is_taken_over_when_it_shows_no_life(pair, file, facts, is_gone):
    ended = await anyio.open_process([sys.executable, "-c", ""])
    async with ended:
        await ended.wait()
    change(file, facts.format(ended=ended.pid))
    assert await is_taken_over(pair) == is_gone


@pytest.mark.usefixtures("no_beat")
async def test_a_runner_whose_clock_is_another_is_watched(clock, file):
    async with opened(SqliteJournal(file)) as first, opened(SqliteJournal(file)) as second:
        await start(first)
        change(file, "boot = 'another', host = 'elsewhere', lease = 5")
        assert await claimed(second) == []
        clock.now += 20
        assert await claimed(second) == []
        change(file, "lease = 25")
        clock.now += 20
        assert await claimed(second) == []
        clock.now += 29
        assert await claimed(second) == []
        clock.now += 2
        assert await claimed(second) == ["run"]


@pytest.mark.usefixtures("no_beat")
async def test_without_the_kernels_word_leases_alone_decide(clock, file, monkeypatch):
    def refuse(*_):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(os, "readlink", refuse)
    async with opened(SqliteJournal(file)) as first, opened(SqliteJournal(file)) as second:
        await start(first)
        assert await claimed(second) == []
        clock.now += 31
        assert await claimed(second) == ["run"]


async def test_a_process_of_another_user_is_alive(pair, monkeypatch):
    def refuse(pid, signal):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert not await is_taken_over(pair)


async def test_no_signal_is_sent_to_a_process_on_windows(pair, monkeypatch):
    sent = []
    monkeypatch.setattr("plait.durable._sqlite._leases.os.name", "nt")
    monkeypatch.setattr(os, "kill", lambda *signal: sent.append(signal))
    assert await claimed(pair[1]) == []
    monkeypatch.undo()
    assert sent == []


async def test_a_runner_that_was_taken_over_reads_but_does_not_write(pair, file):
    first, second = pair
    change(file, "is_gone = 1")
    assert await claimed(second) == ["run"]
    assert (await first.find("run")).status == "running"
    assert not (await first.find("run")).is_claimed
    calls = [
        lambda: first.append(record(1)),
        lambda: first.create([new("other")]),
        lambda: first.finish(1, "completed", b"", [], 110.0),
        lambda: first.suspend(1, [], 110.0),
        lambda: first.send("run", "go", b"", None, 110.0),
        lambda: first.transact(lambda c: c.execute("CREATE TABLE t (n)"), lambda _: record(1)),
        lambda: first.claim(["flow"], [], 110.0, 10),
    ]
    for call in calls:
        with pytest.raises(JournalError, match=r"taken over from this one on .*runs\.db"):
            await call()
    assert await second.records(1) == []


async def test_a_runner_that_was_stopped_for_long_asks_whether_it_may_go_on(clock, file):
    async with opened(SqliteJournal(file)) as first:
        assert first.confirm() is None
        clock.now += 31
        await first.confirm()
        await start(first)
        assert first.confirm() is None
        clock.now += 31
        change(file, "is_gone = 1")
        with pytest.raises(JournalError, match="taken over"):
            await first.confirm()


async def test_a_runner_goes_on_with_a_new_lease(pair, file):
    first, second = pair
    await start(first, "other", "another flow")
    change(file, "is_gone = 1")
    assert await claimed(second) == ["run"]
    answers = [first.append(record(1)) for _ in range(3)]
    for answer in answers:
        with pytest.raises(LeaseLostError):
            await answer
    await first.renew()
    assert await start(first, "new") == 3
    assert (await first.find("new")).is_claimed
    assert not (await first.find("run")).is_claimed
    assert await claimed(second) == []
    assert await claimed(first, "another flow") == ["other"]
    assert await second.records(1) == []


async def test_a_lease_that_is_not_lost_is_kept(pair, file):
    await pair[0].renew()
    assert (await pair[0].find("run")).is_claimed


async def checkpoint_and_open(gate):
    await checkpoint()
    gate.set()


async def test_a_look_up_beside_a_write_that_is_refused_is_answered(pair, file):
    change(file, "is_gone = 1")
    gate = threading.Event()
    held = pair[0]._writer.submit(lambda _: gate.wait(10), Uses.READS)
    written = pair[0].append(record(1))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(checkpoint_and_open, gate)
        assert (await pair[0].find("run")).status == "running"
    assert await held
    with pytest.raises(LeaseLostError):
        await written


async def test_runners_that_left_nothing_are_forgotten(file):
    for _ in range(3):
        async with opened(SqliteJournal(file)):
            pass
    async with opened(SqliteJournal(file)) as journal:
        await start(journal, "other", "another flow")
    async with opened(SqliteJournal(file)) as journal:
        assert await claimed(journal) == []
    connection = sqlite3.connect(file)
    assert connection.execute("SELECT id FROM runners").fetchall() == [(4,), (5,)]
    connection.close()
