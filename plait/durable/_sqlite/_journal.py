"""The journal itself: what is asked of it goes to the thread that has the connection."""

from __future__ import annotations

import builtins
import time
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from plait.durable._errors import JournalError, LeaseLostError
from plait.durable._sqlite import (
    _again,
    _entities,
    _lists,
    _messages,
    _payloads,
    _runs,
    _schema,
    _ticks,
    _waits,
)
from plait.durable._sqlite._claims import Claim
from plait.durable._sqlite._errors import explain, unusable
from plait.durable._sqlite._leases import Lease
from plait.durable._sqlite._lending import transact
from plait.durable._sqlite._writer import GroupCommitter, Operation, Uses
from plait.durable._stored import NewRun, Record, RunQuery, RunStatus, StoredRun

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from plait.durable._sqlite._writer import RefusedError
    from plait.durable._stored import Claimed, QueueLimits, Wait
    from plait.durable._turns import Turn

T = TypeVar("T")
Asked = TypeVar("Asked")

_POLL_SECONDS = 0.1
"""How often it is looked for what others wrote: one read in shared memory, some microseconds."""

_APPEND = Operation(_messages.append)


class SqliteJournal:
    """A journal in an SQLite file.

    Processes on one machine may share it. A runner shows that it lives by a lease that it renews;
    the runs of one whose process has ended, or whose lease is over, may be taken over.

    Args:
        path: The file; made where there is none.
        lease_seconds: How long a runner that does not renew its lease is taken to be alive.
        lock_seconds: How long to wait for another process's transaction to end.

    Example:
        >>> from plait.durable import DurableRunner, SqliteJournal
        >>> runner = DurableRunner(SqliteJournal("runs.db", lease_seconds=10))
    """

    def __init__(
        self, path: str | Path, *, lease_seconds: float = 30, lock_seconds: float = 30
    ) -> None:
        self._path = Path(path)
        self._lease_seconds = lease_seconds
        self._lock_seconds = lock_seconds
        self._lease = Lease(self._path, lease_seconds)
        self._seen = 0
        self._is_renewed = False
        self._committer: GroupCommitter | None = None
        self._create = self._operation(_runs.create)
        self._finish = self._operation(_runs.finish)

    async def open(self) -> None:
        """Open the file and take a lease."""
        committer = GroupCommitter(
            self._connect,
            guard=self._check,
            beat=self._lease.renew,
            beat_seconds=self._lease_seconds / 3,
            explain=partial(explain, self._path),
        )
        try:
            await committer.start()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await committer.stop()
            raise
        self._committer = committer

    async def close(self) -> None:
        """Write what was handed in, and give the lease back."""
        writer, self._committer = self._writer, None
        # Where the lease cannot be given back, it ends by itself.
        with suppress(JournalError):
            await writer.submit(self._lease.give_back)
        await writer.stop()

    async def renew(self) -> None:
        """Take a new lease where another runner has taken over."""
        # What was handed in before is refused first.
        with suppress(LeaseLostError):
            await self._writer.submit(lambda _: None)
            return
        self._is_renewed = True
        await self._writer.submit(lambda _: None)

    async def changed(self, timeout: float) -> bool:
        """Wait until another runner may have written something; False after `timeout` seconds."""
        give_up = time.monotonic() + timeout
        while not await self._writer.submit(self._has_changed, Uses.READS):
            left = give_up - time.monotonic()
            if left <= 0:
                return False
            await anyio.sleep(min(_POLL_SECONDS, left))
        return True

    def confirm(self) -> Awaitable[None] | None:
        """What to await before something is executed; None while the lease is known to last."""
        if time.monotonic() < self._lease.until:
            return None
        return self._writer.submit(self._lease.renew)

    def append(self, record: Record) -> Awaitable[None]:
        """Hand in a record; awaiting the answer waits until it is on disk."""
        # As `_writer` does it, without a call: every step comes here.
        return (self._committer or self._writer).hand_in(_APPEND, record)

    def fold(self, record: Record) -> Awaitable[None]:
        """Hand in a record that stands for all that lies below its path, which is removed."""
        return self._writer.submit(partial(_messages.fold, record), Uses.ROWS)

    def transact(self, work: Callable[[Any], T], record: Callable[[T], Record]) -> Awaitable[T]:
        """Call `work` with the storage's own connection, and keep its record with what it did.

        It is called in the thread that writes the journal, which waits for it; it is called again
        where the transaction has to be repeated. It may make tables and use its own, but neither
        end the transaction nor touch the journal's.
        """
        context = copy_context()

        def run(connection: sqlite3.Connection) -> T:
            return context.run(transact, work, record, _messages.insert, connection)

        return self._writer.submit(run, Uses.ROWS)

    async def create(self, runs: Sequence[NewRun]) -> builtins.list[tuple[StoredRun, bool]]:
        """Keep new runs, or find those that have their ids; says of each whether it is new."""
        return await self._writer.hand_in(self._create, runs)

    async def claim(
        self,
        workflows: Collection[str],
        queues: Sequence[QueueLimits],
        now: float,
        limit: int,
        has: Collection[str] = (),
    ) -> Claimed:
        """Take over interrupted runs of these workflows, and runs that are due."""

        def claim(connection: sqlite3.Connection) -> Claimed:
            return Claim(connection, self._lease, workflows, now, limit, has)(queues)

        return await self._writer.submit(claim, Uses.ROWS)

    async def suspend(self, key: int, waits: Sequence[Wait], now: float) -> None:
        """Let a run leave memory until one of its waits ends; at once where one has already."""
        await self._writer.submit(self._as_runner(_waits.suspend, key, waits, now))

    async def finish(
        self, key: int, status: RunStatus, outcome: bytes, failures: Sequence[str], now: float
    ) -> None:
        """Keep how a run ended, wake those that wait for it, and release what it holds."""
        await self._writer.hand_in(self._finish, (key, status, outcome, failures, now))

    async def reopen(self, key: int, now: float) -> bool:
        """Claim a failed or cancelled run, without its last failures; whether it was one."""
        work = self._as_runner(_again.reopen, key, now)
        return await self._writer.submit(work, Uses.ROWS)

    async def cancel(self, run_id: str, now: float) -> bool:
        """Ask a run to stop, and wake it; whether there is one that has not ended."""
        return await self._writer.submit(partial(_runs.cancel, run_id, now))

    async def cancelled(self) -> builtins.list[str]:
        """The ids of the runs that this runner executes and that were asked to stop."""
        return await self._writer.submit(self._as_runner(_runs.cancelled), Uses.READS)

    async def progress(self, key: int, payload: bytes) -> None:
        """Keep what a run says of its progress, in place of what it said before."""
        await self._writer.submit(partial(_runs.progress, key, payload))

    async def records(self, key: int) -> builtins.list[Record]:
        """A run's records, in the order they were written."""
        found = await self._writer.submit(partial(_runs.records, [key]), Uses.READS)
        return found.get(key, [])

    async def timeline(self, key: int) -> builtins.list[tuple[Record, float]]:
        """A run's records, each with the time at which it was written."""
        return await self._writer.submit(partial(_runs.timeline, key), Uses.READS)

    async def find(self, run_id: str) -> StoredRun | None:
        """The run of that id, where there is one."""
        work = self._as_runner(_runs.find, run_id)
        return await self._writer.submit(work, Uses.READS)

    async def list(self, query: RunQuery) -> builtins.list[StoredRun]:
        """Runs, the newest first."""
        work = self._as_runner(_lists.list_runs, query)
        return await self._writer.submit(work, Uses.READS)

    async def workflows(self) -> builtins.list[str]:
        """The names of the workflows that have runs which have not ended, sorted."""
        return await self._writer.submit(_lists.unended_workflows, Uses.READS)

    async def payloads(self, start: bytes) -> set[bytes]:
        """All payloads that start so; looked for a part at a time, as others wait meanwhile."""
        all_found: set[bytes] = set()
        for table, column in _payloads.COLUMNS:
            after: int | None = 0
            while after is not None:
                work = partial(_payloads.page, table, column, start, after)
                found, after = await self._writer.submit(work, Uses.READS)
                all_found.update(found)
        return all_found

    async def send(
        self, run_id: str, name: str, payload: bytes, signal_id: str | None, now: float
    ) -> RunStatus | None:
        """Keep a signal for a run, once for an id, and wake the run where it waits for it."""
        work = partial(_messages.send, run_id, name, payload, signal_id, now)
        return await self._writer.submit(work)

    async def receive(self, key: int, name: str, path: str) -> bytes | None:
        """Take a run's oldest signal of a name, and keep it as the VALUE record at `path`."""
        return await self._writer.submit(partial(_messages.receive, key, name, path), Uses.ROWS)

    async def set_event(self, record: Record, name: str, now: float) -> None:
        """Keep a record, and its payload as the run's event of a name; wake those that wait."""
        await self._writer.submit(partial(_messages.set_event, record, name, now), Uses.ROWS)

    async def event(self, run_id: str, name: str) -> bytes | None:
        """The value of a run's event, where it has been set."""
        return await self._writer.submit(partial(_messages.event, run_id, name), Uses.READS)

    async def acquire(self, kind: str, key: str, record: Record, now: float) -> tuple[bytes] | None:
        """Let a run have an entity, unless others come first; then it stands in line."""
        work = partial(_entities.acquire, kind, key, record, now)
        return await self._writer.submit(work, Uses.ROWS)

    async def release(
        self, kind: str, key: str, state: bytes | None, record: Record, now: float
    ) -> Turn | None:
        """Let go of an entity, with its new state unless that is None; who is next."""
        work = partial(_entities.release, kind, key, state, record, now)
        return await self._writer.submit(work, Uses.ROWS)

    async def withdraw(self, kind: str, key: str, turn: Turn, now: float) -> Turn | None:
        """Leave the line for an entity, or let go of it unchanged; who is next."""
        return await self._writer.submit(partial(_entities.withdraw, kind, key, turn, now))

    async def fork(self, key: int, new: NewRun, before: str | None) -> tuple[StoredRun, bool]:
        """Keep a new run with a copy of the records of another, as `create` does."""
        work = self._as_runner(_again.fork, key, new, before)
        return await self._writer.submit(work, Uses.ROWS)

    async def prune(self, before: float, statuses: Collection[RunStatus], limit: int) -> int:
        """Remove ended runs that were last updated before a time; how many there were."""
        work = partial(_runs.prune, before, statuses, limit)
        return await self._writer.submit(work, Uses.ROWS)

    async def last_tick(self, schedule: str) -> float | None:
        """Up to when a schedule's runs have been started, in seconds since the epoch."""
        return await self._writer.submit(partial(_ticks.last, schedule), Uses.READS)

    async def set_tick(self, schedule: str, at: float) -> None:
        """Keep up to when a schedule's runs have been started; never less than is kept."""
        await self._writer.submit(partial(_ticks.keep, schedule, at))

    @property
    def _writer(self) -> GroupCommitter:
        if self._committer is None:
            msg = f"the journal {self._path} is not open"
            raise JournalError(msg)
        return self._committer

    def _as_runner(self, work: Callable[..., T], *given: Any) -> Callable[[sqlite3.Connection], T]:
        """A function in a transaction that is told which runner this is by then."""
        return lambda connection: work(*given, self._lease.runner, connection)

    def _operation(
        self,
        work: Callable[[Sequence[Asked], int, sqlite3.Connection], Sequence[T | RefusedError]],
    ) -> Operation[Asked, T]:
        """An operation that is told which runner this is by then."""
        return Operation(lambda calls, connection: work(calls, self._lease.runner, connection))

    def _connect(self) -> sqlite3.Connection:
        connection = _schema.connect(self._path, self._lock_seconds)
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._lease.take(connection)
            connection.execute("COMMIT")
            self._has_changed(connection)
            self._opened = self._file()
        except Exception as error:
            connection.close()
            raise unusable(self._path, error) from error
        return connection

    def _check(self, connection: sqlite3.Connection) -> None:
        """Refuse a transaction that would be lost, or be that of a runner that has gone."""
        if self._file() != self._opened:
            msg = (
                f"the journal {self._path} was removed or replaced while it was open: what is "
                "written would be lost; put it back, then start its runners anew"
            )
            raise JournalError(msg)
        if self._is_renewed:
            self._is_renewed = False
            self._lease.take(connection)
        self._lease.check(connection)

    def _file(self) -> tuple[int, int] | None:
        """Which file there is; None for none, and for a journal in memory."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _has_changed(self, connection: sqlite3.Connection) -> bool:
        """Whether another connection has committed since this was last asked."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        before, self._seen = self._seen, version
        return before != self._seen
