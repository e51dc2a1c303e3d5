"""The journal itself: what writes goes to the writer, what reads to a pool."""

from __future__ import annotations

import asyncio
import builtins
import re
from typing import TYPE_CHECKING, Any, TypeVar

from plait.durable._errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from plait.durable._postgres._health import Health
    from plait.durable._postgres._session import Session
    from plait.durable._stored import (
        Claimed,
        NewRun,
        QueueLimits,
        Record,
        RunQuery,
        RunStatus,
        StoredRun,
        Wait,
    )
    from plait.durable._turns import Turn

T = TypeVar("T")

_NUMBERS_BITS = 24
"""How many records a runner may write from one claim to the next: it claims every second."""


class PostgresJournal:
    """A journal in a PostgreSQL database, which runners on many machines share.

    Its tables are in a schema of their own. A runner shows that it lives by a lease that it renews,
    by the clock of the database; the runs of one whose lease is over are taken over by the others,
    and it is refused from then on. While the server is gone, as when it is restarted or fails over,
    what is asked waits.

    It needs asyncio: the driver, psycopg, runs on nothing else.

    Args:
        conninfo: The address of the database as libpq takes it, such as
            `"postgresql://user@host/database"`. Several hosts make a failover:
            `"postgresql://user@one,two/database?target_session_attrs=read-write"`.
        schema: The schema of the journal; made where there is none. The address may name it as
            well, as in `"postgresql://user@host/database?schema=orders"`; else it is `plait`.
        lease_seconds: How long a runner that does not renew its lease is taken to be alive.
        outage_seconds: For how long to wait for a server that cannot be reached.
        connections: How many connections to have for reading, and for `TransactionStep`; three
            more write, and listen.

    Raises:
        ImportError: The package psycopg is missing: `pip install "plait[postgres]"`.
        ValueError: The address is none, the name of the schema is not a plain one, or a number is
            not positive.

    Example:
        >>> from plait.durable import DurableRunner, PostgresJournal
        >>> journal = PostgresJournal("postgresql://orders@db.internal/orders", lease_seconds=10)
        >>> runner = DurableRunner(journal)
    """

    transacts_async = True
    """Whether a `TransactionStep` may be made of a coroutine function."""

    def __init__(
        self,
        conninfo: str,
        *,
        schema: str = "",
        lease_seconds: float = 30,
        outage_seconds: float = 300,
        connections: int = 4,
    ) -> None:
        try:
            from plait.durable._postgres._database import Database, split_schema
        except ImportError as error:
            msg = 'PostgresJournal needs the package psycopg: pip install "plait[postgres]"'
            raise ImportError(msg) from error
        conninfo, named = split_schema(conninfo)
        schema = schema or named or "plait"
        if not re.fullmatch("[a-z_][a-z0-9_]{0,47}", schema):
            msg = f"schema={schema!r} must be of small letters, digits and _, and 48 at the most"
            raise ValueError(msg)
        if not (lease_seconds > 0 and outage_seconds >= 0 and connections > 0):
            msg = (
                f"lease_seconds={lease_seconds!r}, outage_seconds={outage_seconds!r} and "
                f"connections={connections!r} must be positive"
            )
            raise ValueError(msg)
        self._database = Database(conninfo, schema, outage_seconds)
        self._lease_seconds = lease_seconds
        self._connections = connections
        self._open_session: Session | None = None
        self._number = 0

    async def open(self) -> None:
        """Connect, make or migrate the tables, and take a lease."""
        from plait.durable._postgres._session import Session

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            msg = (
                "PostgresJournal needs asyncio: its driver, psycopg, runs on no other event loop; "
                "use SqliteJournal under trio, or run the program on asyncio"
            )
            raise JournalError(msg) from None
        session = Session(self._database, self._lease_seconds, self._connections)
        try:
            self._begin_epoch(await session.open())
        except Exception as error:
            raise self._database.unusable(error) from error
        self._open_session = session

    async def close(self) -> None:
        """Write what was handed in, and give the lease back."""
        session, self._open_session = self._session, None
        await session.close()

    async def renew(self) -> None:
        """Take a new lease where another runner has taken over."""
        epoch = await self._session.renew()
        if epoch is not None:
            self._begin_epoch(epoch)

    async def changed(self, timeout: float) -> bool:
        """Wait until another runner may have written something; False after `timeout` seconds."""
        return await self._session.listener.changed(timeout)

    def confirm(self) -> Awaitable[None] | None:
        """What to await before something is executed; None while the lease is known to last."""
        session = self._session
        return None if session.listener.has_lease else session.confirm()

    def append(self, record: Record) -> Awaitable[None]:
        """Hand in a record; awaiting the answer waits until it is on disk."""
        return self._session.writer.append(record, self._next())

    def fold(self, record: Record) -> Awaitable[None]:
        """Hand in a record that stands for all that lies below its path, which is removed."""
        return self._session.write("fold", record, self._next())

    def transact(self, work: Callable[[Any], T], record: Callable[[T], Record]) -> Awaitable[T]:
        """Call `work` with a connection of the database, and keep its record with what it did.

        A coroutine function gets a `psycopg.AsyncConnection`, and is cancelled with who awaits it;
        a plain one a `psycopg.Connection`, in a thread. It is called again where the connection is
        lost before all is committed.
        """
        return self._session.lender.transact(work, record, self._next())

    async def create(self, runs: Sequence[NewRun]) -> builtins.list[tuple[StoredRun, bool]]:
        """Keep new runs, or find those that have their ids; says of each whether it is new."""
        if not runs:
            return []
        found: builtins.list[tuple[StoredRun, bool]] = await self._session.write(
            "create", runs, self._runner
        )
        return found

    async def claim(
        self,
        workflows: Collection[str],
        queues: Sequence[QueueLimits],
        now: float,
        limit: int,
        has: Collection[str] = (),
    ) -> Claimed:
        """Take over interrupted runs of these workflows, and runs that are due."""
        session = self._session
        watched = session.listener.has_watched
        claimed: Claimed
        claimed, epoch = await session.write(
            "claim", self._runner, workflows, queues, now, limit, has, watched
        )
        self._begin_epoch(epoch)
        return claimed

    async def suspend(self, key: int, waits: Sequence[Wait], now: float) -> None:
        """Let a run leave memory until one of its waits ends; at once where one has already."""
        await self._session.write("suspend", key, waits, now, self._runner)

    async def finish(
        self, key: int, status: RunStatus, outcome: bytes, failures: Sequence[str], now: float
    ) -> None:
        """Keep how a run ended, wake those that wait for it, and release what it holds."""
        await self._session.write("finish", key, status, outcome, failures, now, self._runner)

    async def reopen(self, key: int, now: float) -> bool:
        """Claim a failed or cancelled run, without its last failures; whether it was one."""
        epoch: int | None = await self._session.write("reopen", key, now, self._runner)
        if epoch is not None:
            self._begin_epoch(epoch)
        return epoch is not None

    async def cancel(self, run_id: str, now: float) -> bool:
        """Ask a run to stop, and wake it; whether there is one that has not ended."""
        found: bool = await self._session.write("cancel", run_id, now)
        return found

    async def cancelled(self) -> builtins.list[str]:
        """The ids of the runs that this runner executes and that were asked to stop."""
        found: builtins.list[str] = await self._session.read("cancelled", self._runner)
        return found

    async def progress(self, key: int, payload: bytes) -> None:
        """Keep what a run says of its progress, in place of what it said before."""
        await self._session.write("progress", key, payload)

    async def records(self, key: int) -> builtins.list[Record]:
        """A run's records, in the order they were written."""
        found = await self._session.read("records", [key])
        some: builtins.list[Record] = found.get(key, [])
        return some

    async def timeline(self, key: int) -> builtins.list[tuple[Record, float]]:
        """A run's records, each with the time at which it was written."""
        found: builtins.list[tuple[Record, float]] = await self._session.read("timeline", key)
        return found

    async def find(self, run_id: str) -> StoredRun | None:
        """The run of that id, where there is one."""
        found: StoredRun | None = await self._session.read("find", run_id, self._runner)
        return found

    async def list(self, query: RunQuery) -> builtins.list[StoredRun]:
        """Runs, the newest first."""
        found: builtins.list[StoredRun] = await self._session.read("list", query, self._runner)
        return found

    async def workflows(self) -> builtins.list[str]:
        """The names of the workflows that have runs which have not ended, sorted."""
        found: builtins.list[str] = await self._session.read("workflows")
        return found

    async def payloads(self, start: bytes) -> set[bytes]:
        """All payloads that start so, of whatever they are."""
        found: set[bytes] = await self._session.read("payloads", start)
        return found

    async def send(
        self, run_id: str, name: str, payload: bytes, signal_id: str | None, now: float
    ) -> RunStatus | None:
        """Keep a signal for a run, once for an id, and wake the run where it waits for it."""
        status: RunStatus | None = await self._session.write(
            "send", run_id, name, payload, signal_id, now
        )
        return status

    async def receive(self, key: int, name: str, path: str) -> bytes | None:
        """Take a run's oldest signal of a name, and keep it as the VALUE record at `path`."""
        found: bytes | None = await self._session.write("receive", key, name, path, self._next())
        return found

    async def set_event(self, record: Record, name: str, now: float) -> None:
        """Keep a record, and its payload as the run's event of a name; wake those that wait."""
        await self._session.write("set_event", record, self._next(), name, now)

    async def event(self, run_id: str, name: str) -> bytes | None:
        """The value of a run's event, where it has been set."""
        found: bytes | None = await self._session.read("event", run_id, name)
        return found

    async def acquire(self, kind: str, key: str, record: Record, now: float) -> tuple[bytes] | None:
        """Let a run have an entity, unless others come first; then it stands in line."""
        found: tuple[bytes] | None = await self._session.write(
            "acquire", kind, key, record, self._next(), now
        )
        return found

    async def release(
        self, kind: str, key: str, state: bytes | None, record: Record, now: float
    ) -> Turn | None:
        """Let go of an entity, with its new state unless that is None; who is next."""
        turn: Turn | None = await self._session.write(
            "release", kind, key, state, record, self._next(), now
        )
        return turn

    async def withdraw(self, kind: str, key: str, turn: Turn, now: float) -> Turn | None:
        """Leave the line for an entity, or let go of it unchanged; who is next."""
        next_one: Turn | None = await self._session.write("withdraw", kind, key, turn, now)
        return next_one

    async def fork(self, key: int, new: NewRun, before: str | None) -> tuple[StoredRun, bool]:
        """Keep a new run with a copy of the records of another, as `create` does."""
        stored, is_new, epoch = await self._session.write("fork", key, new, before, self._runner)
        self._begin_epoch(epoch)
        return stored, is_new

    async def prune(self, before: float, statuses: Collection[RunStatus], limit: int) -> int:
        """Remove ended runs that were last updated before a time; how many there were."""
        many: int = await self._session.write("prune", before, statuses, limit)
        return many

    async def last_tick(self, schedule: str) -> float | None:
        """Up to when a schedule's runs have been started, in seconds since the epoch."""
        found: float | None = await self._session.read("last_tick", schedule)
        return found

    async def set_tick(self, schedule: str, at: float) -> None:
        """Keep up to when a schedule's runs have been started; never less than is kept."""
        await self._session.write("set_tick", schedule, at)

    async def examine(self) -> Health:
        """Look at the journal without opening it: is it there, and in order? Nothing is written.

        Raises:
            JournalError: The server cannot be asked.
        """
        from plait.durable._postgres._health import examine

        return await examine(self._database)

    @property
    def name(self) -> str:
        """What messages call it: its server and its database, without the user or the password."""
        return self._database.name

    @property
    def _session(self) -> Session:
        if self._open_session is None:
            msg = f"{self._database.name} is not open"
            raise JournalError(msg)
        return self._open_session

    @property
    def _runner(self) -> int:
        return self._session.runner

    def _next(self) -> int:
        """The number of the next record: greater than those of all that its run has."""
        self._number += 1
        return self._number

    def _begin_epoch(self, epoch: int) -> None:
        """Number what is written from now on after whatever was written before, by whomever."""
        self._number = max(self._number, epoch << _NUMBERS_BITS)
