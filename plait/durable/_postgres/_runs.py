"""Runs: how they begin, how they end, and how they are found."""

from __future__ import annotations

import json
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from plait.durable._postgres import _entities
from plait.durable._postgres._arrays import Bigints, Blobs, Floats, Texts
from plait.durable._postgres._database import RefusedError, first, rows
from plait.durable._postgres._schema import IN_LINE, LINES_UP, NO_LINE
from plait.durable._postgres._waits import not_executed
from plait.durable._rows import COLUMNS, stored_run
from plait.durable._stored import ENDED, NewRun, Record, StoredRun, Wait

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from plait.durable._postgres._database import Connection, Row
    from plait.durable._stored import RunStatus

_INSERT = """
    INSERT INTO runs (run_id, workflow, digest, input, context, created, metadata, due, queue,
        priority, parent, status, updated, runner, wakes, lane, turn)
    SELECT run_id, workflow, digest, input, context, created, metadata, due, queue,
        priority, parent, status, created, CASE status WHEN 'running' THEN %s::bigint END, wakes,
        lane, -priority
    FROM unnest(%s::text[], %s::text[], %s::bytea[], %s::bytea[], %s::bytea[], %s::float8[],
        %s::text[], %s::float8[], %s::text[], %s::bigint[], %s::text[], %s::text[], %s::float8[],
        %s::bigint[])
    WITH ORDINALITY AS fresh (run_id, workflow, digest, input, context, created, metadata, due,
        queue, priority, parent, status, wakes, lane, place)
    ORDER BY place ON CONFLICT DO NOTHING RETURNING run_id, key
"""


async def create(
    connection: Connection, calls: Sequence[tuple[Sequence[NewRun], int]]
) -> list[list[tuple[StoredRun, bool]]]:
    """Keep new runs, or find those that have their ids; for many that ask at once."""
    runner = calls[0][1]
    runs = [run for asked, _ in calls for run in asked]
    places = [_place(run) for run in runs]
    columns = (
        Texts(run.run_id for run in runs),
        Texts(run.workflow for run in runs),
        Blobs(run.digest for run in runs),
        Blobs(run.payload for run in runs),
        Blobs(run.context for run in runs),
        Floats(run.created for run in runs),
        Texts(run.metadata for run in runs),
        Floats(run.due for run in runs),
        Texts(run.queue for run in runs),
        Bigints(run.priority for run in runs),
        Texts(run.parent for run in runs),
        Texts(status for status, _, _ in places),
        Floats(wakes for _, wakes, _ in places),
        Bigints(lane for _, _, lane in places),
    )
    made: dict[str, int] = dict(await rows(connection, _INSERT, runner, *columns))
    known = {run.run_id for run in runs if run.run_id not in made}
    found: dict[str, StoredRun] = {}
    if known:
        select = f"SELECT {COLUMNS} FROM runs WHERE run_id = ANY(%s)"
        kept = await stored(connection, await rows(connection, select, Texts(known)), runner)
        found = {run.start.run_id: run for run in kept}
    answers: dict[int, tuple[StoredRun, bool]] = {}
    for number, (run, (status, _, _)) in enumerate(zip(runs, places, strict=True)):
        if run.run_id in found:
            answers[number] = found[run.run_id], False
            continue
        is_claimed = status == "running"
        one = StoredRun(made[run.run_id], run, status, run.created, None, (), is_claimed=is_claimed)
        found[run.run_id] = one
        answers[number] = one, True
    taken = iter(answers.values())
    return [[next(taken) for _ in asked] for asked, _ in calls]


def _place(run: NewRun) -> tuple[RunStatus, float | None, int]:
    """A new run's status, when it wakes, and its lane."""
    is_due = run.due is None or run.due <= run.created
    status: RunStatus = "running" if is_due and run.queue is None else "queued"
    if run.queue is None:
        return status, None if is_due else run.due, NO_LINE
    return (status, None, IN_LINE) if is_due else (status, run.due, LINES_UP)


async def find(connection: Connection, run_id: str, runner: int) -> StoredRun | None:
    """The run of that id, where there is one."""
    select = f"SELECT {COLUMNS} FROM runs WHERE run_id = %s"
    found = await stored(connection, await rows(connection, select, run_id), runner)
    return found[0] if found else None


async def with_keys(connection: Connection, keys: Sequence[int], runner: int) -> list[StoredRun]:
    """The runs that have these keys, in the order of the keys."""
    select = f"SELECT {COLUMNS} FROM runs WHERE key = ANY(%s)"
    kept = await stored(connection, await rows(connection, select, Bigints(keys)), runner)
    found = {run.key: run for run in kept}
    return [found[key] for key in keys]


async def stored(connection: Connection, found: Sequence[Row], runner: int) -> list[StoredRun]:
    """What is said of the runs that these rows are about."""
    waits: dict[int, list[Wait]] = {}
    if waiting := [row[0] for row in found if row[1] == "waiting"]:
        select = (
            "SELECT run, path, topic, until FROM waits WHERE run = ANY(%s) ORDER BY run, number"
        )
        for run, *wait in await rows(connection, select, Bigints(waiting)):
            waits.setdefault(run, []).append(Wait._make(wait))
    return [stored_run(row, waits.get(row[0], ()), runner) for row in found]


