"""The embedded journal: one SQLite file, in WAL mode, fsynced at every commit."""

from __future__ import annotations

import builtins
import json
import os
import socket
import sqlite3
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from plait.durable._errors import JournalError
from plait.durable._journal import Kind, NewRun, Record, RunStatus, StoredRun
from plait.durable._writer import GroupCommitter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Sequence

_APPLICATION_ID = 0x504C4149  # "PLAI", which marks the file as a journal
_VERSION = 1
_LOCK_SECONDS = 30
"""How long to wait for another process's transaction to end."""

_SCHEMA = """
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
"""

_RUN = (
    "SELECT key, run_id, workflow, digest, input, context, created, status, updated, outcome, "
    "failures, runner FROM runs"
)


class SqliteJournal:
    """A journal in an SQLite file.

    Processes on one machine may share it. A runner shows that it lives by a lease that it renews;
    the runs of one whose process has ended, or whose lease is over, may be taken over.

    Args:
        path: The file; made where there is none.
        lease_seconds: How long a runner that does not renew its lease is taken to be alive.
    """

    def __init__(self, path: str | Path, *, lease_seconds: float = 30) -> None:
        self._path = Path(path)
        self._lease_seconds = lease_seconds
        self._runner = 0
        self._committer: GroupCommitter | None = None

    async def open(self) -> None:
        """Open the file and take a lease."""
        committer = GroupCommitter(
            self._connect,
            insert="INSERT INTO records VALUES",
            columns=len(Record._fields),
            guard=self._guard,
            beat=self._renew,
            beat_seconds=self._lease_seconds / 3,
        )
        try:
            await committer.start()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await committer.stop()
            raise
        self._committer = committer

    async def close(self) -> None:
        """Write what was handed in, and give the lease back."""
        leave = "UPDATE runners SET is_gone = 1 WHERE id = ?"
        writer, self._committer = self._writer, None
        # Where the lease cannot be given back, it ends by itself.
        with suppress(JournalError):
            await writer.submit(lambda connection: connection.execute(leave, (self._runner,)))
        await writer.stop()

    def append(self, record: Record) -> Awaitable[None]:
        """Hand in a record; awaiting the answer waits until it is on disk."""
        return self._writer.append(record)

    async def create(self, run: NewRun) -> tuple[StoredRun, bool]:
        """Keep a new run, or find the one that has its id."""
        return await self._writer.submit(partial(self._create, run))

    async def claim(self, workflows: Collection[str]) -> list[StoredRun]:
        """Take over the interrupted runs of these workflows whose runners are gone."""
        return await self._writer.submit(partial(self._claim, tuple(workflows)))

    async def finish(
        self, key: int, status: RunStatus, outcome: bytes, failures: Sequence[str], now: float
    ) -> None:
        """Keep how a run ended."""
        update = "UPDATE runs SET status=?, outcome=?, failures=?, updated=? WHERE key=?"
        values = (status, outcome, json.dumps(list(failures)), now, key)
        await self._writer.submit(lambda connection: connection.execute(update, values))

    async def reopen(self, key: int, now: float) -> bool:
        """Claim a failed run, without its last failures; whether it was one."""
        return await self._writer.submit(partial(self._reopen, key, now))

    async def records(self, key: int) -> list[Record]:
        """A run's records, in the order they were written."""
        select = "SELECT * FROM records WHERE run = ? ORDER BY rowid"
        rows = await self._writer.submit(lambda c: c.execute(select, (key,)).fetchall())
        return [Record._make(row) for row in rows]

    async def find(self, run_id: str) -> StoredRun | None:
        """The run of that id, where there is one."""
        return await self._writer.submit(partial(self._find, run_id))

    async def list(
        self, *, workflow: str | None, status: RunStatus | None, limit: int
    ) -> list[StoredRun]:
        """Runs, the newest first."""
        wanted = {"workflow": workflow, "status": status}
        clauses = [f"{column} = :{column}" for column, value in wanted.items() if value is not None]
        where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
        select = f"{_RUN} {where} ORDER BY key DESC LIMIT :limit"
        values = {**wanted, "limit": limit}
        rows = await self._writer.submit(lambda c: c.execute(select, values).fetchall())
        return [self._stored(row) for row in rows]

    @property
    def _writer(self) -> GroupCommitter:
        if self._committer is None:
            msg = f"the journal {self._path} is not open"
            raise JournalError(msg)
        return self._committer

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(self._path, timeout=_LOCK_SECONDS, isolation_level=None)
        except (sqlite3.Error, ValueError) as error:
            msg = f"{self._path} cannot be used as a journal: {error}"
            raise JournalError(msg) from error
        try:
            self._check(connection)
            _use_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")
            self._make_ready(connection)
        except sqlite3.DatabaseError as error:
            connection.close()
            msg = f"{self._path} cannot be used as a journal: {error}"
            raise JournalError(msg) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, connection: sqlite3.Connection) -> None:
        """Refuse, without a change to it, a file that is not a journal of this version."""
        connection.execute("BEGIN")  # another process may be making the journal at this moment
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        connection.execute("ROLLBACK")
        if application != _APPLICATION_ID and (application or version or tables):
            msg = f"{self._path} is a database of another application, not a plait journal"
            raise JournalError(msg)
        if version > _VERSION:
            msg = (
                f"{self._path} is a journal of version {version}, written by a newer plait; this "
                f"one knows version {_VERSION}"
            )
            raise JournalError(msg)

    def _make_ready(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA user_version").fetchone() == (0,):
            for statement in _SCHEMA.strip().split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        insert = "INSERT INTO runners (host, pid, born, lease) VALUES (?, ?, ?, ?)"
        pid = os.getpid()
        values = (socket.gethostname(), pid, _born(pid), time.time() + self._lease_seconds)
        self._runner = connection.execute(insert, values).lastrowid or 0
        connection.execute("COMMIT")

    def _guard(self, connection: sqlite3.Connection) -> None:
        select = "SELECT is_gone FROM runners WHERE id = ?"
        if connection.execute(select, (self._runner,)).fetchone() != (0,):
            msg = f"another runner has taken over from this one on {self._path}"
            raise JournalError(msg)

    def _renew(self, connection: sqlite3.Connection) -> None:
        update = "UPDATE runners SET lease = ? WHERE id = ?"
        connection.execute(update, (time.time() + self._lease_seconds, self._runner))

    def _create(self, run: NewRun, connection: sqlite3.Connection) -> tuple[StoredRun, bool]:
        insert = (
            "INSERT INTO runs (run_id, workflow, digest, input, context, created, status, updated,"
            " runner) VALUES (?, ?, ?, ?, ?, ?, 'running', ?, ?) ON CONFLICT DO NOTHING"
        )
        values = (run.run_id, run.workflow, run.digest, run.payload, run.context, run.created)
        cursor = connection.execute(insert, (*values, run.created, self._runner))
        if cursor.rowcount:
            key = cursor.lastrowid or 0
            return StoredRun(key, run, "running", run.created, None, (), is_claimed=True), True
        found = self._find(run.run_id, connection)
        assert found is not None
        return found, False

    def _find(self, run_id: str, connection: sqlite3.Connection) -> StoredRun | None:
        row = connection.execute(f"{_RUN} WHERE run_id = ?", (run_id,)).fetchone()
        return None if row is None else self._stored(row)

    def _claim(
        self, workflows: tuple[str, ...], connection: sqlite3.Connection
    ) -> builtins.list[StoredRun]:
        living = "SELECT id, host, pid, born, lease FROM runners WHERE is_gone = 0 AND id <> ?"
        for runner, *life in connection.execute(living, (self._runner,)).fetchall():
            if _is_gone(*life):
                connection.execute("UPDATE runners SET is_gone = 1 WHERE id = ?", (runner,))
        names = ", ".join("?" * len(workflows))
        update = (
            f"UPDATE runs SET runner = ? WHERE status = 'running' AND workflow IN ({names})"  # noqa: S608 - only question marks
            " AND runner IN (SELECT id FROM runners WHERE is_gone = 1) RETURNING key"
        )
        claimed = connection.execute(update, (self._runner, *workflows)).fetchall()
        rows = (connection.execute(f"{_RUN} WHERE key = ?", key).fetchone() for key in claimed)
        return [self._stored(row) for row in rows]

    def _reopen(self, key: int, now: float, connection: sqlite3.Connection) -> bool:
        select = "SELECT failures FROM runs WHERE key = ? AND status = 'failed'"
        row = connection.execute(select, (key,)).fetchone()
        if row is None:
            return False
        # What failed is done again, with new waits and deadlines; what had been handled stays.
        delete = (
            "DELETE FROM records WHERE run = ?1 AND kind <> ?4 AND"
            " (path = ?2 OR substr(path, 1, ?3) = ?2 || '#'"
            " OR (substr(path, 1, ?3) = ?2 || '/' AND path LIKE '%#deadline'))"
        )
        keep = "UPDATE records SET kind = ? WHERE run = ? AND path = ? AND data IS NOT NULL"
        for path in json.loads(row[0]):
            connection.execute(keep, (Kind.DATA.value, key, path))
            connection.execute(delete, (key, path, len(path) + 1, Kind.DATA.value))
        update = (
            "UPDATE runs SET status='running', outcome=NULL, failures='[]', updated=?, runner=?"
            " WHERE key=?"
        )
        connection.execute(update, (now, self._runner, key))
        return True

    def _stored(self, row: tuple[Any, ...]) -> StoredRun:
        key, run_id, workflow, digest, payload, context, created, status, updated = row[:9]
        outcome, failures, runner = row[9:]
        start = NewRun(run_id, workflow, digest, payload, context, created)
        is_claimed = runner == self._runner
        return StoredRun(
            key, start, status, updated, outcome, tuple(json.loads(failures)), is_claimed
        )


def _use_wal(connection: sqlite3.Connection) -> None:
    # SQLite does not wait for its lock here, as it does everywhere else.
    give_up = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return


def _born(pid: int) -> str:
    """When a process started, as the kernel tells it; a process id alone is soon another's."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _is_gone(host: str, pid: int, born: str, lease: float) -> bool:
    if lease < time.time():
        return True
    if host != socket.gethostname():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _born(pid) != born
