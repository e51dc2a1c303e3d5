"""Group commit: one connection commits together whatever has gathered during the last commit."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import psycopg
from psycopg import errors

from plait.durable._errors import JournalError
from plait.durable._measures import CommitMetrics
from plait.durable._postgres import _leases, _messages
from plait.durable._postgres._database import RefusedError, first, is_lost, rows

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from plait.durable._postgres._database import Connection, Database

T = TypeVar("T")

_TELL_SECONDS = 0.01
"""How often others are told at the most that something was written."""

_PAUSE_SECONDS = 0.01
"""How soon a batch is written again that failed for what is not its own fault."""

# By a transaction that need not be on disk: one that notifies commits alone in all the database.
_TELL = "SELECT pg_notify(%s, %s) FROM set_config('synchronous_commit', 'off', TRUE)"


@dataclass(frozen=True, eq=False)
class Operation:
    """What is done in one transaction for all that ask for it at the time.

    Attributes:
        run: Given the connection and the arguments of each call, returns the answer of each, or the
            `RefusedError` of one that wrote nothing.
        is_news: Whether another runner may wait for it.
    """

    run: Callable[[Connection, Sequence[Any]], Awaitable[Sequence[Any]]]
    is_news: bool = True


def one_by_one(function: Callable[..., Awaitable[Any]], *, is_news: bool = True) -> Operation:
    """An operation that is done for one call after the other."""

    async def run(connection: Connection, calls: Sequence[Any]) -> Sequence[Any]:
        answers: list[Any] = []
        for arguments in calls:
            try:
                answers.append(await function(connection, *arguments))
            except RefusedError as refused:
                answers.append(refused)
        return answers

    return Operation(run, is_news)


class _Item(NamedTuple):
    operation: Operation
    arguments: tuple[Any, ...]
    waiter: asyncio.Future[Any]


_Outcome: TypeAlias = "tuple[asyncio.Future[Any], Any, BaseException | None]"


class Writer:
    """Writes for one runner, in the order in which it is asked to.

    A batch that the server did not answer is written again once it is back. Records are known by
    their numbers, so that none is there twice; of any other transaction the server is asked first
    whether it was committed.

    Args:
        database: Where to.
        connection: What to begin with.
        runner: For whom.
        lease_seconds: How long its lease is.
        channel: Where others are told that something was written.
    """

    def __init__(
        self,
        database: Database,
        connection: Connection,
        runner: int,
        lease_seconds: float,
        channel: str,
    ) -> None:
        self._database = database
        self._connection = connection
        self.runner = runner
        self._lease_seconds = lease_seconds
        self._channel = channel
        self._append = Operation(self._append_all, is_news=False)
        self._items: list[_Item] = []
        self._wake = asyncio.Event()
        self._new_waiter = asyncio.get_running_loop().create_future
        self._is_last = self._has_news = False
        self._tell_at = 0.0
        self._metrics = CommitMetrics()
        self._task = asyncio.create_task(self._serve(), name="plait-journal")

    def append(self, record: Any, number: int) -> asyncio.Future[None]:
        """Hand in a record; awaiting the answer waits until it is on disk."""
        return self.submit(self._append, record, number)

    def submit(self, operation: Operation, *arguments: Any) -> asyncio.Future[Any]:
        """Hand in a call of an operation; the answer is what it says."""
        waiter = self._new_waiter()
        self._items.append(_Item(operation, arguments, waiter))
        self._wake.set()
        return waiter

    async def stop(self) -> None:
        """Commit what was handed in, and end."""
        self._is_last = True
        self._wake.set()
        await self._task

    async def _serve(self) -> None:
        try:
            while self._items or not self._is_last:
                await self._gathered()
                items, self._items = self._items, []
                if items:
                    began = time.perf_counter()
                    _settle(await self._commit(items))
                    self._metrics.committed(len(items), time.perf_counter() - began)
                    self._has_news |= any(item.operation.is_news for item in items)
                if self._has_news and (self._is_last or time.monotonic() >= self._tell_at):
                    await self._tell()
        finally:
            await self._connection.close()

    async def _gathered(self) -> None:
        """Wait until something was handed in, or others are to be told."""
        seconds = max(0.0, self._tell_at - time.monotonic()) if self._has_news else None
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
            self._wake.clear()

    async def _tell(self) -> None:
        self._has_news = False
        self._tell_at = time.monotonic() + _TELL_SECONDS
        # Where it is lost, those who listen are cut off as well, and look when they are back.
        with suppress(psycopg.Error):
            await rows(self._connection, _TELL, self._channel, str(self.runner))

    async def _commit(self, items: Sequence[_Item]) -> list[_Outcome]:
        give_up = time.monotonic() + self._database.outage_seconds
        while True:
            try:
                if self._connection.closed:
                    self._connection = await self._database.connect_again()
                return await self._write(items)
            except JournalError as error:
                return _failed(items, error)
            except Exception as error:  # noqa: BLE001 - handed to those who wait for these items
                again = await self._is_to_repeat(error)
                if again and time.monotonic() < give_up and not self._database.is_closing:
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                if again or len(items) == 1:
                    return _failed(items, self._database.explain(error))
                # One that cannot be written must not keep the others from it.
                return [outcome for item in items for outcome in await self._commit([item])]

    async def _is_to_repeat(self, error: Exception) -> bool:
        """Whether a batch failed for what is not its own fault; nothing of it is left."""
        if is_lost(self._connection, error):
            await self._connection.close()
            return True
        # Where it cannot be rolled back, the next batch finds the connection lost.
        with suppress(psycopg.Error):
            await self._connection.rollback()
        return isinstance(error, errors.DeadlockDetected | errors.SerializationFailure)

    async def _write(self, items: Sequence[_Item]) -> list[_Outcome]:
        if all(item.operation is self._append for item in items):
            # One statement, which is a transaction.
            await self._append_all(self._connection, [item.arguments for item in items])
            return [(item.waiter, None, None) for item in items]
        number = await _leases.begin(self._connection, self.runner, self._lease_seconds)
        groups: dict[Operation, list[_Item]] = {}
        for item in items:
            groups.setdefault(item.operation, []).append(item)
        outcomes: list[_Outcome] = []
        for operation, group in groups.items():
            answers = await operation.run(self._connection, [item.arguments for item in group])
            outcomes += map(_outcome, group, answers)
        try:
            await self._connection.execute("COMMIT")
        except psycopg.Error:
            if not await was_committed(self._database, number):
                # It is as if the connection had been lost before.
                raise
        return outcomes

    async def _append_all(self, connection: Connection, calls: Sequence[Any]) -> Sequence[None]:
        if not await _messages.append(connection, calls, self.runner):
            raise _leases.fenced(self._lease_seconds)
        return [None] * len(calls)


async def was_committed(database: Database, number: str) -> bool:
    """Whether a transaction was committed, of which only the server knows what became of it.

    Raises:
        JournalError: It could not be asked for too long.
    """
    while True:
        async with await database.connect_again() as connection:
            try:
                found = await first(connection, "SELECT pg_xact_status(%s::xid8)", number)
            except errors.InvalidParameterValue:
                return False  # another server has taken its place, and has not got so far
            except psycopg.OperationalError:
                continue  # lost again
        if found != ("in progress",):
            return found == ("committed",)
        await asyncio.sleep(_PAUSE_SECONDS)


def _outcome(item: _Item, answer: Any) -> _Outcome:
    if isinstance(answer, RefusedError):
        return item.waiter, None, answer.__cause__
    return item.waiter, answer, None


def _failed(items: Sequence[_Item], error: BaseException) -> list[_Outcome]:
    return [(item.waiter, None, error) for item in items]


def _settle(outcomes: Sequence[_Outcome]) -> None:
    for waiter, result, error in outcomes:
        if waiter.done():
            continue
        if error is None:
            waiter.set_result(result)
        else:
            waiter.set_exception(error)
            # Many are handed in that nobody waits for any more once one has failed.
            waiter.exception()
