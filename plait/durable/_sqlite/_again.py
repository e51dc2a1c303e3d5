"""Runs that are executed again: reopened where they failed, or forked from a step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from plait.durable._sqlite._runs import create
from plait.durable._stored import Kind
from plait.durable._undone import undone

if TYPE_CHECKING:
    import sqlite3

    from plait.durable._stored import NewRun, StoredRun

_DATA, _ERROR, _VALUE = Kind.DATA.value, Kind.ERROR.value, Kind.VALUE.value


def reopen(key: int, now: float, runner: int, connection: sqlite3.Connection) -> bool:
    """Claim a failed or cancelled run, without its last failures; whether it was one."""
    select = "SELECT failures FROM runs WHERE key = ? AND status IN ('failed', 'cancelled')"
    row = connection.execute(select, (key,)).fetchone()
    if row is None:
        return False
    rows = connection.execute(
        "SELECT rowid, path, kind, digest FROM records WHERE run = ? ORDER BY rowid", (key,)
    ).fetchall()
    numbers = json.dumps(sorted(undone(rows, json.loads(row[0]))))
    keep = (
        f"UPDATE records SET kind = {_DATA} WHERE data IS NOT NULL"
        " AND rowid IN (SELECT value FROM json_each(?))"
    )
    delete = (
        f"DELETE FROM records WHERE kind <> {_DATA} AND rowid IN (SELECT value FROM json_each(?))"
    )
    connection.execute(keep, (numbers,))
    connection.execute(delete, (numbers,))
    update = (
        "UPDATE runs SET status = 'running', outcome = NULL, failures = '[]', updated = ?,"
        " runner = ?, is_cancelled = 0 WHERE key = ?"
    )
    connection.execute(update, (now, runner, key))
    return True


def fork(
    key: int, new: NewRun, before: str | None, runner: int, connection: sqlite3.Connection
) -> tuple[StoredRun, bool]:
    """Keep a new run with a copy of the records of another."""
    (((made, is_new),),) = create([[new]], runner, connection)
    if not is_new:
        return made, False
    end = None if before is None else _first_at(before, key, connection)
    # What those above changed in the data before they failed holds, as when a run is reopened.
    copy = (
        "INSERT INTO records"
        " SELECT ?1, path, CASE WHEN is_undone THEN ?2 ELSE kind END, digest, payload, data, at,"
        " seconds"
        " FROM (SELECT rowid AS number, *, kind = ?3 AND substr(?4, 1, length(path) + 1)"
        " IN (path || '/', path || '[') AS is_undone FROM records WHERE run = ?5)"
        " WHERE number < coalesce(?6, number + 1) AND NOT (is_undone AND data IS NULL)"
        " ORDER BY number"
    )
    connection.execute(copy, (made.key, _DATA, _ERROR, before or "", key, end))
    # What the other one had is not this one's: it waits for it anew.
    not_had = (
        f"DELETE FROM records WHERE run = ?1 AND kind = {_VALUE} AND path LIKE '%#entity:%'"
        " AND path NOT LIKE '%#released'"
        " AND path || '#released' NOT IN (SELECT path FROM records WHERE run = ?1)"
    )
    connection.execute(not_had, (made.key,))
    return made, True


def _first_at(path: str, key: int, connection: sqlite3.Connection) -> int | None:
    select = (
        "SELECT min(rowid) FROM records WHERE run = ?1 AND (path = ?2"
        " OR substr(path, 1, ?3) IN (?2 || '#', ?2 || '/', ?2 || '['))"
    )
    first: int | None
    (first,) = connection.execute(select, (key, path, len(path) + 1)).fetchone()
    return first
