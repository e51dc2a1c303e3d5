"""Ticks: up to when the runs of a schedule have been started."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3


def last(schedule: str, connection: sqlite3.Connection) -> float | None:
    """Up to when a schedule's runs have been started."""
    found = connection.execute("SELECT at FROM ticks WHERE schedule = ?", (schedule,)).fetchone()
    return None if found is None else found[0]


def keep(schedule: str, at: float, connection: sqlite3.Connection) -> None:
    """Keep up to when a schedule's runs have been started; never less than is kept."""
    connection.execute(
        "INSERT INTO ticks (schedule, at) VALUES (?, ?)"
        " ON CONFLICT DO UPDATE SET at = max(at, excluded.at)",
        (schedule, at),
    )
