"""A journal that fails under a run leaves the run resumable, and nothing goes on unrecorded."""

import functools
import itertools
import sqlite3
import threading

import anyio
import pytest
from interruption import Gate, carry_on, resume

from plait import (
    CachePrimitive,
    ConditionalPrimitive,
    FallbackPrimitive,
    MapPrimitive,
    ReducePrimitive,
    RetryPrimitive,
    RouterPrimitive,
    SequentialPrimitive,
    TimeoutPrimitive,
    WorkflowContext,
    step,
)
from plait.durable import DurableRunner, JournalError, SqliteJournal
from plait.recovery import constant

pytestmark = pytest.mark.anyio


class Disk:
    """What a journal is written to; fails where a test says so."""

    def __init__(self):
        self.is_full = False
        self.longest_row = 1_000_000_000
        self.is_turning = threading.Event()
        self.is_turning.set()


@pytest.fixture
def disk(monkeypatch):
    disk = Disk()

    class Connection(sqlite3.Connection):
        def execute(self, statement, *values):
            if statement == "BEGIN IMMEDIATE":
                disk.is_turning.wait()
                # SQLite takes it to be at least as many as there are.
                super().execute(f"PRAGMA max_page_count = {1 if disk.is_full else 2**30}")
                super().execute("PRAGMA busy_timeout = 50")
                self.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, disk.longest_row)
            return super().execute(statement, *values)

    connect = functools.partial(sqlite3.connect, factory=Connection)
    monkeypatch.setattr(sqlite3, "connect", connect)
    return disk


@pytest.fixture
def fill_up(disk):
    """A step that returns what there is no room for, the first time that it is called."""

    times = itertools.count()

    @step
    async def fill_up(text):
        disk.is_full = next(times) == 0
        return text * 100_000

    return fill_up


async def test_a_run_that_cannot_be_recorded_stops_and_can_be_carried_on(journal, disk, fill_up):
    calls = []
    note = step(lambda text: calls.append(text) or text)
    workflow = (note >> fill_up >> len).named("workflow")
    async with DurableRunner(journal, workflows=[workflow]) as runner:
        run = await runner.start(workflow, "a", run_id="run")
        with pytest.raises(JournalError, match="database or disk is full"):
            await run.result()
        assert (await run.info()).status == "running"
    disk.is_full = False
    assert await carry_on(journal, workflow) == 100_000
    assert calls == ["a"]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: RetryPrimitive(inner, backoff=constant(0)),
        lambda inner: FallbackPrimitive(inner, [str]),
        lambda inner: TimeoutPrimitive(inner, 60),
        lambda inner: CachePrimitive(inner, 60),
        lambda inner: inner | str,
        lambda inner: MapPrimitive(inner, errors="collect"),
    ],
)
async def test_nothing_takes_a_failing_journal_for_a_failing_step(journal, disk, fill_up, wrap):
    after = []
    workflow = (wrap(fill_up) >> after.append).named("workflow")
    async with DurableRunner(journal) as runner:
        with pytest.raises(JournalError, match="full"):
            await runner.run(workflow, "a", run_id="run")
        assert (await runner.info("run")).status == "running"
    assert after == []
    disk.is_full = False
    assert await carry_on(journal, workflow) is None


async def test_a_run_whose_end_cannot_be_recorded_can_be_carried_on(journal, disk):
    calls = []

    @step
    async def make(_):
        calls.append("make")
        return ["a" * 1000]

    workflow = MapPrimitive(make).named("workflow")
    disk.longest_row = 100_000
    async with DurableRunner(journal) as runner:
        with pytest.raises(JournalError, match="too big"):
            await runner.run(workflow, list(range(200)), run_id="run")
        assert (await runner.info("run")).status == "running"
    disk.longest_row = 1_000_000_000
    assert await carry_on(journal, workflow) == [["a" * 1000]] * 200
    assert len(calls) == 200


async def test_what_cannot_be_recorded_keeps_nothing_else_from_it(journal, file, disk):
    gate = Gate()
    make = step(lambda size: "a" * size)
    workflow = (step(gate) >> make).named("workflow")
    async with DurableRunner(journal) as runner:
        runs = [await runner.start(workflow, size) for size in (1, 2, 100_000, 3, 4)]
        disk.longest_row = 50_000
        gate.open()
        results = []
        for run in runs:
            try:
                results.append(len(await run.result()))
            except JournalError as error:
                results.append(str(error))
    assert results == [
        1,
        2,
        f"the journal {file} could not be written or read: string or blob too big",
        3,
        4,
    ]


