"""Lists of runs: a page costs the same however many runs there are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

from plait.durable._rows import COLUMNS
from plait.durable._sqlite._runs import stored
from plait.durable._stored import RunQuery, RunStatus, StoredRun

if TYPE_CHECKING:
    import sqlite3

# The names of all workflows, each found by one step in the index.
_WORKFLOWS = """
RECURSIVE names (name) AS (
    SELECT min(workflow) FROM runs
    UNION ALL
    SELECT (SELECT min(workflow) FROM runs WHERE workflow > name) FROM names WHERE name IS NOT NULL
)
"""


def list_runs(query: RunQuery, runner: int, connection: sqlite3.Connection) -> list[StoredRun]:
    """Runs, the newest first."""
    clauses, values = _clauses(query)
    values |= {"limit": query.limit}
    where = " AND ".join(["TRUE", *clauses])
    newest = "ORDER BY key DESC LIMIT :limit"
    if (query.workflow is None and not query.statuses) or query.parent or query.queue:
        # The planner takes the index of the parents or queues, which has the keys in order.
        select = f"SELECT {COLUMNS} FROM runs WHERE {where} {newest}"
    else:
        # The newest of each workflow and status, and of these the newest.
        names = "names (name) AS (SELECT :workflow)" if query.workflow else _WORKFLOWS
        values |= {
            "workflow": query.workflow,
            "statuses": json.dumps(list(query.statuses or get_args(RunStatus))),
        }
        select = f"""
            WITH {names}
            SELECT {COLUMNS} FROM runs WHERE key IN (
                SELECT some.key FROM names JOIN json_each(:statuses) AS state
                JOIN runs AS some ON some.key IN (
                    SELECT key FROM runs
                    WHERE workflow = name AND status = state.value AND {where} {newest}
                )
            ) {newest}
        """
    return stored(connection.execute(select, values).fetchall(), runner, connection)


def unended_workflows(connection: sqlite3.Connection) -> list[str]:
    """The names of the workflows that have runs which have not ended."""
    select = f"""
        WITH {_WORKFLOWS}
        SELECT name FROM names WHERE name IS NOT NULL AND EXISTS (
            SELECT 1 FROM runs
            WHERE workflow = name AND status IN ('queued', 'running', 'waiting')
        ) ORDER BY name
    """
    return [name for (name,) in connection.execute(select)]


def _clauses(query: RunQuery) -> tuple[list[str], dict[str, Any]]:
    wanted: dict[str, str | float | None] = {
        "parent = :parent": query.parent,
        "queue = :queue": query.queue,
        "created >= :created_after": query.created_after,
        "created < :created_before": query.created_before,
        "key < :before": query.before,
    }
    clauses = [clause for clause, value in wanted.items() if value is not None]
    values: dict[str, Any] = {clause.rpartition(":")[2]: value for clause, value in wanted.items()}
    if query.parent or query.queue:
        if query.workflow is not None:
            clauses.append("+workflow = :workflow")
            values["workflow"] = query.workflow
        if query.statuses:
            clauses.append("+status IN (SELECT value FROM json_each(:statuses))")
            values["statuses"] = json.dumps(list(query.statuses))
    for number, (key, value) in enumerate(query.metadata.items()):
        clauses.append(
            "EXISTS (SELECT 1 FROM json_each(metadata) AS fact"
            f" WHERE fact.key = :key{number} AND {_is(value, number)})"
        )
        values |= {f"key{number}": key, f"value{number}": _plain(value)}
    return clauses, values


def _is(value: object, number: int) -> str:
    if value is None:
        return "fact.type = 'null'"
    if isinstance(value, (str, int, float)):
        return f"fact.atom = :value{number}"
    return f"fact.type IN ('array', 'object') AND fact.value = json(:value{number})"


def _plain(value: object) -> object:
    if value is None or isinstance(value, (str, int, float)):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
