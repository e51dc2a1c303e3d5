"""What an open journal consists of: a writer, a listener, a pool to read and one to lend."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg

from plait.durable._errors import JournalError, LeaseLostError
from plait.durable._postgres import (
    _again,
    _entities,
    _leases,
    _lists,
    _messages,
    _runs,
    _schema,
    _waits,
)
from plait.durable._postgres._claims import Claim
from plait.durable._postgres._database import Pool, is_lost
from plait.durable._postgres._lending import Lender
from plait.durable._postgres._listener import Listener, listen
from plait.durable._postgres._writer import Operation, Writer, one_by_one

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from plait.durable._postgres._database import Connection, Database
    from plait.durable._stored import Claimed, QueueLimits


async def _claim(
    connection: Connection,
    runner: int,
    workflows: Collection[str],
    queues: Sequence[QueueLimits],
    now: float,
    limit: int,
    has: Collection[str],
    has_watched: bool,
) -> tuple[Claimed, int]:
    claim = Claim(connection, runner, workflows, now, limit, has, has_watched=has_watched)
    return await claim.make(queues)


async def _renew(connection: Connection, runner: int) -> None:
    await _leases.renew(connection, runner)


_WRITES = {
    "acquire": one_by_one(_entities.acquire, is_news=False),
    "cancel": one_by_one(_runs.cancel),
    "claim": one_by_one(_claim, is_news=False),
    "create": Operation(_runs.create),
    "finish": Operation(_runs.finish),
    "fold": one_by_one(_messages.fold, is_news=False),
    "fork": one_by_one(_again.fork),
    "give_back": one_by_one(_leases.give_back),
    "progress": one_by_one(_runs.progress),
    "prune": one_by_one(_runs.prune, is_news=False),
    "receive": one_by_one(_messages.receive, is_news=False),
    "release": one_by_one(_entities.release),
    "renew": one_by_one(_renew, is_news=False),
    "reopen": one_by_one(_again.reopen),
    "send": one_by_one(_messages.send),
    "set_event": one_by_one(_messages.set_event),
    "set_tick": one_by_one(_messages.set_tick, is_news=False),
    "suspend": one_by_one(_waits.suspend),
    "withdraw": one_by_one(_entities.withdraw),
}

_READS: dict[str, Callable[..., Awaitable[Any]]] = {
    "cancelled": _runs.cancelled,
    "event": _messages.event,
    "find": _runs.find,
    "last_tick": _messages.last_tick,
    "list": _lists.list_runs,
    "payloads": _lists.payloads,
    "records": _runs.records,
    "timeline": _runs.timeline,
    "workflows": _lists.unended_workflows,
}


class Session:
    """An open journal of one runner.

    Args:
        database: Where it is.
        lease_seconds: How long the runner's lease is.
        connections: How many connections read, and how many are lent.
    """

    runner: int
    writer: Writer
    listener: Listener
    lender: Lender

    def __init__(self, database: Database, lease_seconds: float, connections: int) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._connections = connections
        self._pool = Pool(database, connections)

    async def open(self) -> int:
        """Connect, and enter a runner; the epoch that its first records are of."""
        database, seconds = self._database, self._lease_seconds
        database.is_closing = False
        channel = f"plait.{database.schema}"
        writing = await database.connect()
        try:
            await _schema.prepare(writing, database.schema, database.name)
            lease_until = _leases.now() + seconds
            self.runner, epoch = await _leases.take(writing, seconds)
            listening = await database.connect()
            await listen(listening, channel)
        except BaseException:
            await writing.close()
            raise
        self.listener = Listener(database, listening, self.runner, seconds, lease_until, channel)
        self.writer = Writer(database, writing, self.runner, seconds, channel)
        self.lender = Lender(database, self.runner, seconds, self._connections)
        return epoch

    async def close(self) -> None:
        """Write what was handed in, and give the lease back."""
        self._database.is_closing = True
        await self.listener.stop()
        await self.lender.close()
        # Where the lease cannot be given back, it ends by itself.
        with suppress(JournalError):
            await self.write("give_back", self.runner)
        await self.writer.stop()
        await self._pool.close()

    async def renew(self) -> int | None:
        """Enter another runner where this one was taken over from; the epoch of its records."""
        # What was handed in before is refused first.
        with suppress(LeaseLostError):
            await self.confirm()
            return None
        asked_at = _leases.now()
        async with self._pool.connection() as connection:
            self.runner, epoch = await _leases.take(connection, self._lease_seconds)
        for part in (self.listener, self.writer, self.lender):
            part.runner = self.runner
        self.listener.lease_until = asked_at + self._lease_seconds
        return epoch

    async def confirm(self) -> None:
        """Renew the lease.

        Raises:
            LeaseLostError: Another runner has taken over.
        """
        asked_at = _leases.now()
        await self.write("renew", self.runner)
        self.listener.lease_until = asked_at + self._lease_seconds

    def write(self, operation: str, *arguments: Any) -> asyncio.Future[Any]:
        """Have an operation done in the next transaction; the answer is what it says."""
        return self.writer.submit(_WRITES[operation], *arguments)

    async def read(self, operation: str, *arguments: Any) -> Any:
        """What a query finds; asked again where the connection was lost."""
        give_up = time.monotonic() + self._database.outage_seconds
        while True:
            async with self._pool.connection() as connection:
                try:
                    return await _READS[operation](connection, *arguments)
                except psycopg.Error as error:
                    if not is_lost(connection, error) or time.monotonic() >= give_up:
                        raise self._database.explain(error) from error
                    await connection.close()
