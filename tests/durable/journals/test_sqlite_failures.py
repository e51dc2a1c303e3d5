"""A file that fails: full, locked, damaged, not to be written, or no journal at all."""

import shutil
import sqlite3
import subprocess
import sys
import time

import anyio
import pytest
from journaling import claimed, new, paths, record, start

from plait.durable import JournalError, MemoryJournal, SqliteJournal
from plait.durable._opened import opened
from plait.durable._stored import RunQuery

pytestmark = pytest.mark.anyio

PAGE = 4096


async def test_a_full_disk_is_told_and_can_be_mended(file, room):
    async with opened(SqliteJournal(file)) as journal:
        key = await start(journal)
        room(1)  # SQLite takes it to be at least as many as there are
        with pytest.raises(JournalError, match=r"runs\.db .*disk is full \(make room") as caught:
            await journal.append(record(key, payload=b"x" * 1_000_000))
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
        assert await paths(journal, key) == []
        room(2**30)
        await journal.append(record(key, payload=b"x" * 1_000_000))
        assert await paths(journal, key) == ["flow"]


async def test_what_is_too_large_keeps_nothing_else_from_being_written(file, room):
    async with opened(SqliteJournal(file)) as journal:
        key = await start(journal)
        room(1)
        small = [journal.append(record(key, f"flow/{n}")) for n in range(3)]
        large = journal.append(record(key, "large", b"x" * 1_000_000))
        small += [journal.append(record(key, f"flow/{n}")) for n in range(3, 6)]
        with pytest.raises(JournalError, match="disk is full"):
            await large
        for answer in small:
            await answer
        assert await paths(journal, key) == [f"flow/{n}" for n in range(6)]


async def test_a_step_that_fills_the_disk_undoes_what_it_did(file, room):
    async with opened(SqliteJournal(file)) as journal:
        key = await start(journal)
        room(1)

        def fill(connection):
            connection.execute("CREATE TABLE t (n)")
            connection.execute("INSERT INTO t VALUES (zeroblob(1000000))")

        before = journal.append(record(key, "before"))
        with pytest.raises((JournalError, sqlite3.OperationalError), match="disk is full"):
            await journal.transact(fill, lambda _: record(key, "never"))
        await before
        room(2**30)
        assert await paths(journal, key) == ["before"]


@pytest.fixture
def disk(tmp_path):
    """A disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("this system lets nobody mount")
    yield disk
    subprocess.run(["umount", disk], check=True)


async def test_a_disk_that_is_really_full(disk, tmp_path):
    written = []
    async with opened(SqliteJournal(disk / "runs.db")) as journal:
        key = await start(journal)

        async def write_on():
            while True:
                path = f"flow/{len(written)}"
                await journal.append(record(key, path, b"x" * 50_000))
                written.append(path)

        with pytest.raises(JournalError, match=r"runs\.db could not be written or read"):
            await write_on()
        assert written
        assert await paths(journal, key) == written
    for path in disk.iterdir():
        shutil.copy(path, tmp_path)
    async with opened(SqliteJournal(tmp_path / "runs.db")) as journal:
        assert await paths(journal, key) == written


async def test_a_disk_that_must_not_be_written(disk):
    async with opened(SqliteJournal(disk / "runs.db")):
        pass
    await anyio.run_process(["mount", "-o", "remount,ro", str(disk)])
    with pytest.raises(
        JournalError, match=r"runs\.db cannot be used as a journal: .*let this process"
    ):
        await SqliteJournal(disk / "runs.db").open()


LOCKING = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
"""


async def test_a_file_that_stays_locked_is_told_of_once(file):
    async with opened(SqliteJournal(file, lock_seconds=0.2)) as journal:
        key = await start(journal)
        async with await anyio.open_process([sys.executable, "-c", LOCKING, str(file)]) as other:
            assert (await other.stdout.receive()).startswith(b"locked")
            began = time.monotonic()
            answers = [journal.append(record(key, f"flow/{n}")) for n in range(20)]
            for answer in answers:
                with pytest.raises(JournalError, match=r"runs\.db .*locked .*lock_seconds="):
                    await answer
            assert time.monotonic() - began < 2
            assert (await journal.find("run")).status == "running"  # reading needs no lock
            await other.stdin.send(b"\n")
            await other.wait()
        await journal.append(record(key))
        assert await paths(journal, key) == ["flow"]


