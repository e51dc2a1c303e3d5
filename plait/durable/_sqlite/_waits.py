"""Waits: how a run leaves memory, and what wakes it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from plait.durable._errors import JournalError
from plait.durable._sqlite._schema import IN_LINE, LINES_UP, NO_LINE
from plait.durable._sqlite._statements import ForRows
from plait.durable._sqlite._writer import RefusedError, refusal

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from plait.durable._stored import Wait


def suspend(
    key: int, waits: Sequence[Wait], now: float, runner: int, connection: sqlite3.Connection
) -> None:
    """Let a run leave memory until one of its waits ends; at once where one has already."""
    select = (
        "SELECT run_id, queue, is_cancelled FROM runs"
        " WHERE key = ? AND status = 'running' AND runner = ?"
    )
    found = connection.execute(select, (key, runner)).fetchone()
    if found is None:
        raise not_executed(key)
    run_id, queue, is_cancelled = found
    if is_cancelled or any(_has_news(wait.topic, key, run_id, connection) for wait in waits):
        wakes: float | None = now
    else:
        wakes = min((wait.until for wait in waits if wait.until is not None), default=None)
    lane = NO_LINE if queue is None or is_cancelled else LINES_UP
    update = (
        "UPDATE runs SET status = 'waiting', runner = NULL, wakes = ?, lane = ?, updated = ?"
        " WHERE key = ?"
    )
    connection.execute(update, (wakes, lane, now, key))
    connection.executemany(
        "INSERT INTO waits (run, number, path, topic, until) VALUES (?, ?, ?, ?, ?)",
        [(key, number, *wait) for number, wait in enumerate(waits)],
    )


def not_executed(key: int) -> RefusedError:
    """What a runner is told that says something of a run that it does not execute."""
    return refusal(JournalError(f"the run with key {key} is not under way in this runner"))


_WAKE = ForRows(
    f"""
    WITH news (topic, now) AS (VALUES ?)
    UPDATE runs SET wakes = min(news.now, coalesce(wakes, news.now)) FROM (
        SELECT run, min(now) AS now FROM news CROSS JOIN waits
        ON waits.topic = news.topic AND waits.topic <> '' GROUP BY run
    ) AS news WHERE key = news.run AND status = 'waiting' AND lane <> {IN_LINE}
    """,
    columns=2,
)


def wake(news: Sequence[tuple[str, float]], connection: sqlite3.Connection) -> None:
    """Let the runs go on that wait for something: for each topic, when there was news of it."""
    _WAKE(connection, news)


def _has_news(topic: str, key: int, run_id: str, connection: sqlite3.Connection) -> bool:
    kind, _, rest = topic.partition(":")
    if kind == "signal":
        select = "SELECT 1 FROM signals WHERE run = ? AND name = ? AND is_received = 0"
        name = rest.removeprefix(f"{run_id}:")
        return connection.execute(select, (key, name)).fetchone() is not None
    if kind == "run":
        # One that is not there, or no longer, is nothing to wait for either.
        select = (
            "SELECT 1 FROM runs WHERE run_id = ? AND status IN ('queued', 'running', 'waiting')"
        )
        return connection.execute(select, (rest,)).fetchone() is None
    if kind == "entity":
        # Whoever stands in line is told that it is next, and else nothing.
        select = (
            "SELECT offered IS NOT NULL FROM turns"
            " WHERE run = ? AND 'entity:' || kind || ':' || key = ?"
        )
        turns = connection.execute(select, (key, topic)).fetchall()
        return not turns or (1,) in turns
    # Ids and names may have colons of their own.
    parts = json.dumps(list(_splits(rest)))
    if kind == "event":
        select = f"""
            SELECT 1 FROM ({_PARTS}) JOIN runs ON runs.run_id = first
            JOIN events ON events.run = runs.key AND events.name = second
        """
        return connection.execute(select, (parts,)).fetchone() is not None
    return False


_PARTS = (
    "SELECT json_extract(value, '$[0]') AS first, json_extract(value, '$[1]') AS second"
    " FROM json_each(?)"
)


def _splits(text: str) -> Iterator[tuple[str, str]]:
    words = text.split(":")
    for number in range(1, len(words)):
        yield ":".join(words[:number]), ":".join(words[number:])