async def test_records_that_gather_while_the_disk_is_busy_are_kept_together(journal, disk):
    gate = Gate()
    workflow = (step(gate) >> str).named("workflow")
    async with DurableRunner(journal) as runner:
        runs = [await runner.start(workflow, number, run_id=str(number)) for number in range(150)]
        disk.is_turning.clear()
        gate.open()
        with anyio.fail_after(5):
            while gate.passed < 150:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        disk.is_turning.set()
        assert [await run.result() for run in runs] == [str(number) for number in range(150)]
    assert gate.passed == 150
    async with DurableRunner(journal, workflows=[workflow]) as runner:
        assert len(await runner.list(status="completed", limit=200)) == 150


async def test_a_journal_that_another_process_has_locked_is_said_to_be(journal, disk, file):
    async with DurableRunner(journal) as runner:
        await runner.run(step(str), 1)
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(JournalError, match="database is locked"):
            await runner.run(step(len), "abc", run_id="run")
        other.execute("ROLLBACK")
        other.close()
        assert await runner.run(step(name="size")(len), "abc", run_id="run") == 3


async def test_leaving_ends_the_writer_where_the_lease_cannot_be_given_back(journal, disk, file):
    runner = DurableRunner(journal)
    await runner.__aenter__()
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        await runner.__aexit__(None, None, None)
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert "plait-journal" not in {thread.name for thread in threading.enumerate()}


def fence(file):
    """Let the leases of all runners be over."""
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE runners SET lease = 0")
    connection.close()


async def test_a_runner_that_was_taken_over_from_records_nothing_more(journal, file, caplog):
    stalled, moving = Gate(), Gate()
    moving.open()
    workflow, same = (
        SequentialPrimitive([str.upper, gate, str.lower]).named("workflow")
        for gate in (stalled, moving)
    )
    async with DurableRunner(journal) as old:
        run = await old.start(workflow, "Ada", run_id="run")
        await stalled.reached.wait()
        fence(file)
        async with DurableRunner(journal, workflows=[same]) as new:
            taken_over = await new.get("run")
            assert await taken_over.result() == "ada"
            assert (taken_over.replayed, taken_over.executed) == (1, 2)
            stalled.open()
            assert await run.result() == "ada"
            assert [info.run_id for info in await new.list()] == ["run"]
            assert (await new.info("run")).status == "completed"
    connection = sqlite3.connect(file)
    assert connection.execute("SELECT count(*) FROM records").fetchone() == (3,)
    connection.close()
    assert "another runner has taken over" in caplog.text


class Mortal(SqliteJournal):
    """Takes so many writes, as if its process were killed then."""

    def __init__(self, file, writes):
        super().__init__(file)
        self._writes = writes

    def _write(self):
        if not self._writes:
            raise JournalError("killed")
        self._writes -= 1

    def append(self, record):
        self._write()
        return super().append(record)

    async def finish(self, *arguments):
        self._write()
        await super().finish(*arguments)


def one_of_each(executed):
    """A workflow of every primitive, whose steps say at which paths they were executed."""

    @step
    async def work(value, context: WorkflowContext):
        executed.append(context.path)
        context.data[context.path] = value
        return value + 1

    @step
    async def risky(value, context: WorkflowContext):
        executed.append(context.path)
        if context.attempt == 1:
            raise ConnectionError
        return value

    @step
    async def broken(value, context: WorkflowContext):
        executed.append(context.path)
        raise ConnectionError

    @step
    async def shop(value):
        return await work(await work(value))

    total = ReducePrimitive(lambda total, n: total + n, 0)
    return SequentialPrimitive(
        [
            work,
            work | (work >> work),
            MapPrimitive(work, max_concurrency=2) >> total,
            RetryPrimitive(risky, backoff=constant(0)),
            FallbackPrimitive(broken, [work]),
            ConditionalPrimitive(lambda n: n > 0, work),
            RouterPrimitive({"a": work, "b": work}, lambda _: ["a", "b"]),
            lambda routes: sum(routes.values()),
            TimeoutPrimitive(work >> work, 60),
            CachePrimitive(work, 60),
            shop,
            lambda value, context: (value, sorted(context.data.items())),
        ]
    ).named("workflow")