async def test_a_lock_that_is_given_back_is_waited_for(file):
    async with opened(SqliteJournal(file)) as journal:
        key = await start(journal)
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        answer = journal.append(record(key))
        await anyio.sleep(0.1)
        assert not answer.done()
        assert other.execute("SELECT count(*) FROM records").fetchone() == (0,)
        other.execute("ROLLBACK")
        other.close()
        await answer
        assert await paths(journal, key) == ["flow"]


async def test_a_file_that_is_locked_while_it_is_opened(file):
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalError, match=r"runs\.db cannot be used .* locked"):
        await SqliteJournal(file, lock_seconds=0.05).open()
    other.close()


async def test_a_damaged_page_stops_what_is_on_it_and_nothing_else(file):
    async with opened(SqliteJournal(file)) as journal:
        whole, damaged = await start(journal, "whole"), await start(journal, "damaged")
        for n in range(50):
            await journal.append(record(whole, f"flow/{n}"))
        for n in range(50):
            await journal.append(record(damaged, f"flow/{n}", b"MARK" * 200))
    content = bytearray(file.read_bytes())
    middle = len(content) // PAGE // 2
    page = next(
        number
        for number in range(middle, middle * 2)
        if content[number * PAGE :][:PAGE].count(b"MARK" * 200) > 3
    )
    content[page * PAGE : page * PAGE + 64] = b"\xff" * 64
    file.write_bytes(content)
    async with opened(SqliteJournal(file)) as journal:
        answers = [journal.append(record(whole, "flow/more")) for _ in range(3)]
        with pytest.raises(JournalError, match=r"runs\.db .*malformed \(the file is damaged"):
            await journal.records(damaged)
        for answer in answers:
            await answer
        assert len(await journal.records(whole)) == 53
        assert len(await journal.list(RunQuery())) == 2


async def test_a_file_that_can_no_longer_be_written(file):
    async with opened(SqliteJournal(file)) as journal:
        key = await start(journal)
        await journal._writer.submit(lambda c: c.execute("PRAGMA query_only = ON"))
        with pytest.raises(JournalError, match=r"runs\.db .*readonly .*let this process write"):
            await journal.append(record(key))
        assert (await journal.find("run")).status == "running"


async def test_an_unknown_failure_is_told_without_advice(file):
    async with opened(SqliteJournal(file)) as journal:
        with pytest.raises(JournalError, match=r"could not be written or read: .*too large"):
            await journal.create([new(priority=2**70)])


@pytest.mark.parametrize("content", [b"to be or not to be\n", b"x" * 100_000])
async def test_a_file_that_is_no_journal_is_refused_and_not_changed(file, content):
    file.write_bytes(content)
    with pytest.raises(JournalError, match=r"runs\.db cannot be used as a journal: file is not"):
        await SqliteJournal(file).open()
    assert file.read_bytes() == content


async def test_a_database_of_another_application_is_refused(file):
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE runs (n)")
    connection.close()
    with pytest.raises(JournalError, match=r"runs\.db is a database of another application"):
        await SqliteJournal(file).open()


async def test_a_journal_that_lacks_a_table_is_refused(file):
    async with opened(SqliteJournal(file)):
        pass
    connection = sqlite3.connect(file)
    connection.execute("DROP TABLE runners")
    connection.close()
    with pytest.raises(JournalError, match="no such table: runners"):
        await SqliteJournal(file).open()


@pytest.mark.parametrize("name", ["missing/runs.db", "."])
async def test_a_file_that_cannot_be_opened_is_named(tmp_path, name):
    with pytest.raises(JournalError, match="unable to open database file") as caught:
        await SqliteJournal(tmp_path / name).open()
    assert str(tmp_path / name) in str(caught.value)


async def test_a_name_that_no_file_can_have_is_refused():
    with pytest.raises(JournalError, match="cannot be used as a journal"):
        await SqliteJournal("a\0b").open()


async def test_a_journal_may_be_opened_again(file):
    journal = SqliteJournal(file)
    for _ in range(2):
        async with opened(journal):
            await journal.create([new(due=1e9)])
            assert await claimed(journal) == []


async def test_a_journal_in_memory_is_gone_once_it_is_closed():
    journal = MemoryJournal()
    for _ in range(2):
        async with opened(journal):
            assert await journal.find("run") is None
            await start(journal)
