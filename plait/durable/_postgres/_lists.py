"""Lists of runs: a page costs the same however many runs there are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, get_args

from plait.durable._postgres._database import rows
from plait.durable._postgres._runs import stored
from plait.durable._rows import COLUMNS
from plait.durable._stored import RunQuery, RunStatus, StoredRun

if TYPE_CHECKING:
    from plait.durable._postgres._database import Connection

# The names of all workflows, each found by one step in the index.
_WORKFLOWS = """
    SELECT min(workflow) FROM runs
    UNION ALL
    SELECT (SELECT min(workflow) FROM runs WHERE workflow > name) FROM names WHERE name IS NOT NULL
"""


async def list_runs(connection: Connection, query: RunQuery, runner: int) -> list[StoredRun]:
    """Runs, the newest first."""
    where, values = _clauses(query)
    newest = "ORDER BY key DESC LIMIT %s"
    if (query.workflow is None and not query.statuses) or query.parent or query.queue:
        if query.workflow is not None:
            where += " AND workflow = %s"
            values.append(query.workflow)
        if query.statuses:
            where += " AND status = ANY(%s)"
            values.append(list(query.statuses))
        select = f"SELECT {COLUMNS} FROM runs WHERE {where} {newest}"
        values.append(query.limit)
    else:
        # The newest of each workflow and status, and of these the newest.
        names = _WORKFLOWS if query.workflow is None else "SELECT %s::text"
        given = [] if query.workflow is None else [query.workflow]
        select = f"""
            WITH RECURSIVE names (name) AS ({names})
            SELECT found.* FROM names CROSS JOIN unnest(%s::text[]) AS state CROSS JOIN LATERAL (
                SELECT {COLUMNS} FROM runs
                WHERE workflow = name AND status = state AND {where} {newest}
            ) AS found {newest}
        """
        statuses = list(query.statuses or get_args(RunStatus))
        values = [*given, statuses, *values, query.limit, query.limit]
    return await stored(connection, await rows(connection, select, *values), runner)


async def unended_workflows(connection: Connection) -> list[str]:
    """The names of the workflows that have runs which have not ended."""
    select = f"""
        WITH RECURSIVE names (name) AS ({_WORKFLOWS})
        SELECT name FROM names WHERE name IS NOT NULL AND EXISTS (
            SELECT 1 FROM runs
            WHERE workflow = name AND status IN ('queued', 'running', 'waiting')
        ) ORDER BY name
    """
    return [name for (name,) in await rows(connection, select)]


async def payloads(connection: Connection, start: bytes) -> set[bytes]:
    """All payloads that start so, as they are at one moment."""
    select = " UNION ALL ".join(
        f"SELECT {column} FROM {table} WHERE substring({column}, 1, %s) = %s"
        for table, column in _PAYLOADS
    )
    found = await rows(connection, select, *[len(start), start] * len(_PAYLOADS))
    return {payload for (payload,) in found}


_PAYLOADS = (
    ("entities", "state"),
    ("events", "payload"),
    ("records", "data"),
    ("records", "payload"),
    ("runs", "input"),
    ("runs", "outcome"),
    ("signals", "payload"),
)


def _clauses(query: RunQuery) -> tuple[str, list[object]]:
    wanted = {
        "parent = %s": query.parent,
        "queue = %s": query.queue,
        "created >= %s": query.created_after,
        "created < %s": query.created_before,
        "key < %s": query.before,
    }
    given = {clause: value for clause, value in wanted.items() if value is not None}
    clauses, values = ["TRUE", *given], list[object](given.values())
    for key, value in query.metadata.items():
        # PostgreSQL has no zero character in its jsonb: what has one there equals nothing.
        clauses.append(
            "CASE WHEN strpos(metadata, '\\u0000') = 0 THEN metadata::jsonb -> %s = %s::jsonb END"
        )
        values += [key, json.dumps(value)]
    return " AND ".join(clauses), values
