"""Journals of other versions: older ones are migrated, newer ones refused."""

import os
import socket
import sqlite3

import anyio
import pytest
from journaling import claim, claimed, new, paths, record, start

from plait.durable import JournalError, SqliteJournal
from plait.durable._opened import opened
from plait.durable._sqlite import _schema
from plait.durable._sqlite._leases import _born
from plait.durable._stored import NewRun, Wait

pytestmark = pytest.mark.anyio

VERSION_1 = """
CREATE TABLE runners (
    id INTEGER PRIMARY KEY,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    born TEXT NOT NULL,
    lease REAL NOT NULL,
    is_gone INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE runs (
    key INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL UNIQUE,
    workflow TEXT NOT NULL,
    digest BLOB NOT NULL,
    input BLOB NOT NULL,
    context BLOB NOT NULL,
    created REAL NOT NULL,
    status TEXT NOT NULL,
    updated REAL NOT NULL,
    outcome BLOB,
    failures TEXT NOT NULL DEFAULT '[]',
    runner INTEGER NOT NULL REFERENCES runners (id)
);
CREATE INDEX runs_running ON runs (workflow) WHERE status = 'running';
CREATE TABLE records (
    run INTEGER NOT NULL REFERENCES runs (key),
    path TEXT NOT NULL,
    kind INTEGER NOT NULL,
    digest BLOB NOT NULL,
    payload BLOB NOT NULL,
    data BLOB
);
CREATE INDEX records_run ON records (run);
INSERT INTO runs VALUES
    (1, 'done', 'flow', x'01', x'02', x'03', 10.5, 'completed', 11.5, x'04', '[]', 1),
    (2, 'broken', 'flow', x'01', x'02', x'03', 12.0, 'failed', 13.0, x'05', '["flow/1"]', 1),
    (3, 'left', 'flow', x'01', x'02', x'03', 14.0, 'running', 14.0, NULL, '[]', 1),
    (4, 'busy', 'flow', x'01', x'02', x'03', 15.0, 'running', 15.0, NULL, '[]', 2);
INSERT INTO records VALUES
    (1, 'flow/1', 0, x'06', x'07', NULL),
    (3, 'flow/1', 0, x'06', x'07', x'08'),
    (4, 'flow/1', 0, x'06', x'07', NULL),
    (3, 'flow/2', 1, x'06', x'09', NULL);
PRAGMA application_id = 1347174729;
PRAGMA user_version = 1;
"""


@pytest.fixture
def old(file):
    """A journal of version 1 with a runner that has gone, and one that is this process."""
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(VERSION_1)
    connection.executemany(
        "INSERT INTO runners VALUES (?, ?, ?, ?, ?, ?)",
        [
            (1, "elsewhere", 1, "", 5.0, 1),
            (2, socket.gethostname(), os.getpid(), _born(os.getpid()), 5.0, 0),
        ],
    )
    connection.commit()
    connection.close()
    return file


def schema(file):
    connection = sqlite3.connect(file)
    found = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
    connection.close()
    return {
        name: "".join(sql.replace(" REFERENCES runs (key)", "").split())
        for name, sql in found
        if sql
    }


async def test_an_older_journal_becomes_one_of_this_version(old, tmp_path):
    async with opened(SqliteJournal(old)) as journal:
        done = await journal.find("done")
        assert done.start == NewRun("done", "flow", b"\1", b"\2", b"\3", 10.5)
        assert (done.key, done.status, done.updated, done.outcome) == (1, "completed", 11.5, b"\4")
        assert (await journal.find("broken")).failures == ("flow/1",)
        assert await journal.records(3) == [
            record(3, "flow/1", b"\7", digest=b"\6", data=b"\10"),
            record(3, "flow/2", b"\11", 1, digest=b"\6"),
        ]
        ((left, records),) = (await claim(journal)).runs
        assert (left.start.run_id, len(records)) == ("left", 2)
        await journal.append(record(3, "flow/3"))
        assert await paths(journal, 3) == ["flow/1", "flow/2", "flow/3"]
        assert await start(journal) == 5
        assert (await journal.find("busy")).status == "running"
        assert await journal.prune(12.0, (), 10) == 1
    async with opened(SqliteJournal(tmp_path / "new.db")):
        pass
    assert schema(old) == schema(tmp_path / "new.db")


async def test_a_runner_of_the_older_version_is_watched(old, monkeypatch):
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    async with opened(SqliteJournal(old)) as journal:
        assert await claimed(journal) == ["left"]
        now += 31
        assert await claimed(journal) == ["busy"]


async def test_many_may_migrate_a_journal_at_the_same_time(old):
    journals = [SqliteJournal(old) for _ in range(8)]
    async with anyio.create_task_group() as tasks:
        for journal in journals:
            tasks.start_soon(journal.open)
    assert (await journals[0].find("done")).status == "completed"
    for journal in journals:
        await journal.close()


async def test_a_migration_that_is_interrupted_has_not_begun(old, monkeypatch):
    broken = _schema._MIGRATIONS[1] + "SELECT * FROM missing;\n"
    before = schema(old)
    with monkeypatch.context() as patch:
        patch.setitem(_schema._MIGRATIONS, 1, broken)
        with pytest.raises(JournalError, match="no such table: missing"):
            await SqliteJournal(old).open()
    assert schema(old) == before
    async with opened(SqliteJournal(old)) as journal:
        assert len(await journal.records(3)) == 2


async def test_a_journal_that_a_newer_version_migrated_meanwhile_is_refused(old, monkeypatch):
    check = _schema._check

    def check_first(connection, path):
        check(connection, path)
        other = sqlite3.connect(path)
        other.execute("PRAGMA user_version = 5")
        other.close()

    monkeypatch.setattr(_schema, "_check", check_first)
    with pytest.raises(JournalError, match=r"version 5, written by a newer plait.* version 4"):
        await SqliteJournal(old).open()


async def test_a_newer_journal_is_refused_and_not_changed(file):
    async with opened(SqliteJournal(file)) as journal:
        await journal.create([new()])
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 5")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(JournalError, match=r"runs\.db is a journal of version 5"):
        await SqliteJournal(file).open()
    assert file.read_bytes() == before


async def test_who_waited_for_an_entity_in_an_older_journal_stands_in_line(file, tmp_path):
    """Version 3 had no lines: all that waited were woken, and one of them got it."""
    place = ("cart:1", "a:b")
    async with opened(SqliteJournal(file)) as journal:
        keys = [await start(journal, name) for name in ("1", "2", "3")]
        await journal.acquire(*place, record(keys[0]), 110.0)
        for key, now in zip(keys[1:], (130.0, 120.0), strict=True):
            await journal.acquire(*place, record(key), 115.0)
            await journal.suspend(key, [Wait("flow", "entity:cart:1:a:b", None)], now)
    connection = sqlite3.connect(file)
    connection.executescript("""
        DROP TABLE turns;
        ALTER TABLE entities DROP COLUMN path;
        PRAGMA user_version = 3;
    """)
    connection.close()
    async with opened(SqliteJournal(file)) as journal:
        await claim(journal)
        told = await journal.release(*place, None, record(keys[0]), 140.0)
        assert told == (keys[2], "flow")
        assert await claimed(journal, now=140.0) == ["3"]
    async with opened(SqliteJournal(tmp_path / "new.db")):
        pass
    assert schema(file) == schema(tmp_path / "new.db")
