"""The file behind an address: what is no journal is refused, and not touched."""

import os
import sqlite3
import sys
from pathlib import Path

import anyio
import pytest
from interruption import Gate, carry_on, interrupt

from plait import FallbackPrimitive, SequentialPrimitive, TimeoutPrimitive, step
from plait.durable import DurableRunner, JournalError, SqliteJournal

pytestmark = pytest.mark.anyio

greet = (step(str.title) >> "Hello {}".format).named("greet")


def change(file, statement, *values):
    """Change a journal by hand."""
    with sqlite3.connect(file) as connection:
        assert connection.execute(statement, values).rowcount
    connection.close()


async def assert_refused(file, message):
    """A file must be refused with this message and its own name, and not be changed."""
    before = file.read_bytes()
    with pytest.raises(JournalError, match=message) as caught:
        async with DurableRunner(f"sqlite:///{file}"):
            pass
    assert str(file) in str(caught.value)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


async def test_an_address_may_be_a_journal(file):
    async with DurableRunner(SqliteJournal(file)) as runner:
        assert await runner.run(greet, "ada") == "Hello Ada"


async def test_a_journal_is_written_ahead_and_synchronised(journal, file):
    async with DurableRunner(journal) as runner:
        await runner.run(greet, "ada")
        assert file.with_name("runs.db-wal").exists()
    with sqlite3.connect(file) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


@pytest.mark.parametrize("size", [2, 100, 5000, 100_000])
async def test_a_text_file_is_no_journal(file, size):
    file.write_text(("to be or not to be\n" * 10_000)[:size])
    await assert_refused(file, "cannot be used as a journal: file is not a database")


async def test_a_database_of_another_application_is_no_journal(file):
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE runs (id INTEGER)")
    connection.close()
    await assert_refused(file, "database of another application")


async def test_a_database_that_another_application_has_marked_is_no_journal(file):
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA application_id = 42")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    await assert_refused(file, "database of another application")


async def test_a_journal_of_a_newer_version_is_refused(journal, file):
    async with DurableRunner(journal) as runner:
        await runner.run(greet, "ada")
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    await assert_refused(file, "journal of version 99, written by a newer plait")


async def test_a_journal_that_has_lost_a_table_is_refused(journal, file):
    async with DurableRunner(journal) as runner:
        await runner.run(greet, "ada")
    with sqlite3.connect(file) as connection:
        connection.execute("DROP TABLE runners")
    connection.close()
    await assert_refused(file, "no such table: runners")


async def test_an_empty_file_becomes_a_journal(journal, file):
    file.touch()
    async with DurableRunner(journal) as runner:
        assert await runner.run(greet, "ada") == "Hello Ada"


@pytest.mark.parametrize("name", ["missing/runs.db", "."])
async def test_a_file_that_cannot_be_opened_is_named(file, name):
    path = file.parent / name
    with pytest.raises(JournalError, match="unable to open database file") as caught:
        async with DurableRunner(f"sqlite:///{path}"):
            pass
    assert str(path) in str(caught.value)


async def test_a_name_that_no_file_can_have_is_refused():
    with anyio.fail_after(2), pytest.raises((ValueError, JournalError)):
        async with DurableRunner("sqlite:///a\0b"):
            pass


STRANGE_ID = """
import sys, anyio
from plait import step
from plait.durable import DurableRunner, JournalError

async def main():
    async with DurableRunner(sys.argv[1]) as runner:
        try:
            await runner.start(step(len), "ada", run_id="half a pair \\ud800")
        except (ValueError, JournalError):
            print(await runner.run(step(name="size")(len), "ada"))

anyio.run(main, backend=sys.argv[2])
"""


async def test_an_id_that_cannot_be_stored_is_refused_and_stops_nothing(journal, anyio_backend):
    program = [sys.executable, "-c", STRANGE_ID, journal, anyio_backend]
    with anyio.fail_after(5):  # kills a process that hangs
        ended = await anyio.run_process(program)
    assert ended.stdout == b"3\n"


