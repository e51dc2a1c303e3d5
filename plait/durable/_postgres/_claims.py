"""Claims: which runs a runner is to execute next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait.durable._postgres import _entities, _leases, _runs
from plait.durable._postgres._arrays import Bigints, Texts
from plait.durable._postgres._database import rows
from plait.durable._postgres._schema import IN_LINE, LINES_UP, NO_LINE
from plait.durable._stored import Claimed, QueueLimits
from plait.durable._topics import needs_in

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from plait.durable._postgres._database import Connection

_AHEAD = -(2**62)
"""The turn of a run that has begun: before each that has not."""


_OFFERED = (
    " FROM runs WHERE key IN (SELECT run FROM waits WHERE topic = ANY(%s) AND topic <> '')"
    " AND status = 'waiting' AND workflow = ANY(%s)"
)


class Claim:
    """One claim, in one transaction.

    What another runner is just claiming is passed over. A queue with limits is counted and taken
    from by one runner at a time.

    Args:
        connection: Where the journal is.
        runner: Who asks.
        workflows: Which workflows it can execute.
        now: In seconds since the epoch.
        limit: How many runs at the most.
        has: The tags that the runner has.
        has_watched: Whether it may say of others that they are gone.
    """

    def __init__(
        self,
        connection: Connection,
        runner: int,
        workflows: Collection[str],
        now: float,
        limit: int,
        has: Collection[str],
        *,
        has_watched: bool,
    ) -> None:
        self._connection = connection
        self._runner = runner
        self._workflows = Texts(workflows)
        self._now = now
        self._room = limit
        self._has = frozenset(has)
        self._has_watched = has_watched
        self._offers: list[str] = []
        self._keys: list[int] = []
        self._next_due: float | None = None

    async def make(self, queues: Sequence[QueueLimits]) -> tuple[Claimed, int]:
        """Claim what is interrupted, then what is due, then what is first in its queue.

        Returns:
            What was claimed, and the epoch that its next records are of.
        """
        await _entities.pass_on(self._connection, self._now)
        await self._take_over()
        await self._line_up()
        self._offers = await self._topics_offered()
        await self._take_offered()
        await self._take_due()
        limits = {queue.name: queue for queue in queues}
        for name in await self._lines():
            await self._take_from(limits.get(name) or QueueLimits(name))
        epoch = await self._look_ahead()
        turns = await _entities.turns(self._connection, self._runner)
        if not self._keys:
            return Claimed([], self._next_due, turns), epoch
        # What woke them is what they look for again.
        keys = Bigints(self._keys)
        await rows(self._connection, "DELETE FROM waits WHERE run = ANY(%s)", keys)
        runs = await _runs.with_keys(self._connection, self._keys, self._runner)
        records = await _runs.records(self._connection, self._keys)
        found = [(run, records.get(run.key, [])) for run in runs]
        return Claimed(found, self._next_due, turns), epoch

    async def _take_over(self) -> None:
        gone = await _leases.bury(self._connection, self._runner, has_watched=self._has_watched)
        if not gone:
            return
        update = """
            UPDATE runs SET runner = %s WHERE key IN (
                SELECT key FROM runs WHERE status = 'running' AND runner = ANY(%s)
                AND workflow = ANY(%s) ORDER BY key LIMIT %s FOR UPDATE SKIP LOCKED
            ) RETURNING key
        """
        values = (self._runner, Bigints(gone), self._workflows, self._room)
        self._took(sorted(key for (key,) in await rows(self._connection, update, *values)))
        await _leases.forget(self._connection)
        if not self._room:
            self._due_at(self._now)

    async def _line_up(self) -> None:
        update = (
            f"UPDATE runs SET lane = {IN_LINE}, wakes = NULL WHERE key IN (SELECT key FROM runs"
            f" WHERE lane = {LINES_UP} AND wakes <= %s AND workflow = ANY(%s)"
            " FOR UPDATE SKIP LOCKED)"
        )
        await rows(self._connection, update, self._now, self._workflows)

    async def _take_due(self) -> None:
        # The first of each workflow, and of these the first.
        select = f"""
            SELECT found.key FROM unnest(%s::text[]) AS name CROSS JOIN LATERAL (
                SELECT key, wakes FROM runs
                WHERE workflow = name AND lane = {NO_LINE} AND wakes <= %s
                ORDER BY wakes, key LIMIT %s FOR UPDATE SKIP LOCKED
            ) AS found ORDER BY wakes, key LIMIT %s
        """
        values = (self._workflows, self._now, self._room, self._room)
        await self._begin([key for (key,) in await rows(self._connection, select, *values)])

    async def _topics_offered(self) -> list[str]:
        """The topics of what waits for a runner with tags, all of which this one has."""
        if not self._has:
            return []
        # ";" comes right after ":".
        select = """
            WITH RECURSIVE topics (topic) AS (
                SELECT min(topic) FROM waits
                WHERE topic >= 'needs:' AND topic < 'needs;' AND topic <> ''
                UNION ALL
                SELECT (
                    SELECT min(waits.topic) FROM waits WHERE waits.topic > topics.topic
                    AND waits.topic < 'needs;' AND waits.topic <> ''
                ) FROM topics WHERE topic IS NOT NULL
            )
            SELECT topic FROM topics WHERE topic IS NOT NULL
        """
        found = await rows(self._connection, select)
        return [topic for (topic,) in found if needs_in(topic) <= self._has]

    async def _take_offered(self) -> None:
        await self._begin(await self._offered(None, self._room))
        if not self._room and await self._offered(None, 1):
            self._due_at(self._now)

    async def _offered(self, queue: str | None, room: int) -> list[int]:
        """What waits for a runner with the tags of this one."""
        if not self._offers:
            return []
        select = (
            f"SELECT key {_OFFERED} AND queue IS NOT DISTINCT FROM %s"
            " ORDER BY key LIMIT %s FOR UPDATE SKIP LOCKED"
        )
        values = (Texts(self._offers), self._workflows, queue, room)
        return [key for (key,) in await rows(self._connection, select, *values)]

    async def _lines(self) -> list[str]:
        """The queues in which runs of these workflows stand in line, or are offered."""
        select = f"""
            WITH RECURSIVE lines (workflow, queue) AS (
                SELECT name, (
                    SELECT min(queue) FROM runs WHERE workflow = name AND lane = {IN_LINE}
                ) FROM unnest(%s::text[]) AS name
                UNION ALL
                SELECT lines.workflow, (
                    SELECT min(runs.queue) FROM runs WHERE runs.workflow = lines.workflow
                    AND lane = {IN_LINE} AND runs.queue > lines.queue
                ) FROM lines WHERE lines.queue IS NOT NULL
            )
            SELECT DISTINCT queue FROM lines WHERE queue IS NOT NULL ORDER BY queue
        """
        found = [name for (name,) in await rows(self._connection, select, self._workflows)]
        if self._offers:
            select = f"SELECT DISTINCT queue {_OFFERED} AND queue IS NOT NULL"
            values = (Texts(self._offers), self._workflows)
            offered = await rows(self._connection, select, *values)
            found = sorted({*found, *(name for (name,) in offered)})
        return found

    async def _take_from(self, queue: QueueLimits) -> None:
        room = self._room
        if queue.max_concurrent is not None or queue.rate is not None:
            lock = (
                "SELECT pg_advisory_xact_lock("
                "hashtextextended(current_schema() || '.queue:' || %s, 0))"
            )
            await rows(self._connection, lock, queue.name)
        if queue.max_concurrent is not None:
            select = "SELECT count(*) FROM runs WHERE status = 'running' AND queue = %s"
            ((busy,),) = await rows(self._connection, select, queue.name)
            room = min(room, queue.max_concurrent - busy)
        if room <= 0:
            if not self._room:
                self._due_at(self._now)
            return
        offered = await self._offered(queue.name, room)
        await self._begin(offered)
        room -= len(offered)
        select = f"""
            SELECT found.key, began FROM unnest(%s::text[]) AS name CROSS JOIN LATERAL (
                SELECT key, turn, began FROM runs
                WHERE workflow = name AND queue = %s AND lane = {IN_LINE}
                ORDER BY turn, key LIMIT %s FOR UPDATE SKIP LOCKED
            ) AS found ORDER BY turn, key LIMIT %s
        """
        values = (self._workflows, queue.name, room, room)
        found = await rows(self._connection, select, *values)
        again = [key for key, began in found if began is not None]
        new = [key for key, began in found if began is None]
        may_begin, free_at = await self._rate(queue)
        if len(new) > may_begin:
            self._due_at(free_at)
        await self._begin(again + new[:may_begin])
        if not self._room:
            self._due_at(self._now)

    async def _rate(self, queue: QueueLimits) -> tuple[int, float]:
        """How many of a queue's runs may begin, and from when on another one may."""
        if queue.rate is None:
            return self._room, self._now
        many, seconds = queue.rate
        select = (
            "SELECT began FROM runs WHERE queue = %s AND began > %s AND began <= %s"
            " ORDER BY began DESC LIMIT %s"
        )
        # The clocks of two runners may differ: what began a little later counts too.
        values = (queue.name, self._now - seconds, self._now + seconds, many)
        begun = [began for (began,) in await rows(self._connection, select, *values)]
        oldest = begun[-1] if begun else self._now
        return many - len(begun), oldest + seconds

    async def _begin(self, keys: list[int]) -> None:
        if not keys:
            return
        update = (
            "UPDATE runs SET status = 'running', runner = %s, updated = %s, wakes = NULL,"
            f" lane = {NO_LINE},"
            " began = CASE WHEN queue IS NOT NULL THEN coalesce(began, %s::float8) END,"
            f" turn = {_AHEAD} WHERE key = ANY(%s)"
        )
        values = (self._runner, self._now, self._now, Bigints(keys))
        await rows(self._connection, update, *values)
        self._took(keys)

    def _took(self, keys: list[int]) -> None:
        self._keys += keys
        self._room -= len(keys)

    def _due_at(self, when: float) -> None:
        self._next_due = when if self._next_due is None else min(when, self._next_due)

    async def _look_ahead(self) -> int:
        select = f"""
            SELECT nextval('epochs'), (
                SELECT min(found.wakes) FROM unnest(%s::text[]) AS name
                CROSS JOIN (VALUES ({NO_LINE}), ({LINES_UP})) AS lane (number)
                CROSS JOIN LATERAL (
                    SELECT min(wakes) AS wakes FROM runs
                    WHERE workflow = name AND lane = number AND wakes IS NOT NULL
                ) AS found
            )
        """
        ((epoch, wakes),) = await rows(self._connection, select, self._workflows)
        if wakes is not None:
            self._due_at(wakes)
        return int(epoch)
