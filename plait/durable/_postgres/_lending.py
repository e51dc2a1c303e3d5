"""Lending a connection to a step, so that its effect is committed with its record."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors
from psycopg.rows import tuple_row

from plait.durable._errors import JournalError
from plait.durable._postgres import _leases, _messages
from plait.durable._postgres._database import Pool, is_lost
from plait.durable._postgres._writer import was_committed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from plait.durable._postgres._database import Connection, Database
    from plait.durable._stored import Record


class _Lent(psycopg.Connection[Any]):
    """The connection as a plain function has it; whoever lent it closes it."""

    def __del__(self, _warn: Any = None, /) -> None:
        pass


class _LostError(Exception):
    """The connection was lost, and nothing was committed."""


class Lender:
    """Lends connections to steps, each for one transaction.

    A coroutine function gets a `psycopg.AsyncConnection`; a plain one is called in a thread and
    gets a `psycopg.Connection`. A savepoint is below both: by it psycopg keeps them from
    committing, and by it is found out where one did so in SQL.

    Args:
        database: Where to.
        runner: Whose records are kept.
        lease_seconds: How long its lease is.
        connections: How many are lent at once.
    """

    def __init__(
        self, database: Database, runner: int, lease_seconds: float, connections: int
    ) -> None:
        self._database = database
        self.runner = runner
        self._lease_seconds = lease_seconds
        self._pool = Pool(database, connections)
        self._tasks: set[asyncio.Task[Any]] = set()

    def transact(
        self, work: Callable[[Any], Any], record: Callable[[Any], Record], number: int
    ) -> Awaitable[Any]:
        """Call `work` with a connection, and keep its record with what it did.

        Args:
            work: What to call; again where the connection was lost before all was committed.
            record: Given its result, what to keep.
            number: The record's number.
        """
        task = asyncio.create_task(self._transact(work, record, number))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A thread cannot be stopped: what a plain function does comes to its end.
        return task if inspect.iscoroutinefunction(work) else asyncio.shield(task)

    async def close(self) -> None:
        """Wait for what is under way, and close the connections."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pool.close()

    async def _transact(
        self, work: Callable[[Any], Any], record: Callable[[Any], Record], number: int
    ) -> Any:
        give_up = time.monotonic() + self._database.outage_seconds
        while True:
            try:
                async with self._pool.connection() as connection:
                    return await self._once(connection, work, record, number)
            except _LostError as lost:
                cause = lost.__cause__
                assert isinstance(cause, Exception)
                if time.monotonic() >= give_up:
                    raise self._database.explain(cause) from cause

    async def _once(
        self,
        connection: Connection,
        work: Callable[[Any], Any],
        record: Callable[[Any], Record],
        number: int,
    ) -> Any:
        try:
            async with connection.pipeline():
                # Whatever the step before it has set.
                await connection.execute("RESET ALL")
                await connection.execute("BEGIN")
                cursor = await connection.execute("SELECT pg_current_xact_id()::text")
            ((transaction,),) = await cursor.fetchall()
        except psycopg.Error as error:
            raise await self._of_the_journal(connection, error) from error
        try:
            result = await _call(work, connection)
            kept = record(result)
        except Exception as error:
            # One of the step's own may be of another connection.
            if connection.broken or isinstance(error, errors.AdminShutdown):
                await connection.close()
                raise _LostError from error
            raise
        try:
            await self._keep(connection, kept, number)
        except psycopg.Error as error:
            raise await self._of_the_journal(connection, error) from error
        try:
            await connection.execute("COMMIT")
        except psycopg.Error as error:
            if not is_lost(connection, error):
                raise  # as that of a constraint which is deferred
            await connection.close()
            if not await was_committed(self._database, transaction):
                raise _LostError from error
        return result

    async def _of_the_journal(self, connection: Connection, error: psycopg.Error) -> Exception:
        """What becomes of an error that is not the step's own."""
        if not is_lost(connection, error):
            return self._database.explain(error)
        await connection.close()
        return _LostError()

    async def _keep(self, connection: Connection, record: Record, number: int) -> None:
        await self._database.use_schema(connection)
        await _leases.limit_silence(connection, self._lease_seconds)
        if not await _messages.append(connection, [(record, number)], self.runner):
            raise _leases.fenced(self._lease_seconds)


async def _call(work: Callable[[Any], Any], connection: Connection) -> Any:
    try:
        if not inspect.iscoroutinefunction(work):
            return await asyncio.to_thread(_call_plain, work, connection)
        try:
            async with connection.transaction():
                return await work(connection)
        finally:
            connection.row_factory = tuple_row
    except errors.NoActiveSqlTransaction as error:
        raise _ended() from error
    except errors.InvalidSavepointSpecification as error:
        if "_pg3_" not in str(error):
            raise
        raise _ended() from error


def _call_plain(work: Callable[[Any], Any], connection: Connection) -> Any:
    lent = _Lent(connection.pgconn)
    lent.prepare_threshold = None  # the names of prepared statements are those of the other object
    try:
        with lent.transaction():
            return work(lent)
    except StopIteration as error:
        msg = "a transaction raised StopIteration"
        raise RuntimeError(msg) from error


def _ended() -> JournalError:
    return JournalError(
        "a step that has the journal's own connection ended its transaction, which the journal does"
    )
