"""Payloads, whatever they are of: how it is found which blobs are referred to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

# In the order in which what is in one may come to be in a later one.
COLUMNS = (
    ("entities", "state"),
    ("signals", "payload"),
    ("runs", "input"),
    ("runs", "outcome"),
    ("records", "payload"),
    ("records", "data"),
    ("events", "payload"),
)

_AT_ONCE = 20_000
"""How many rows are looked at before others have their turn."""


def page(
    table: str, column: str, start: bytes, after: int, connection: sqlite3.Connection
) -> tuple[list[bytes], int | None]:
    """Payloads of a column that start so, and after which row the next ones are."""
    starts = f"substr({column}, 1, ?) = ?"
    if table in _SMALL:
        select = f"SELECT {column} FROM {table} WHERE {starts}"
        return [found for (found,) in connection.execute(select, (len(start), start))], None
    last = f"SELECT max(rowid) FROM (SELECT rowid FROM {table} WHERE rowid > ? ORDER BY 1 LIMIT ?)"
    (until,) = connection.execute(last, (after, _AT_ONCE)).fetchone()
    select = f"SELECT {column} FROM {table} WHERE rowid > ? AND rowid <= ? AND {starts}"
    values = (after, until, len(start), start)
    return [found for (found,) in connection.execute(select, values)], until


_SMALL = frozenset({"entities", "events"})
"""Tables whose rows have no number."""