async def test_a_runner_that_could_not_be_entered_may_be_entered_later(file):
    runner = DurableRunner(f"sqlite:///{file.parent}/later/runs.db")
    with pytest.raises(JournalError):
        await runner.__aenter__()
    (file.parent / "later").mkdir()
    async with runner:
        assert await runner.run(greet, "ada") == "Hello Ada"


@pytest.mark.parametrize("_", range(5))
async def test_many_runners_may_make_one_journal_at_the_same_time(journal, _):
    async def use(number):
        async with DurableRunner(journal) as runner:
            await runner.run(greet, "ada", run_id=f"run {number}")

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(use, number)
    async with DurableRunner(journal) as runner:
        assert len(await runner.list(status="completed")) == 10


async def interrupted(journal, **workflows):
    """Runs that are interrupted at their second step, and their workflows."""
    gate = Gate()
    made = [
        SequentialPrimitive([function, gate]).named(name) for name, function in workflows.items()
    ]
    async with DurableRunner(journal, workflows=made, grace_seconds=0) as runner:
        for workflow in made:
            await runner.start(workflow, "ada", run_id=workflow.name)
            await gate.reached.wait()
            gate.reached = anyio.Event()
    gate.open()
    return made


@pytest.mark.parametrize(
    "payload",
    [
        "{",
        "[1",
        '{"$tuple": 1}',
        '{"$type": "test_journal_files:Gone", "fields": {}}',
        '{"$type": "gone.module:Gone", "fields": {}}',
        '{"$type": "test_journal_files:greet", "fields": {}}',
        '{"$type": "builtins:slice", "value": 1}',
        '{"$type": "builtins:int"}',
        '{"$type": 1}',
        '{"$class": ".a:b"}',
        '{"$of": "a newer version"}',
        '{"$bytes": "?"}',
    ],
)
async def test_a_run_whose_record_cannot_be_decoded_is_stopped_there(journal, file, payload):
    damaged, whole = await interrupted(journal, damaged=str.upper, whole=str.upper)
    change(
        file,
        "UPDATE records SET payload = CAST(? AS BLOB) WHERE path LIKE 'damaged/1%'",
        payload,
    )
    async with DurableRunner(journal, workflows=[damaged, whole]) as runner:
        assert await (await runner.get("whole")).result() == "ADA"
        with pytest.raises(JournalError, match=r"'damaged/1:upper' cannot be decoded"):
            await (await runner.get("damaged")).result()
        assert (await runner.info("damaged")).status == "running"


@pytest.mark.parametrize("column", ["payload", "data"])
async def test_no_fallback_hides_a_record_that_cannot_be_decoded(journal, file, column):
    gate = Gate()
    workflow = (FallbackPrimitive(str.upper, [str.lower]) >> gate).named("workflow")
    await interrupt(journal, workflow, "ada", gate)
    change(file, f"UPDATE records SET {column} = CAST('{{\"$tuple\": 1}}' AS BLOB)")
    with pytest.raises(JournalError, match="'workflow/1:upper/primary' cannot be decoded"):
        await carry_on(journal, workflow)


async def test_a_timer_that_cannot_be_decoded_stops_its_run(journal, file):
    gate = Gate()
    workflow = TimeoutPrimitive(gate, 60).named("workflow")
    await interrupt(journal, workflow, "ada", gate)
    change(file, "UPDATE records SET payload = CAST('soon' AS BLOB) WHERE kind = 2")
    with pytest.raises(JournalError, match=r"'workflow/timed\S*deadline' cannot be decoded"):
        await carry_on(journal, workflow)
    assert gate.passed == 0


