"""Entities: who has one, and who stands in line for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from plait.durable._errors import JournalError
from plait.durable._sqlite._messages import insert
from plait.durable._sqlite._schema import IN_LINE
from plait.durable._sqlite._writer import RefusedError
from plait.durable._turns import TURN_SECONDS, Turn

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from plait.durable._stored import Record

# A turn is offered from a time on; none that was offered before counts, nor one of a clock that
# was set back since: who has not come is passed over, and asks again once it is back.
_OF_IT = "FROM turns WHERE kind = :kind AND key = :key"
_IS_KEPT = f"offered > :now - {TURN_SECONDS} AND offered <= :now + {TURN_SECONDS}"


def acquire(
    kind: str, key: str, record: Record, now: float, connection: sqlite3.Connection
) -> tuple[bytes] | None:
    """Let a run have an entity, unless others come first; then it stands in line."""
    values = {"kind": kind, "key": key, "run": record.run, "path": record.path, "now": now}
    own = f"{_OF_IT} AND run = :run AND path = :path"
    is_line = connection.execute(f"SELECT 1 {_OF_IT} LIMIT 1", values).fetchone() is not None
    if is_line:
        back = f"UPDATE turns SET offered = NULL WHERE number = (SELECT number {own})"
        connection.execute(f"{back} AND NOT ({_IS_KEPT})", values)
    if not is_line or _is_first(values, connection):
        take = (
            "INSERT INTO entities (kind, key, holder, path) VALUES (:kind, :key, :run, :path)"
            " ON CONFLICT DO UPDATE SET holder = :run, path = :path WHERE holder IS NULL"
            " RETURNING state"
        )
        found = connection.execute(take, values).fetchone()
        if found is not None:
            if is_line:
                connection.execute(f"DELETE {own}", values)
            state: bytes = found[0] or b""
            insert(connection, record._replace(payload=state))
            return (state,)
    connection.execute(
        "INSERT INTO turns (kind, key, run, path) VALUES (:kind, :key, :run, :path)"
        " ON CONFLICT DO UPDATE SET offered = NULL",
        values,
    )
    _offer(kind, key, now, connection)
    return None


def _is_first(values: Mapping[str, object], connection: sqlite3.Connection) -> bool:
    """Whether nobody else is to have an entity before a wait for it."""
    select = (
        f"SELECT run = :run AND path = :path {_OF_IT} AND (offered IS NULL OR {_IS_KEPT})"
        " ORDER BY offered IS NULL, number LIMIT 1"
    )
    first = connection.execute(select, values).fetchone()
    return first is None or bool(first[0])


def _offer(kind: str, key: str, now: float, connection: sqlite3.Connection) -> Turn | None:
    """Keep an entity that is free for the first in line, and wake its run."""
    update = f"""
        UPDATE turns SET offered = :now WHERE number = (
            SELECT number {_OF_IT} AND offered IS NULL ORDER BY number LIMIT 1
        )
        AND NOT EXISTS (SELECT 1 {_OF_IT} AND {_IS_KEPT})
        AND NOT EXISTS (
            SELECT 1 FROM entities WHERE kind = :kind AND key = :key AND holder IS NOT NULL
        ) RETURNING run, path
    """
    found = connection.execute(update, {"kind": kind, "key": key, "now": now}).fetchone()
    if found is None:
        return None
    wake = (
        "UPDATE runs SET wakes = min(?1, coalesce(wakes, ?1))"
        f" WHERE key = ?2 AND status = 'waiting' AND lane <> {IN_LINE}"
    )
    turn = Turn._make(found)
    connection.execute(wake, (now, turn.run))
    return turn


def release(
    kind: str,
    key: str,
    state: bytes | None,
    record: Record,
    now: float,
    connection: sqlite3.Connection,
) -> Turn | None:
    """Let go of an entity, with its new state unless that is None; who is next."""
    let_go = (
        "UPDATE entities SET holder = NULL, path = NULL, state = coalesce(?, state)"
        " WHERE kind = ? AND key = ? AND holder = ?"
    )
    if not connection.execute(let_go, (state, kind, key, record.run)).rowcount:
        msg = f"{record.path!r} lets go of {kind} {key!r}, which its run does not have"
        raise RefusedError from JournalError(msg)
    insert(connection, record)
    return _offer(kind, key, now, connection)


def withdraw(
    kind: str, key: str, turn: Turn, now: float, connection: sqlite3.Connection
) -> Turn | None:
    """Leave the line for an entity, or let go of it unchanged; who is next."""
    let_go = (
        "UPDATE entities SET holder = NULL, path = NULL"
        " WHERE kind = ? AND key = ? AND holder = ? AND path = ?"
    )
    connection.execute(let_go, (kind, key, *turn))
    leave = "DELETE FROM turns WHERE kind = ? AND key = ? AND run = ? AND path = ?"
    connection.execute(leave, (kind, key, *turn))
    return _offer(kind, key, now, connection)


def free(times: Mapping[int, float], connection: sqlite3.Connection) -> None:
    """Free what runs that ended at these times had, or stood in line for."""
    keys, those = (json.dumps(list(times)),), "IN (SELECT value FROM json_each(?))"
    select = f"SELECT kind, key, holder FROM entities WHERE holder {those}"
    if held := connection.execute(select, keys).fetchall():
        let_go = f"UPDATE entities SET holder = NULL, path = NULL WHERE holder {those}"
        connection.execute(let_go, keys)
    leave = f"DELETE FROM turns WHERE run {those} RETURNING kind, key, run"
    left = connection.execute(leave, keys).fetchall()
    for kind, key, run in sorted(held + left):
        _offer(kind, key, times[run], connection)


def pass_on(now: float, connection: sqlite3.Connection) -> None:
    """Keep for the next ones what was kept for others for too long."""
    # A cross join begins with its left side: few are offered something, and many are executed.
    passed_over = f"""
        SELECT DISTINCT kind, key FROM turns CROSS JOIN entities USING (kind, key)
        WHERE offered IS NOT NULL AND NOT ({_IS_KEPT}) AND holder IS NULL AND EXISTS (
            SELECT 1 FROM turns AS next
            WHERE next.kind = turns.kind AND next.key = turns.key AND next.offered IS NULL
        )
    """
    for kind, key in connection.execute(passed_over, {"now": now}).fetchall():
        _offer(kind, key, now, connection)


def turns(runner: int, connection: sqlite3.Connection) -> tuple[Turn, ...]:
    """Who, in the runs that a runner executes, has or had an entity kept for it."""
    select = (
        "SELECT run, path FROM turns CROSS JOIN runs ON runs.key = run"
        " WHERE offered IS NOT NULL AND status = 'running' AND runner = ?"
    )
    return tuple(map(Turn._make, connection.execute(select, (runner,))))
