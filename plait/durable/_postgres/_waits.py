"""Waits: how a run leaves memory, and what wakes it.

Whoever lets a run wait and whoever has news for it lock the same row first: that of the run which
is signalled, has ended or sets the event, or that of the entity. Neither can miss the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait.durable._errors import JournalError
from plait.durable._postgres._arrays import Bigints, Floats, Texts
from plait.durable._postgres._database import RefusedError, first, rows
from plait.durable._postgres._schema import IN_LINE, LINES_UP, NO_LINE
from plait.durable._stored import ENDED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from plait.durable._postgres._database import Connection
    from plait.durable._stored import Wait


async def suspend(
    connection: Connection, key: int, waits: Sequence[Wait], now: float, runner: int
) -> None:
    """Let a run leave memory until one of its waits ends; at once where one has already."""
    select = (
        "SELECT run_id, queue, is_cancelled FROM runs"
        " WHERE key = %s AND status = 'running' AND runner = %s FOR UPDATE"
    )
    found = await first(connection, select, key, runner)
    if found is None:
        raise RefusedError from not_executed(key)
    run_id, queue, is_cancelled = found
    wakes = min((wait.until for wait in waits if wait.until is not None), default=None)
    if is_cancelled or await _have_news(connection, waits, key, run_id):
        wakes = now
    lane = NO_LINE if queue is None or is_cancelled else LINES_UP
    update = (
        "UPDATE runs SET status = 'waiting', runner = NULL, wakes = %s, lane = %s, updated = %s"
        " WHERE key = %s"
    )
    await rows(connection, update, wakes, lane, now, key)
    insert = (
        "INSERT INTO waits (run, number, path, topic, until) SELECT %s, fresh.* FROM"
        " unnest(%s::bigint[], %s::text[], %s::text[], %s::float8[]) AS fresh"
    )
    numbers, paths = Bigints(range(len(waits))), Texts(wait.path for wait in waits)
    topics, ends = Texts(wait.topic for wait in waits), Floats(wait.until for wait in waits)
    await rows(connection, insert, key, numbers, paths, topics, ends)


def not_executed(key: int) -> JournalError:
    """What is raised when a runner says something of a run that it does not execute."""
    return JournalError(f"the run with key {key} is not under way in this runner")


_WAKE = f"""
    UPDATE runs SET wakes = least(news.now, wakes) FROM (
        SELECT waits.run, min(news.now) AS now
        FROM unnest(%s::text[], %s::float8[]) AS news (topic, now) JOIN waits USING (topic)
        WHERE topic <> '' GROUP BY waits.run
    ) AS news WHERE key = news.run AND status = 'waiting' AND lane <> {IN_LINE}
"""


async def wake(connection: Connection, topic: str, now: float) -> None:
    """Let the runs that wait for something go on."""
    await rows(connection, _WAKE, Texts([topic]), Floats([now]))


async def _have_news(connection: Connection, waits: Sequence[Wait], key: int, run_id: str) -> bool:
    for wait in waits:
        if await _has_news(connection, wait.topic, key, run_id):
            return True
    return False


async def _has_news(connection: Connection, topic: str, key: int, run_id: str) -> bool:
    kind, _, rest = topic.partition(":")
    if kind == "signal":
        select = "SELECT 1 FROM signals WHERE run = %s AND name = %s AND NOT is_received LIMIT 1"
        return await first(connection, select, key, rest.removeprefix(f"{run_id}:")) is not None
    if kind == "run":
        # One that is not there, or no longer, is nothing to wait for either.
        select = "SELECT status FROM runs WHERE run_id = %s FOR SHARE"
        found = await first(connection, select, rest)
        return found is None or found[0] in ENDED
    if kind == "entity":
        # Whoever stands in line is told that it is next, and else nothing.
        of_it = "FROM turns WHERE run = %s AND 'entity:' || kind || ':' || turns.key = %s"
        lock = f"SELECT 1 FROM entities WHERE (kind, key) IN (SELECT kind, key {of_it}) FOR SHARE"
        await rows(connection, lock, key, topic)
        turns = await rows(connection, f"SELECT offered IS NOT NULL {of_it}", key, topic)
        return not turns or (True,) in turns
    # Ids and names may have colons of their own.
    parts = list(_splits(rest))
    firsts, seconds = Texts(one for one, _ in parts), Texts(two for _, two in parts)
    if kind == "event":
        await rows(connection, "SELECT 1 FROM runs WHERE run_id = ANY(%s) FOR SHARE", firsts)
        select = (
            "SELECT 1 FROM unnest(%s::text[], %s::text[]) AS part (run_id, name)"
            " JOIN runs USING (run_id) JOIN events ON events.run = runs.key"
            " AND events.name = part.name"
        )
        return await first(connection, select, firsts, seconds) is not None
    return False


def _splits(text: str) -> Iterator[tuple[str, str]]:
    words = text.split(":")
    for number in range(1, len(words)):
        yield ":".join(words[:number]), ":".join(words[number:])