async def test_a_run_may_be_killed_at_every_write(tmp_path):
    executed = []
    workflow = one_of_each(executed)
    async with DurableRunner(f"sqlite:///{tmp_path}/whole.db") as runner:
        expected = await runner.run(workflow, 1, run_id="run")
    nodes = sorted(executed)
    for writes in itertools.count():
        file = tmp_path / f"{writes}.db"
        executed.clear()
        workflow = one_of_each(executed)
        async with DurableRunner(Mortal(file, writes)) as runner:
            run = await runner.start(workflow, 1, run_id="run")
            try:
                assert await run.result() == expected
                break
            except JournalError:
                pass
        recorded = recorded_paths(file)
        before = executed.copy()
        assert await carry_on(f"sqlite:///{file}", one_of_each(executed)) == expected
        assert sorted(set(executed)) == nodes
        assert recorded.isdisjoint(executed[len(before) :])
    assert writes > 25


def recorded_paths(file):
    connection = sqlite3.connect(file)
    rows = connection.execute("SELECT path FROM records WHERE kind < 2").fetchall()
    connection.close()
    return {path for (path,) in rows}


async def test_a_run_that_fails_may_be_killed_at_every_write(tmp_path):
    for writes in itertools.count():
        calls, file = [], tmp_path / f"{writes}.db"
        line = [False, True]

        @step
        async def call(value, calls=calls, line=line):
            calls.append(value)
            if not line.pop(0):
                raise ConnectionError
            return value

        @step
        async def note(value, calls=calls):
            calls.append("noted")
            return value

        workflow = (note >> call).named("workflow")
        async with DurableRunner(Mortal(file, writes)) as runner:
            run = await runner.start(workflow, 42, run_id="run")
            with pytest.raises((JournalError, ConnectionError)) as caught:
                await run.result()
        is_whole = caught.type is ConnectionError
        if is_whole:
            break
    assert writes > 2
    assert await resume(f"sqlite:///{file}", workflow) == 42
    assert calls == ["noted", 42, 42]


async def test_a_runner_that_cannot_claim_is_not_entered(file):
    class Refusing(SqliteJournal):
        async def claim(self, *_):
            raise JournalError("not now")

    runner = DurableRunner(Refusing(file))
    for _ in range(2):  # and may be entered later
        with pytest.raises(JournalError, match="not now"):
            await runner.__aenter__()


async def test_a_file_that_another_program_writes_to_is_not_made_a_journal(file):
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalError, match="database is locked"):
        async with DurableRunner(SqliteJournal(file, lock_seconds=0.05)):
            pass
    other.close()


async def test_a_run_goes_on_in_the_same_runner_once_there_is_room_again(journal, disk, fill_up):
    workflow = (fill_up >> len).named("workflow")
    async with DurableRunner(journal) as runner:
        with pytest.raises(JournalError, match="full"):
            await runner.run(workflow, "a", run_id="run")
        disk.is_full = False
        assert await runner.run(workflow, "a", run_id="run") == 100_000


class Deaf(SqliteJournal):
    """Cannot tell, the first time that it is asked, whether another process wrote something."""

    def __init__(self, path):
        super().__init__(path)
        self.has_failed, self.is_asked_again = False, anyio.Event()

    async def changed(self, timeout):
        if not self.has_failed:
            self.has_failed = True
            raise JournalError("not now")
        self.is_asked_again.set()
        return await super().changed(timeout)


async def test_a_runner_whose_journal_could_not_tell_of_news_asks_again(file):
    journal = Deaf(file)
    async with DurableRunner(journal) as runner:
        assert await runner.run(step(str), 1) == "1"
        with anyio.move_on_after(20):
            await journal.is_asked_again.wait()
    assert journal.is_asked_again.is_set()


class Unclaimable(SqliteJournal):
    """Fails the first time that runs are to be taken over."""

    has_failed = False

    async def claim(self, *asked):
        if not self.has_failed:
            self.has_failed = True
            raise JournalError("not now")
        return await super().claim(*asked)


async def test_a_runner_whose_runs_could_not_be_taken_over_may_be_entered_again(file):
    runner = DurableRunner(Unclaimable(file))
    with pytest.raises(JournalError, match="not now"):
        await runner.__aenter__()
    async with runner:
        assert await runner.run(step(str), 1) == "1"
