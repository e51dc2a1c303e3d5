"""The tables of a journal, and how those of an older version become them."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

from plait.durable._errors import JournalError
from plait.durable._sqlite._errors import unusable

if TYPE_CHECKING:
    from pathlib import Path

APPLICATION_ID = 0x504C4149  # "PLAI", which marks the file as a journal
VERSION = 4

NO_LINE, LINES_UP, IN_LINE = 0, 1, 2
"""A run's lane: it goes once it is due, has to pass its queue once it is, or is in line there."""

_RUNNERS = """
CREATE TABLE runners (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    host TEXT NOT NULL,
    boot TEXT NOT NULL,
    spaces TEXT NOT NULL,
    pid INTEGER NOT NULL,
    born TEXT NOT NULL,
    lease REAL NOT NULL,
    lease_seconds REAL NOT NULL,
    is_gone INTEGER NOT NULL DEFAULT 0
);
"""

# Keys are never given twice, so that a later run has a greater one when others were pruned.
_RUNS = """
CREATE TABLE runs (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL UNIQUE,
    workflow TEXT NOT NULL,
    status TEXT NOT NULL,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    runner INTEGER,
    is_cancelled INTEGER NOT NULL DEFAULT 0,
    due REAL,
    wakes REAL,
    queue TEXT,
    priority INTEGER NOT NULL DEFAULT 0,
    lane INTEGER NOT NULL DEFAULT 0,
    turn INTEGER NOT NULL DEFAULT 0,
    began REAL,
    parent TEXT,
    metadata TEXT NOT NULL DEFAULT '{}',
    digest BLOB NOT NULL,
    input BLOB NOT NULL,
    context BLOB NOT NULL,
    failures TEXT NOT NULL DEFAULT '[]',
    progress BLOB,
    outcome BLOB
);
"""

# A run without a queue, a parent or a wait is in the first three only.
_INDEXES = """
CREATE INDEX runs_of_workflow ON runs (workflow, status);
CREATE INDEX runs_running ON runs (runner) WHERE status = 'running';
CREATE INDEX runs_ended ON runs (updated) WHERE status IN ('completed', 'failed', 'cancelled');
CREATE INDEX runs_due ON runs (workflow, lane, wakes) WHERE wakes IS NOT NULL;
CREATE INDEX runs_in_line ON runs (workflow, queue, turn) WHERE lane = 2;
CREATE INDEX runs_of_queue ON runs (queue) WHERE queue IS NOT NULL;
CREATE INDEX runs_busy ON runs (queue) WHERE status = 'running' AND queue IS NOT NULL;
CREATE INDEX runs_begun ON runs (queue, began) WHERE began IS NOT NULL;
CREATE INDEX runs_stopping ON runs (runner) WHERE status = 'running' AND is_cancelled = 1;
CREATE INDEX runs_of_parent ON runs (parent) WHERE parent IS NOT NULL;
"""

_RECORDS = """
CREATE TABLE records (
    run INTEGER NOT NULL,
    path TEXT NOT NULL,
    kind INTEGER NOT NULL,
    digest BLOB NOT NULL,
    payload BLOB NOT NULL,
    data BLOB,
    at REAL NOT NULL DEFAULT ((julianday('now') - 2440587.5) * 86400.0),
    seconds REAL
);
CREATE INDEX records_run ON records (run);
"""

_MESSAGES = """
CREATE TABLE waits (
    run INTEGER NOT NULL,
    number INTEGER NOT NULL,
    path TEXT NOT NULL,
    topic TEXT NOT NULL,
    until REAL,
    PRIMARY KEY (run, number)
) WITHOUT ROWID;
CREATE INDEX waits_topic ON waits (topic) WHERE topic <> '';
CREATE TABLE signals (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    name TEXT NOT NULL,
    signal_id TEXT,
    is_received INTEGER NOT NULL DEFAULT 0,
    payload BLOB NOT NULL
);
CREATE INDEX signals_kept ON signals (run, name) WHERE is_received = 0;
CREATE UNIQUE INDEX signals_once ON signals (run, signal_id) WHERE signal_id IS NOT NULL;
CREATE TABLE events (
    run INTEGER NOT NULL,
    name TEXT NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (run, name)
) WITHOUT ROWID;
CREATE TABLE entities (
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    holder INTEGER,
    state BLOB,
    path TEXT,
    PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE INDEX entities_held ON entities (holder) WHERE holder IS NOT NULL;
CREATE TABLE ticks (
    schedule TEXT PRIMARY KEY,
    at REAL NOT NULL
) WITHOUT ROWID;
"""

