"""Runs: how they begin, how they end, and how they are found."""

from __future__ import annotations

import json
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from plait.durable._rows import COLUMNS, stored_run
from plait.durable._sqlite import _entities
from plait.durable._sqlite._schema import IN_LINE, LINES_UP, NO_LINE
from plait.durable._sqlite._statements import ForRows
from plait.durable._sqlite._waits import not_executed, wake
from plait.durable._stored import ENDED, NewRun, Record, StoredRun, Wait

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Sequence

    from plait.durable._sqlite._writer import RefusedError
    from plait.durable._stored import RunStatus

_INSERT = ForRows(
    "INSERT INTO runs (run_id, workflow, digest, input, context, created, metadata, due, queue,"
    " priority, parent, status, updated, runner, wakes, lane, turn) VALUES ?"
    " ON CONFLICT DO NOTHING RETURNING run_id, key",
    columns=17,
    nullable={7, 8, 10, 13, 14},
)


def create(
    calls: Sequence[Sequence[NewRun]], runner: int, connection: sqlite3.Connection
) -> list[list[tuple[StoredRun, bool]]]:
    """Keep new runs, or find those that have their ids; for many that ask at once."""
    made = dict(_INSERT(connection, [_row(run, runner) for runs in calls for run in runs]))

    def kept(run: NewRun) -> tuple[StoredRun, bool]:
        key = made.pop(run.run_id, None)
        if key is None:
            found = find(run.run_id, runner, connection)
            assert found is not None
            return found, False
        status, _, _ = _place(run)
        is_claimed = status == "running"
        return StoredRun(key, run, status, run.created, None, (), is_claimed=is_claimed), True

    return [[kept(run) for run in runs] for runs in calls]


def _row(run: NewRun, runner: int) -> tuple[Any, ...]:
    status, wakes, lane = _place(run)
    return (
        run.run_id,
        run.workflow,
        bytearray(run.digest),
        bytearray(run.payload),
        bytearray(run.context),
        run.created,
        run.metadata,
        "" if run.due is None else run.due,
        run.queue or "",
        run.priority,
        run.parent or "",
        status,
        run.created,
        runner if status == "running" else "",
        "" if wakes is None else wakes,
        lane,
        -run.priority,
    )


def _place(run: NewRun) -> tuple[RunStatus, float | None, int]:
    """A new run's status, when it is looked for, and its lane."""
    is_due = run.due is None or run.due <= run.created
    if run.queue is None:
        return ("running", None, NO_LINE) if is_due else ("queued", run.due, NO_LINE)
    return ("queued", None, IN_LINE) if is_due else ("queued", run.due, LINES_UP)


def find(run_id: str, runner: int, connection: sqlite3.Connection) -> StoredRun | None:
    """The run of that id, where there is one."""
    select = f"SELECT {COLUMNS} FROM runs WHERE run_id = ?"
    found = stored(connection.execute(select, (run_id,)).fetchall(), runner, connection)
    return found[0] if found else None


def with_keys(keys: Sequence[int], runner: int, connection: sqlite3.Connection) -> list[StoredRun]:
    """The runs that have these keys, in the order of the keys."""
    select = f"SELECT {COLUMNS} FROM runs WHERE key IN (SELECT value FROM json_each(?))"
    rows = connection.execute(select, (json.dumps(keys),)).fetchall()
    found = {run.key: run for run in stored(rows, runner, connection)}
    return [found[key] for key in keys]


def stored(
    rows: Sequence[tuple[Any, ...]], runner: int, connection: sqlite3.Connection
) -> list[StoredRun]:
    """What is said of the runs that these rows are about."""
    waits: dict[int, list[Wait]] = {}
    if waiting := [row[0] for row in rows if row[1] == "waiting"]:
        select = (
            "SELECT run, path, topic, until FROM waits"
            " WHERE run IN (SELECT value FROM json_each(?)) ORDER BY run, number"
        )
        for run, *wait in connection.execute(select, (json.dumps(waiting),)):
            waits.setdefault(run, []).append(Wait._make(wait))
    return [stored_run(row, waits.get(row[0], ()), runner) for row in rows]


