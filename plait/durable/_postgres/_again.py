"""Runs that are executed again: reopened where they failed, or forked from a step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from plait.durable._postgres._arrays import Bigints
from plait.durable._postgres._database import first, rows
from plait.durable._postgres._runs import create
from plait.durable._stored import Kind
from plait.durable._undone import undone

if TYPE_CHECKING:
    from plait.durable._postgres._database import Connection
    from plait.durable._stored import NewRun, StoredRun

_DATA, _ERROR, _VALUE = Kind.DATA.value, Kind.ERROR.value, Kind.VALUE.value


async def reopen(connection: Connection, key: int, now: float, runner: int) -> int | None:
    """Claim a failed or cancelled run, without its last failures; the epoch that it goes on in."""
    select = (
        "SELECT failures, nextval('epochs') FROM runs"
        " WHERE key = %s AND status IN ('failed', 'cancelled') FOR UPDATE"
    )
    found = await first(connection, select, key)
    if found is None:
        return None
    select = "SELECT number, path, kind, digest FROM records WHERE run = %s ORDER BY number"
    written = [
        (n, path, kind, digest) for n, path, kind, digest in await rows(connection, select, key)
    ]
    numbers = Bigints(sorted(undone(written, json.loads(found[0]))))
    where = "WHERE run = %s AND number = ANY(%s)"
    keep = f"UPDATE records SET kind = {_DATA} {where} AND data IS NOT NULL"
    await rows(connection, keep, key, numbers)
    await rows(connection, f"DELETE FROM records {where} AND kind <> {_DATA}", key, numbers)
    update = (
        "UPDATE runs SET status = 'running', outcome = NULL, failures = '[]', updated = %s,"
        " runner = %s, is_cancelled = FALSE WHERE key = %s"
    )
    await rows(connection, update, now, runner, key)
    epoch: int = found[1]
    return epoch


async def fork(
    connection: Connection, key: int, new: NewRun, before: str | None, runner: int
) -> tuple[StoredRun, bool, int]:
    """Keep a new run with a copy of the records of another; also the epoch that it goes on in."""
    (((made, is_new),),) = await create(connection, [([new], runner)])
    ((epoch,),) = await rows(connection, "SELECT nextval('epochs')")
    if not is_new:
        return made, False, epoch
    end = None if before is None else await _first_at(connection, before, key)
    # What those above changed in the data before they failed holds, as when a run is reopened.
    copy = f"""
        INSERT INTO records (run, number, path, kind, digest, payload, data, at, seconds)
        SELECT %(made)s, number, path, CASE WHEN is_undone THEN {_DATA} ELSE kind END, digest,
            payload, data, at, seconds
        FROM (
            SELECT *, kind = {_ERROR} AND left(%(before)s, length(path) + 1)
                IN (path || '/', path || '[') AS is_undone
            FROM records WHERE run = %(key)s
        ) AS old
        WHERE number < coalesce(%(end)s, number + 1) AND NOT (is_undone AND data IS NULL)
    """
    values = {"made": made.key, "before": before or "", "key": key, "end": end}
    await connection.execute(copy.encode(), values)
    # What the other one had is not this one's: it waits for it anew.
    not_had = f"""
        DELETE FROM records WHERE run = %(made)s AND kind = {_VALUE}
        AND strpos(path, '#entity:') > 0 AND right(path, 9) <> '#released'
        AND path || '#released' NOT IN (SELECT path FROM records WHERE run = %(made)s)
    """
    await connection.execute(not_had.encode(), values)
    return made, True, epoch


async def _first_at(connection: Connection, path: str, key: int) -> int | None:
    select = (
        "SELECT min(number) FROM records WHERE run = %s AND (path = %s"
        " OR left(path, %s) = ANY(%s::text[]))"
    )
    below = [f"{path}{sign}" for sign in "#/["]
    found = await first(connection, select, key, path, len(path) + 1, below)
    return None if found is None else found[0]