async def records(connection: Connection, keys: Sequence[int]) -> dict[int, list[Record]]:
    """The records of runs, each run's in the order they were written."""
    select = (
        "SELECT run, path, kind, digest, payload, data, seconds FROM records WHERE run = ANY(%s)"
        " ORDER BY run, number"
    )
    found = await rows(connection, select, Bigints(keys))
    return {key: list(map(Record._make, some)) for key, some in groupby(found, itemgetter(0))}


async def timeline(connection: Connection, key: int) -> list[tuple[Record, float]]:
    """A run's records, each with the time at which it was written."""
    select = (
        "SELECT run, path, kind, digest, payload, data, seconds, at FROM records WHERE run = %s"
        " ORDER BY number"
    )
    return [(Record._make(row[:-1]), row[-1]) for row in await rows(connection, select, key)]


_FINISH = """
    UPDATE runs SET status = ended.status, outcome = ended.outcome, failures = ended.failures,
        updated = ended.now, runner = NULL
    FROM unnest(%s::bigint[], %s::text[], %s::bytea[], %s::text[], %s::float8[])
        AS ended (key, status, outcome, failures, now)
    WHERE runs.key = ended.key AND runs.status = 'running' AND runs.runner = %s RETURNING runs.key
"""
_WAKE_THOSE_OF = f"""
    WITH news AS (
        SELECT 'run:' || run_id AS topic, updated AS now FROM runs
        WHERE key = ANY(%s) AND status IN ('completed', 'failed', 'cancelled')
    )
    UPDATE runs SET wakes = least(news.now, wakes) FROM (
        SELECT waits.run, min(news.now) AS now FROM news JOIN waits USING (topic) GROUP BY waits.run
    ) AS news WHERE key = news.run AND status = 'waiting' AND lane <> {IN_LINE}
"""


async def finish(
    connection: Connection,
    calls: Sequence[tuple[int, RunStatus, bytes, Sequence[str], float, int]],
) -> list[RefusedError | None]:
    """Keep how runs ended, wake those that wait for them, and release what they hold."""
    # Of several that end one run the first one does, and the others are refused.
    firsts = {call[0]: call for call in reversed(calls)}
    arguments = zip(*firsts.values(), strict=True)
    keys, statuses, outcomes, failures, times, (runner, *_) = arguments
    failed = Texts(json.dumps(list(paths)) for paths in failures)
    columns = (Bigints(keys), Texts(statuses), Blobs(outcomes), failed, Floats(times), runner)
    async with connection.pipeline():
        updated = await connection.execute(_FINISH.encode(), columns, binary=True)
        # Statements of their own: they see what was committed while the first one had to wait.
        await connection.execute(_WAKE_THOSE_OF.encode(), (Bigints(keys),))
        held = await connection.execute(
            b"SELECT kind, held.key, updated FROM ("
            b"SELECT kind, key, holder AS run FROM entities WHERE holder = ANY(%s)"
            b" UNION SELECT kind, key, run FROM turns WHERE run = ANY(%s)"
            b") AS held JOIN runs ON runs.key = run"
            b" WHERE status IN ('completed', 'failed', 'cancelled')",
            (Bigints(keys), Bigints(keys)),
            binary=True,
        )
    ended = {key for (key,) in await updated.fetchall()}
    if found := await held.fetchall():
        await _entities.free(connection, [(kind, key, now) for kind, key, now in found], [*ended])
    return [
        None if call[0] in ended and firsts[call[0]] is call else _refused(call[0])
        for call in calls
    ]


def _refused(key: int) -> RefusedError:
    refused = RefusedError()
    refused.__cause__ = not_executed(key)
    return refused


async def cancel(connection: Connection, run_id: str, now: float) -> bool:
    """Ask a run to stop, and wake it; whether there is one that has not ended."""
    # One that is to stop need not wait for room in its queue.
    update = (
        f"UPDATE runs SET is_cancelled = TRUE, lane = {NO_LINE},"
        " wakes = CASE status WHEN 'running' THEN NULL ELSE %s::float8 END"
        " WHERE run_id = %s AND status IN ('queued', 'running', 'waiting') RETURNING key"
    )
    return await first(connection, update, now, run_id) is not None


async def cancelled(connection: Connection, runner: int) -> list[str]:
    """The ids of the runs that a runner executes and that were asked to stop."""
    select = (
        "SELECT run_id FROM runs WHERE status = 'running' AND is_cancelled AND runner = %s"
        " ORDER BY key"
    )
    return [run_id for (run_id,) in await rows(connection, select, runner)]


async def progress(connection: Connection, key: int, payload: bytes) -> None:
    """Keep what a run says of its progress."""
    await rows(connection, "UPDATE runs SET progress = %s WHERE key = %s", payload, key)


async def prune(
    connection: Connection, before: float, statuses: Collection[RunStatus], limit: int
) -> int:
    """Remove ended runs that were last updated before a time; how many there were."""
    which = Texts(status for status in ENDED if status in statuses or not statuses)
    select = (
        "SELECT key FROM runs WHERE status IN ('completed', 'failed', 'cancelled')"
        " AND updated < %s AND status = ANY(%s) ORDER BY updated LIMIT %s FOR UPDATE SKIP LOCKED"
    )
    keys = [key for (key,) in await rows(connection, select, before, which, limit)]
    for table, column in _OF_A_RUN.items():
        await rows(connection, f"DELETE FROM {table} WHERE {column} = ANY(%s)", Bigints(keys))
    return len(keys)


_OF_A_RUN = {"records": "run", "waits": "run", "signals": "run", "events": "run", "runs": "key"}