# A run stands in line for an entity once for each place where it waits for it.
_TURNS = """
CREATE TABLE turns (
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    run INTEGER NOT NULL,
    path TEXT NOT NULL,
    offered REAL,
    UNIQUE (run, kind, key, path)
);
CREATE INDEX turns_of_entity ON turns (kind, key, offered);
CREATE INDEX turns_offered ON turns (offered) WHERE offered IS NOT NULL;
"""

_NEW = _RUNNERS + _RUNS + _RECORDS + _MESSAGES + _TURNS + _INDEXES

# Leases of version 1 were by the wall clock, which nothing is compared with any more: the boot of
# a runner that says none is watched for a sign of life, and its process is asked for.
_FROM_1 = f"""
DROP INDEX runs_running;
ALTER TABLE runners RENAME TO old_runners;
ALTER TABLE runs RENAME TO old_runs;
{_RUNNERS}
{_RUNS}
ALTER TABLE records RENAME TO old_records;
DROP INDEX records_run;
{_RECORDS}
INSERT INTO records SELECT old.*, runs.updated, NULL FROM old_records AS old
    JOIN old_runs AS runs ON runs.key = old.run ORDER BY old.rowid;
INSERT INTO runners (id, host, boot, spaces, pid, born, lease, lease_seconds, is_gone)
    SELECT id, host, '', '', pid, born, lease, 30, is_gone FROM old_runners;
INSERT INTO runs (key, run_id, workflow, status, created, updated, runner, digest, input, context,
        failures, outcome)
    SELECT key, run_id, workflow, status, created, updated,
        CASE status WHEN 'running' THEN runner END, digest, input, context, failures, outcome
    FROM old_runs;
DROP TABLE old_records;
DROP TABLE old_runs;
DROP TABLE old_runners;
{_MESSAGES}
{_TURNS}
{_INDEXES}
"""

# Whoever waits has looked and found another to have it: so there is a row of the entity.
_FROM_3 = f"""
ALTER TABLE entities ADD COLUMN path TEXT;
{_TURNS}
INSERT INTO turns (kind, key, run, path)
    SELECT entities.kind, entities.key, waits.run, waits.path
    FROM waits JOIN runs ON runs.key = waits.run
    JOIN entities ON topic = 'entity:' || entities.kind || ':' || entities.key
    WHERE topic LIKE 'entity:%' ORDER BY runs.updated, waits.run, waits.number
"""

_FROM_2 = f"""
ALTER TABLE records ADD COLUMN seconds REAL;
{_FROM_3}
"""

_MIGRATIONS = {0: _NEW, 1: _FROM_1, 2: _FROM_2, 3: _FROM_3}

TABLES = frozenset(
    {"runners", "runs", "records", "waits", "turns", "signals", "events", "entities", "ticks"}
)


def connect(path: Path, lock_seconds: float) -> sqlite3.Connection:
    """Open a journal, and make or migrate it where it is none yet or an older one.

    Raises:
        JournalError: It is something else, of a newer version, or cannot be used.
    """
    try:
        connection = sqlite3.connect(
            path, timeout=lock_seconds, isolation_level=None, cached_statements=256
        )
    except (sqlite3.Error, ValueError) as error:
        raise unusable(path, error) from error
    try:
        _check(connection, path)
        _use_wal(connection, lock_seconds)
        connection.execute("PRAGMA synchronous = FULL")
        _migrate(connection, path)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise unusable(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse, without a change to it, a file that is not a journal that this version knows."""
    connection.execute("BEGIN")  # another process may be making the journal at this moment
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    version = _version(connection)
    connection.execute("ROLLBACK")
    if application != APPLICATION_ID and (application or version or tables):
        msg = f"{path} is a database of another application, not a plait journal"
        raise JournalError(msg)
    _refuse_newer(version, path)


def _refuse_newer(version: int, path: Path) -> None:
    if version > VERSION:
        msg = (
            f"{path} is a journal of version {version}, written by a newer plait; this one knows "
            f"version {VERSION}: update plait, or use another file"
        )
        raise JournalError(msg)


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _use_wal(connection: sqlite3.Connection, lock_seconds: float) -> None:
    # SQLite does not wait for its lock here, as it does everywhere else.
    give_up = time.monotonic() + lock_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    if _version(connection) == VERSION:
        return
    connection.execute("PRAGMA legacy_alter_table = ON")  # keeps what refers to a table that moves
    connection.execute("BEGIN IMMEDIATE")
    # Another process may have been here first, and this one have waited for it.
    version = _version(connection)
    _refuse_newer(version, path)
    if version < VERSION:
        for statement in _MIGRATIONS[version].split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")
    connection.execute("PRAGMA legacy_alter_table = OFF")