@pytest.mark.parametrize("column", ["input", "context"])
async def test_a_run_whose_start_cannot_be_decoded_leaves_the_others_alone(journal, file, column):
    damaged, whole = await interrupted(journal, damaged=str.upper, whole=str.upper)
    change(file, f"UPDATE runs SET {column} = CAST('{{' AS BLOB) WHERE run_id = 'damaged'")
    async with DurableRunner(journal, workflows=[damaged, whole]) as runner:
        assert await (await runner.get("whole")).result() == "ADA"
        with pytest.raises(JournalError, match=r"'damaged' .*cannot be decoded"):
            await (await runner.get("damaged")).result()
        assert len(await runner.list(status="running")) == 1


async def test_a_result_that_cannot_be_decoded_is_the_journals_fault(journal, file):
    async with DurableRunner(journal) as runner:
        await runner.run(greet, "ada", run_id="run")
    change(file, "UPDATE runs SET outcome = CAST('{' AS BLOB)")
    with pytest.raises(JournalError, match=r"'run' .*cannot be decoded"):
        await carry_on(journal, greet)


@pytest.mark.parametrize(
    ("fact", "is_taken_over"),
    [
        ("lease = lease", False),
        ("lease = 0", True),
        ("host = 'elsewhere'", False),
        ("host = 'elsewhere', lease = 0", True),
        ("born = 'earlier'", True),
        ("pid = {ended}", True),
    ],
)
async def test_a_runner_is_taken_over_when_it_shows_no_life(journal, file, fact, is_taken_over):
    process = await anyio.run_process([sys.executable, "-c", "import os; print(os.getpid())"])
    gate = Gate()
    workflow = SequentialPrimitive([gate]).named("workflow")
    await interrupt(journal, workflow, 42, gate)
    gate = Gate()
    change(file, f"UPDATE runners SET is_gone = 0, {fact.format(ended=process.stdout.decode())}")
    async with DurableRunner(journal, workflows=[workflow]) as runner:
        run = await runner.get("run")
        if is_taken_over:
            assert await run.result() == 42
        assert run.executed == is_taken_over
    change(file, "UPDATE runners SET is_gone = 1")


async def test_a_runner_of_another_user_is_alive(journal, file, monkeypatch):
    gate = Gate()
    workflow = SequentialPrimitive([gate]).named("workflow")
    await interrupt(journal, workflow, 42, gate)
    change(file, "UPDATE runners SET is_gone = 0")

    def refuse(pid, signal):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    async with DurableRunner(journal, workflows=[workflow]) as runner:
        assert (await runner.info("run")).status == "running"
    assert gate.passed == 0


async def test_where_no_process_tells_its_age_a_living_one_keeps_its_runs(journal, monkeypatch):
    def refuse(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", refuse)
    gate = Gate()
    workflow = SequentialPrimitive([gate]).named("workflow")
    async with DurableRunner(journal) as first:
        run = await first.start(workflow, 42, run_id="run")
        async with DurableRunner(journal, workflows=[workflow]) as second:
            assert (await second.get("run")).executed == 0
        gate.open()
        assert await run.result() == 42
    assert gate.passed == 1


async def test_a_lease_is_renewed_while_a_runner_lives(file):
    def lease():
        connection = sqlite3.connect(file)
        (value,) = connection.execute("SELECT lease FROM runners").fetchone()
        connection.close()
        return value

    async with DurableRunner(SqliteJournal(file, lease_seconds=0.3)):
        first = lease()
        with anyio.fail_after(5):
            while lease() == first:  # noqa: ASYNC110
                await anyio.sleep(0.02)
        assert lease() > first


async def test_a_journal_that_another_process_is_making_is_waited_for(journal, file):
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def let_go():
        await anyio.sleep(0.1)
        other.execute("ROLLBACK")
        other.close()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(let_go)
        async with DurableRunner(journal) as runner:
            assert await runner.run(greet, "ada") == "Hello Ada"


async def test_a_journal_that_stays_locked_is_not_waited_for_forever(file):
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalError, match=r"runs\.db cannot be used .* locked"):
        async with DurableRunner(SqliteJournal(file, lock_seconds=0.05)):
            pass
    other.close()
