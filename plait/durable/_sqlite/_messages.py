"""What runs are told and tell: records, signals, events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plait.durable._errors import JournalError
from plait.durable._sqlite._statements import ForRows
from plait.durable._sqlite._waits import wake
from plait.durable._sqlite._writer import RefusedError
from plait.durable._stored import ENDED, Kind, Record, RunStatus

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_INSERT = ForRows(
    "INSERT INTO records (run, path, kind, digest, payload, data, seconds) VALUES ?",
    columns=7,
    nullable={5},
)


def append(records: Sequence[Record], connection: sqlite3.Connection) -> list[None]:
    """Keep records; for many that ask at once."""
    _INSERT(connection, [_bound(*record) for record in records])
    return [None] * len(records)


def insert(connection: sqlite3.Connection, record: Record) -> None:
    """Keep one record."""
    _INSERT(connection, [_bound(*record)])


def _bound(
    run: int,
    path: str,
    kind: int,
    digest: bytes,
    payload: bytes,
    data: bytes | None,
    seconds: float | None,
) -> tuple[Any, ...]:
    changed = "" if data is None else bytearray(data)
    return run, path, kind, bytearray(digest), bytearray(payload), changed, seconds


def fold(record: Record, connection: sqlite3.Connection) -> None:
    """Keep a record that stands for all that lies below its path, which is removed."""
    # "0" comes right after "/", and "\" after "[": all that lies below is in between.
    delete = (
        "DELETE FROM records WHERE run = ?1 AND (path >= ?2 || '/' AND path < ?2 || '0'"
        " OR path >= ?2 || '[' AND path < ?2 || '\\')"
    )
    connection.execute(delete, (record.run, record.path))
    insert(connection, record)


def send(
    run_id: str,
    name: str,
    payload: bytes,
    signal_id: str | None,
    now: float,
    connection: sqlite3.Connection,
) -> RunStatus | None:
    """Keep a signal for a run, once for an id, and wake the run where it waits for it."""
    select = "SELECT key, status FROM runs WHERE run_id = ?"
    found = connection.execute(select, (run_id,)).fetchone()
    if found is None:
        return None
    key, status = found
    if status not in ENDED:
        keep = (
            "INSERT INTO signals (run, name, payload, signal_id) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING"
        )
        if connection.execute(keep, (key, name, payload, signal_id)).rowcount:
            wake([(f"signal:{run_id}:{name}", now)], connection)
    answer: RunStatus = status
    return answer


def receive(key: int, name: str, path: str, connection: sqlite3.Connection) -> bytes | None:
    """Take a run's oldest signal of a name, and keep it as the VALUE record at `path`."""
    select = (
        "SELECT id, payload, signal_id FROM signals WHERE run = ? AND name = ?"
        " AND is_received = 0 ORDER BY id LIMIT 1"
    )
    found = connection.execute(select, (key, name)).fetchone()
    if found is None:
        return None
    signal, payload, signal_id = found
    # One that has an id is kept in mind: it may be sent again.
    take = (
        "DELETE FROM signals WHERE id = ?"
        if signal_id is None
        else "UPDATE signals SET is_received = 1, payload = x'' WHERE id = ?"
    )
    connection.execute(take, (signal,))
    insert(connection, Record(key, path, Kind.VALUE.value, b"", payload, None))
    answer: bytes = payload
    return answer


def set_event(record: Record, name: str, now: float, connection: sqlite3.Connection) -> None:
    """Keep a record, and its payload as the run's event of a name; wake those that wait."""
    select = "SELECT run_id FROM runs WHERE key = ?"
    found = connection.execute(select, (record.run,)).fetchone()
    if found is None:
        raise RefusedError from JournalError(f"there is no run with key {record.run}")
    insert(connection, record)
    connection.execute(
        "INSERT INTO events (run, name, payload) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET payload = excluded.payload",
        (record.run, name, record.payload),
    )
    wake([(f"event:{found[0]}:{name}", now)], connection)


def event(run_id: str, name: str, connection: sqlite3.Connection) -> bytes | None:
    """The value of a run's event, where it has been set."""
    select = (
        "SELECT payload FROM events JOIN runs ON events.run = runs.key"
        " WHERE run_id = ? AND name = ?"
    )
    found = connection.execute(select, (run_id, name)).fetchone()
    return None if found is None else found[0]
