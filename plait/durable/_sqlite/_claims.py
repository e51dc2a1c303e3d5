"""Claims: which runs a runner is to execute next."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from plait.durable._sqlite import _entities, _runs
from plait.durable._sqlite._schema import IN_LINE, LINES_UP, NO_LINE
from plait.durable._stored import Claimed, QueueLimits
from plait.durable._topics import needs_in

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Sequence

    from plait.durable._sqlite._leases import Lease

_AHEAD = -(2**62)
"""The turn of a run that has begun: before each that has not."""

_OFFERED = (
    "FROM json_each(?) AS offer JOIN waits ON waits.topic = offer.value AND waits.topic <> ''"
    " JOIN runs ON runs.key = waits.run"
    " WHERE status = 'waiting' AND workflow IN (SELECT value FROM json_each(?))"
)


class Claim:
    """One claim, in one transaction.

    Args:
        connection: Where the journal is.
        lease: The lease of the runner that asks.
        workflows: Which workflows it can execute.
        now: In seconds since the epoch.
        limit: How many runs at the most.
        has: The tags that the runner has.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        lease: Lease,
        workflows: Collection[str],
        now: float,
        limit: int,
        has: Collection[str],
    ) -> None:
        self._connection = connection
        self._lease = lease
        self._workflows = json.dumps(list(workflows))
        self._now = now
        self._room = limit
        self._offers = json.dumps(self._topics_for(has))
        self._keys: list[int] = []
        self._next_due: float | None = None

    def __call__(self, queues: Sequence[QueueLimits]) -> Claimed:
        """Claim what is interrupted, then what is due, then what is first in its queue."""
        _entities.pass_on(self._now, self._connection)
        self._take_over()
        self._line_up()
        self._take_offered()
        self._take_due()
        limits = {queue.name: queue for queue in queues}
        for name in self._lines():
            self._take_from(limits.get(name) or QueueLimits(name))
        self._look_ahead()
        # What woke them is what they look for again.
        delete = "DELETE FROM waits WHERE run IN (SELECT value FROM json_each(?))"
        self._connection.execute(delete, (json.dumps(self._keys),))
        runs = _runs.with_keys(self._keys, self._lease.runner, self._connection)
        records = _runs.records(self._keys, self._connection)
        turns = _entities.turns(self._lease.runner, self._connection)
        return Claimed([(run, records.get(run.key, [])) for run in runs], self._next_due, turns)

    def _take_over(self) -> None:
        gone = self._lease.bury(self._connection)
        if not gone:
            return
        update = (
            "UPDATE runs SET runner = ? WHERE key IN (SELECT key FROM runs"
            " WHERE status = 'running' AND runner IN (SELECT value FROM json_each(?))"
            " AND +workflow IN (SELECT value FROM json_each(?)) ORDER BY key LIMIT ?)"
            " RETURNING key"
        )
        values = (self._lease.runner, json.dumps(gone), self._workflows, self._room)
        keys = sorted(key for (key,) in self._connection.execute(update, values))
        self._took(keys)
        self._lease.forget(self._connection)
        if not self._room:
            self._due_at(self._now)

    def _line_up(self) -> None:
        update = (
            f"UPDATE runs SET lane = {IN_LINE}, wakes = NULL WHERE lane = {LINES_UP}"
            " AND wakes <= ? AND workflow IN (SELECT value FROM json_each(?))"
        )
        self._connection.execute(update, (self._now, self._workflows))

    def _take_due(self) -> None:
        # The first of each workflow, and of these the first.
        select = f"""
            SELECT key FROM runs WHERE key IN (
                SELECT some.key FROM json_each(:workflows) AS name
                JOIN runs AS some ON some.key IN (
                    SELECT key FROM runs
                    WHERE workflow = name.value AND lane = {NO_LINE} AND wakes <= :now
                    ORDER BY wakes LIMIT :room
                )
            ) ORDER BY wakes, key LIMIT :room
        """
        values = {"workflows": self._workflows, "now": self._now, "room": self._room}
        self._begin([key for (key,) in self._connection.execute(select, values)])

    def _topics_for(self, has: Collection[str]) -> list[str]:
        """The topics of what waits for a runner with tags, all of which this one has."""
        if not has:
            return []
        # ";" comes right after ":".
        found = self._connection.execute("""
            WITH RECURSIVE topics (topic) AS (
                SELECT min(topic) FROM waits WHERE topic >= 'needs:' AND topic < 'needs;'
                UNION ALL
                SELECT (
                    SELECT min(waits.topic) FROM waits
                    WHERE waits.topic > topics.topic AND waits.topic < 'needs;'
                ) FROM topics WHERE topic IS NOT NULL
            )
            SELECT topic FROM topics WHERE topic IS NOT NULL
        """)
        return [topic for (topic,) in found if needs_in(topic) <= frozenset(has)]

    def _take_offered(self) -> None:
        self._begin(self._offered(None, self._room))
        if not self._room and self._offered(None, 1):
            self._due_at(self._now)

    def _offered(self, queue: str | None, room: int) -> list[int]:
        """What waits for a runner with the tags of this one."""
        if self._offers == "[]":
            return []
        select = f"SELECT DISTINCT runs.key {_OFFERED} AND queue IS ? ORDER BY runs.key LIMIT ?"
        values = (self._offers, self._workflows, queue, room)
        return [key for (key,) in self._connection.execute(select, values)]

    def _lines(self) -> list[str]:
        """The queues in which runs of these workflows stand in line, or are offered."""
        select = f"""
            WITH RECURSIVE lines (workflow, queue) AS (
                SELECT name.value, (
                    SELECT min(queue) FROM runs WHERE workflow = name.value AND lane = {IN_LINE}
                ) FROM json_each(?) AS name
                UNION ALL
                SELECT lines.workflow, (
                    SELECT min(runs.queue) FROM runs WHERE runs.workflow = lines.workflow
                    AND lane = {IN_LINE} AND runs.queue > lines.queue
                ) FROM lines WHERE lines.queue IS NOT NULL
            )
            SELECT DISTINCT queue FROM lines WHERE queue IS NOT NULL
        """
        found = [name for (name,) in self._connection.execute(select, (self._workflows,))]
        if self._offers != "[]":
            select = f"SELECT DISTINCT queue {_OFFERED} AND queue IS NOT NULL"
            offered = self._connection.execute(select, (self._offers, self._workflows))
            found = sorted({*found, *(name for (name,) in offered)})
        return found

    def _take_from(self, queue: QueueLimits) -> None:
        room = self._room
        if queue.max_concurrent is not None:
            select = "SELECT count(*) FROM runs WHERE status = 'running' AND queue = ?"
            (busy,) = self._connection.execute(select, (queue.name,)).fetchone()
            room = min(room, queue.max_concurrent - busy)
        if room <= 0:
            if not self._room:
                self._due_at(self._now)
            return
        offered = self._offered(queue.name, room)
        self._begin(offered)
        room -= len(offered)
        select = f"""
            SELECT key, began FROM runs WHERE key IN (
                SELECT some.key FROM json_each(:workflows) AS name
                JOIN runs AS some ON some.key IN (
                    SELECT key FROM runs
                    WHERE workflow = name.value AND queue = :queue AND lane = {IN_LINE}
                    ORDER BY turn, key LIMIT :room
                )
            ) ORDER BY turn, key LIMIT :room
        """
        values = {"workflows": self._workflows, "queue": queue.name, "room": room}
        found = self._connection.execute(select, values).fetchall()
        again = [key for key, began in found if began is not None]
        new = [key for key, began in found if began is None]
        may_begin, free_at = self._rate(queue)
        if len(new) > may_begin:
            self._due_at(free_at)
        self._begin(again + new[:may_begin])
        if not self._room:
            self._due_at(self._now)

    def _rate(self, queue: QueueLimits) -> tuple[int, float]:
        """How many of a queue's runs may begin, and from when on another one may."""
        if queue.rate is None:
            return self._room, self._now
        many, seconds = queue.rate
        select = (
            "SELECT began FROM runs WHERE queue = ? AND began > ? AND began <= ?"
            " ORDER BY began DESC LIMIT ?"
        )
        # The clocks of two runners may differ: what began a little later counts too.
        values = (queue.name, self._now - seconds, self._now + seconds, many)
        begun = [began for (began,) in self._connection.execute(select, values)]
        oldest = begun[-1] if begun else self._now
        return many - len(begun), oldest + seconds

    def _begin(self, keys: list[int]) -> None:
        if not keys:
            return
        update = (
            "UPDATE runs SET status = 'running', runner = ?1, updated = ?2, wakes = NULL,"
            f" lane = {NO_LINE}, began = CASE WHEN queue IS NOT NULL THEN coalesce(began, ?2) END,"
            f" turn = {_AHEAD} WHERE key IN (SELECT value FROM json_each(?3))"
        )
        self._connection.execute(update, (self._lease.runner, self._now, json.dumps(keys)))
        self._took(keys)

    def _took(self, keys: list[int]) -> None:
        self._keys += keys
        self._room -= len(keys)

    def _due_at(self, when: float) -> None:
        self._next_due = when if self._next_due is None else min(when, self._next_due)

    def _look_ahead(self) -> None:
        select = f"""
            SELECT min(wakes) FROM (
                SELECT (
                    SELECT min(wakes) FROM runs WHERE workflow = name.value AND lane = lane.value
                    AND wakes IS NOT NULL
                ) AS wakes
                FROM json_each(?) AS name JOIN json_each('[{NO_LINE}, {LINES_UP}]') AS lane
            )
        """
        (wakes,) = self._connection.execute(select, (self._workflows,)).fetchone()
        if wakes is not None:
            self._due_at(wakes)
