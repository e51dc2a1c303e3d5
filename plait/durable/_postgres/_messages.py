"""What runs record, are told and tell: records, signals, events, ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait.durable._errors import JournalError
from plait.durable._postgres._arrays import Bigints, Blobs, Floats, Texts
from plait.durable._postgres._database import RefusedError, first, rows
from plait.durable._postgres._leases import MINE
from plait.durable._postgres._waits import wake
from plait.durable._stored import ENDED, Kind, Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plait.durable._postgres._database import Connection
    from plait.durable._stored import RunStatus

# A row that is there already was written by the same call, whose answer was lost on the way.
_KEEP = f"""
    WITH mine AS MATERIALIZED ({MINE}), kept AS (
        INSERT INTO records (run, number, path, kind, digest, payload, data, seconds)
        SELECT fresh.* FROM mine, unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bigint[],
            %s::bytea[], %s::bytea[], %s::bytea[], %s::float8[]) AS fresh
        ON CONFLICT DO NOTHING
    )
    SELECT count(*) FROM mine
"""


async def append(connection: Connection, calls: Sequence[tuple[Record, int]], runner: int) -> bool:
    """Keep records in one statement; False where the runner was taken over from.

    Args:
        connection: Where to.
        calls: The records, each with its number: they are in the order of these.
        runner: Whose they are.
    """
    records = [record for record, _ in calls]
    runs, paths, kinds, digests, payloads, data, seconds = zip(*records, strict=True)
    found = await first(
        connection,
        _KEEP,
        runner,
        Bigints(runs),
        Bigints(number for _, number in calls),
        Texts(paths),
        Bigints(kinds),
        Blobs(digests),
        Blobs(payloads),
        Blobs(data),
        Floats(seconds),
    )
    return found == (1,)


async def insert(connection: Connection, record: Record, number: int) -> None:
    """Keep one record."""
    await rows(
        connection,
        "INSERT INTO records (run, path, kind, digest, payload, data, seconds, number)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        *record,
        number,
    )


async def fold(connection: Connection, record: Record, number: int) -> None:
    """Keep a record that stands for all that lies below its path, which is removed."""
    # "0" comes right after "/", and "\" after "[": all that lies below is in between.
    delete = (
        "DELETE FROM records WHERE run = %(run)s AND number < %(number)s"
        " AND (path >= %(path)s || '/' AND path < %(path)s || '0'"
        " OR path >= %(path)s || '[' AND path < %(path)s || '\\')"
    )
    values = {"run": record.run, "number": number, "path": record.path}
    await connection.execute(delete.encode(), values)
    await insert(connection, record, number)


async def send(
    connection: Connection,
    run_id: str,
    name: str,
    payload: bytes,
    signal_id: str | None,
    now: float,
) -> RunStatus | None:
    """Keep a signal for a run, once for an id, and wake the run where it waits for it."""
    select = "SELECT key, status FROM runs WHERE run_id = %s FOR NO KEY UPDATE"
    found = await first(connection, select, run_id)
    if found is None:
        return None
    key, status = found
    if status not in ENDED:
        keep = (
            "INSERT INTO signals (run, name, payload, signal_id) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT DO NOTHING RETURNING id"
        )
        if await first(connection, keep, key, name, payload, signal_id) is not None:
            await wake(connection, f"signal:{run_id}:{name}", now)
    answer: RunStatus = status
    return answer


async def receive(
    connection: Connection, key: int, name: str, path: str, number: int
) -> bytes | None:
    """Take a run's oldest signal of a name, and keep it as the VALUE record at `path`."""
    select = (
        "SELECT id, payload, signal_id FROM signals WHERE run = %s AND name = %s"
        " AND NOT is_received ORDER BY id LIMIT 1 FOR UPDATE"
    )
    found = await first(connection, select, key, name)
    if found is None:
        return None
    signal, payload, signal_id = found
    # One that has an id is kept in mind: it may be sent again.
    take = (
        "DELETE FROM signals WHERE id = %s"
        if signal_id is None
        else "UPDATE signals SET is_received = TRUE, payload = '' WHERE id = %s"
    )
    await rows(connection, take, signal)
    await insert(connection, Record(key, path, Kind.VALUE.value, b"", payload, None), number)
    answer: bytes = payload
    return answer


async def set_event(
    connection: Connection, record: Record, number: int, name: str, now: float
) -> None:
    """Keep a record, and its payload as the run's event of a name; wake those that wait."""
    select = "SELECT run_id FROM runs WHERE key = %s FOR NO KEY UPDATE"
    found = await first(connection, select, record.run)
    if found is None:
        raise RefusedError from JournalError(f"there is no run with key {record.run}")
    await insert(connection, record, number)
    await rows(
        connection,
        "INSERT INTO events (run, name, payload) VALUES (%s, %s, %s)"
        " ON CONFLICT (run, name) DO UPDATE SET payload = excluded.payload",
        record.run,
        name,
        record.payload,
    )
    await wake(connection, f"event:{found[0]}:{name}", now)


async def event(connection: Connection, run_id: str, name: str) -> bytes | None:
    """The value of a run's event, where it has been set."""
    select = (
        "SELECT payload FROM events JOIN runs ON events.run = runs.key"
        " WHERE run_id = %s AND name = %s"
    )
    found = await first(connection, select, run_id, name)
    return None if found is None else found[0]


async def last_tick(connection: Connection, schedule: str) -> float | None:
    """Up to when a schedule's runs have been started."""
    found = await first(connection, "SELECT at FROM ticks WHERE schedule = %s", schedule)
    return None if found is None else found[0]


async def set_tick(connection: Connection, schedule: str, at: float) -> None:
    """Keep up to when a schedule's runs have been started; never less than is kept."""
    await rows(
        connection,
        "INSERT INTO ticks (schedule, at) VALUES (%s, %s)"
        " ON CONFLICT (schedule) DO UPDATE SET at = greatest(ticks.at, excluded.at)",
        schedule,
        at,
    )