def records(keys: Sequence[int], connection: sqlite3.Connection) -> dict[int, list[Record]]:
    """The records of runs, each run's in the order they were written."""
    select = (
        "SELECT run, path, kind, digest, payload, data, seconds FROM records"
        " WHERE run IN (SELECT value FROM json_each(?)) ORDER BY run, rowid"
    )
    rows = connection.execute(select, (json.dumps(keys),)).fetchall()
    return {key: list(map(Record._make, found)) for key, found in groupby(rows, itemgetter(0))}


def timeline(key: int, connection: sqlite3.Connection) -> list[tuple[Record, float]]:
    """A run's records, each with the time at which it was written."""
    select = (
        "SELECT run, path, kind, digest, payload, data, seconds, at FROM records"
        " WHERE run = ? ORDER BY rowid"
    )
    return [(Record._make(row[:-1]), row[-1]) for row in connection.execute(select, (key,))]


_FINISH = ForRows(
    """
    WITH ended (key, status, outcome, failures, now, runner) AS (VALUES ?)
    UPDATE runs SET status = ended.status, outcome = ended.outcome, failures = ended.failures,
        updated = ended.now, runner = NULL
    FROM ended WHERE runs.key = ended.key AND runs.status = 'running'
        AND runs.runner = ended.runner
    RETURNING key, run_id, updated
    """,
    columns=6,
)


def finish(
    calls: Sequence[tuple[int, RunStatus, bytes, Sequence[str], float]],
    runner: int,
    connection: sqlite3.Connection,
) -> list[RefusedError | None]:
    """Keep how runs ended, wake those that wait for them, and release what they hold."""
    # Of several that end one run the first one does, and the others are refused.
    rows: dict[int, tuple[Any, ...]] = {}
    for key, status, outcome, failures, now in calls:
        failed = json.dumps(list(failures)) if failures else "[]"
        rows.setdefault(key, (key, status, bytearray(outcome), failed, now, runner))
    ended = _FINISH(connection, list(rows.values()))
    wake([(f"run:{run_id}", now) for _, run_id, now in ended], connection)
    times = {key: now for key, _, now in ended}
    _entities.free(times, connection)
    return [not_executed(key) if times.pop(key, None) is None else None for key, *_ in calls]


def cancel(run_id: str, now: float, connection: sqlite3.Connection) -> bool:
    """Ask a run to stop, and wake it; whether there is one that has not ended."""
    # One that is to stop need not wait for room in its queue.
    update = (
        f"UPDATE runs SET is_cancelled = 1, lane = {NO_LINE},"
        " wakes = CASE status WHEN 'running' THEN NULL ELSE ? END"
        " WHERE run_id = ? AND status IN ('queued', 'running', 'waiting')"
    )
    return connection.execute(update, (now, run_id)).rowcount > 0


def cancelled(runner: int, connection: sqlite3.Connection) -> list[str]:
    """The ids of the runs that a runner executes and that were asked to stop."""
    select = (
        "SELECT run_id FROM runs WHERE status = 'running' AND is_cancelled = 1 AND runner = ?"
        " ORDER BY key"
    )
    return [run_id for (run_id,) in connection.execute(select, (runner,))]


def progress(key: int, payload: bytes, connection: sqlite3.Connection) -> None:
    """Keep what a run says of its progress."""
    connection.execute("UPDATE runs SET progress = ? WHERE key = ?", (payload, key))


def prune(
    before: float, statuses: Collection[RunStatus], limit: int, connection: sqlite3.Connection
) -> int:
    """Remove ended runs that were last updated before a time; how many there were."""
    which = [status for status in ENDED if status in statuses or not statuses]
    select = (
        "SELECT key FROM runs WHERE status IN ('completed', 'failed', 'cancelled')"
        " AND updated < ? AND status IN (SELECT value FROM json_each(?)) ORDER BY updated LIMIT ?"
    )
    found = connection.execute(select, (before, json.dumps(which), limit)).fetchall()
    keys = json.dumps([key for (key,) in found])
    for table, column in _OF_A_RUN.items():
        delete = f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))"
        connection.execute(delete, (keys,))
    return len(found)


_OF_A_RUN = {"records": "run", "waits": "run", "signals": "run", "events": "run", "runs": "key"}
