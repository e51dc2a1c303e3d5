"""Entities: who has one, and who stands in line for it.

Whoever changes who has an entity, or the line for it, locks its row first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait.durable._errors import JournalError
from plait.durable._postgres._arrays import Bigints
from plait.durable._postgres._database import RefusedError, first, rows
from plait.durable._postgres._messages import insert
from plait.durable._postgres._schema import IN_LINE
from plait.durable._turns import TURN_SECONDS, Turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plait.durable._postgres._database import Connection
    from plait.durable._stored import Record

# A turn is offered from a time on; none that was offered before counts, nor one of a clock that
# was set back since: who has not come is passed over, and asks again once it is back.
_IS_KEPT = f"offered > %s::float8 - {TURN_SECONDS} AND offered <= %s::float8 + {TURN_SECONDS}"
_OF_IT = "FROM turns WHERE kind = %s AND key = %s"


async def acquire(
    connection: Connection, kind: str, key: str, record: Record, number: int, now: float
) -> tuple[bytes] | None:
    """Let a run have an entity, unless others come first; then it stands in line."""
    place, own = (kind, key), (kind, key, record.run, record.path)
    take = (
        "INSERT INTO entities AS held (kind, key, holder, path) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (kind, key) DO UPDATE SET holder = excluded.holder, path = excluded.path"
        " WHERE held.holder IS NULL"
    )
    nobody_waits = f"NOT EXISTS (SELECT 1 {_OF_IT})"
    found = await first(connection, f"{take} AND {nobody_waits} RETURNING state", *own, *place)
    if found is None:
        # A statement of its own: the next ones see what was committed while it had to wait.
        await _lock(connection, kind, key)
        back = "UPDATE turns SET offered = NULL WHERE kind = %s AND key = %s AND run = %s"
        await rows(connection, f"{back} AND path = %s AND NOT ({_IS_KEPT})", *own, now, now)
        if await _is_first(connection, kind, key, record, now):
            found = await first(connection, f"{take} RETURNING state", *own)
        if found is None:
            stand = (
                "INSERT INTO turns (kind, key, run, path) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (run, kind, key, path) DO UPDATE SET offered = NULL"
            )
            await rows(connection, stand, *own)
            await _offer(connection, kind, key, now)
            return None
        await rows(connection, f"DELETE {_OF_IT} AND run = %s AND path = %s", *own)
    state: bytes = found[0] or b""
    await insert(connection, record._replace(payload=state), number)
    return (state,)


async def _lock(connection: Connection, kind: str, key: str) -> None:
    lock = "SELECT 1 FROM entities WHERE kind = %s AND key = %s FOR UPDATE"
    await rows(connection, lock, kind, key)


async def _is_first(
    connection: Connection, kind: str, key: str, record: Record, now: float
) -> bool:
    """Whether nobody else is to have an entity before a wait for it."""
    select = (
        f"SELECT run, path {_OF_IT} AND (offered IS NULL OR {_IS_KEPT})"
        " ORDER BY offered IS NULL, number LIMIT 1"
    )
    found = await first(connection, select, kind, key, now, now)
    return found is None or found == (record.run, record.path)


async def _offer(connection: Connection, kind: str, key: str, now: float) -> Turn | None:
    """Keep an entity that is free for the first in line, and wake its run."""
    update = f"""
        UPDATE turns SET offered = %s WHERE number = (
            SELECT number {_OF_IT} AND offered IS NULL ORDER BY number LIMIT 1
        )
        AND NOT EXISTS (SELECT 1 {_OF_IT} AND {_IS_KEPT})
        AND NOT EXISTS (
            SELECT 1 FROM entities WHERE kind = %s AND key = %s AND holder IS NOT NULL
        ) RETURNING run, path
    """
    place = (kind, key)
    found = await first(connection, update, now, *place, *place, now, now, *place)
    if found is None:
        return None
    wake = (
        "UPDATE runs SET wakes = least(%s, wakes)"
        f" WHERE key = %s AND status = 'waiting' AND lane <> {IN_LINE}"
    )
    turn = Turn._make(found)
    await rows(connection, wake, now, turn.run)
    return turn


async def release(
    connection: Connection,
    kind: str,
    key: str,
    state: bytes | None,
    record: Record,
    number: int,
    now: float,
) -> Turn | None:
    """Let go of an entity, with its new state unless that is None; who is next."""
    let_go = (
        "UPDATE entities SET holder = NULL, path = NULL, state = coalesce(%s, state)"
        " WHERE kind = %s AND key = %s AND holder = %s RETURNING 1"
    )
    if await first(connection, let_go, state, kind, key, record.run) is None:
        msg = f"{record.path!r} lets go of {kind} {key!r}, which its run does not have"
        raise RefusedError from JournalError(msg)
    await insert(connection, record, number)
    return await _offer(connection, kind, key, now)


async def withdraw(
    connection: Connection, kind: str, key: str, turn: Turn, now: float
) -> Turn | None:
    """Leave the line for an entity, or let go of it unchanged; who is next."""
    await _lock(connection, kind, key)
    let_go = (
        "UPDATE entities SET holder = NULL, path = NULL"
        " WHERE kind = %s AND key = %s AND holder = %s AND path = %s"
    )
    await rows(connection, let_go, kind, key, *turn)
    await rows(connection, f"DELETE {_OF_IT} AND run = %s AND path = %s", kind, key, *turn)
    return await _offer(connection, kind, key, now)


async def free(
    connection: Connection, held: Sequence[tuple[str, str, float]], runs: Sequence[int]
) -> None:
    """Free what runs that have ended had, or stood in line for.

    Args:
        connection: Where the journal is.
        held: The kind and the key of each of these, and when its run ended.
        runs: The runs.
    """
    keys = Bigints(runs)
    for kind, key, now in sorted(held):
        await _lock(connection, kind, key)
        let_go = "UPDATE entities SET holder = NULL, path = NULL WHERE kind = %s AND key = %s"
        await rows(connection, f"{let_go} AND holder = ANY(%s)", kind, key, keys)
        await rows(connection, f"DELETE {_OF_IT} AND run = ANY(%s)", kind, key, keys)
        await _offer(connection, kind, key, now)


async def pass_on(connection: Connection, now: float) -> None:
    """Keep for the next ones what was kept for others for too long."""
    passed_over = f"""
        SELECT kind, key FROM entities WHERE holder IS NULL AND (kind, key) IN (
            SELECT kind, key FROM turns WHERE offered IS NOT NULL AND NOT ({_IS_KEPT})
        ) AND EXISTS (
            SELECT 1 FROM turns WHERE turns.kind = entities.kind AND turns.key = entities.key
            AND offered IS NULL
        ) FOR UPDATE SKIP LOCKED
    """
    for kind, key in await rows(connection, passed_over, now, now):
        await _offer(connection, kind, key, now)


async def turns(connection: Connection, runner: int) -> tuple[Turn, ...]:
    """Who, in the runs that a runner executes, has or had an entity kept for it."""
    select = (
        "SELECT run, path FROM turns JOIN runs ON runs.key = run"
        " WHERE offered IS NOT NULL AND status = 'running' AND runner = %s"
    )
    return tuple(map(Turn._make, await rows(connection, select, runner)))
