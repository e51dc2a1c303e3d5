"""What a journal can be asked: the protocol that storages implement."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

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


@runtime_checkable
class Journal(Protocol):
    """Where runs and what their nodes did are kept.

    One runner uses a journal object at a time; several, in several processes, may use the same
    storage. A journal that another runner has taken over from raises `LeaseLostError` on each write
    until it has a new lease. What is handed in is written in the order in which it was; each method
    is one transaction.
    """

    async def open(self) -> None:
        """Make ready, and take a lease. Raises `JournalError` where this is not a journal."""
        ...

    async def close(self) -> None:
        """Write what was handed in, and give the lease back."""
        ...

    async def renew(self) -> None:
        """Take a new lease where another runner has taken over.

        To be called once nothing is to be written any more that was begun with the old one.
        """
        ...

    async def changed(self, timeout: float) -> bool:
        """Wait until another runner may have written something; False after `timeout` seconds."""
        ...

    def confirm(self) -> Awaitable[None] | None:
        """What to await before something is executed; None while the lease is known to last.

        A runner that was stopped for so long that another may have taken over asks the storage, and
        learns by a `LeaseLostError` that one has.
        """
        ...

    def append(self, record: Record) -> Awaitable[None]:
        """Hand in a record; awaiting the answer waits until it is on disk."""
        ...

    def fold(self, record: Record) -> Awaitable[None]:
        """Hand in a record that stands for all that lies below its path, which is removed."""
        ...

    def transact(self, work: Callable[[Any], T], record: Callable[[T], Record]) -> Awaitable[T]:
        """Call `work` with the storage's own connection, and keep its record with what it did.

        Both are in one transaction. What `work` or `record` raises undoes what `work` did, and
        nothing else, and is raised. A journal that has an attribute `transacts_async`, and it is
        True, awaits what a coroutine function does.
        """
        ...

    async def create(self, runs: Sequence[NewRun]) -> list[tuple[StoredRun, bool]]:
        """Keep new runs, or find those that have their ids; says of each whether it is new.

        One with neither a queue nor a time that is still to come is claimed at once.
        """
        ...

    async def claim(
        self,
        workflows: Collection[str],
        queues: Sequence[QueueLimits],
        now: float,
        limit: int,
        has: Collection[str] = (),
    ) -> Claimed:
        """Take over runs of these workflows: interrupted ones whose runners are gone, and due ones.

        Due is what waits for nothing but its time or was woken, and what is first in a queue that
        has room; a queue that is not among `queues` has no limits. In a queue, what has begun
        before goes first, then the highest priority, then what came first. What waits for a runner
        with tags is due for one that has them all. An entity that was kept for one for too long is
        kept for the next.

        Args:
            workflows: The names of the workflows that the runner can execute.
            queues: The limits of queues.
            now: In seconds since the epoch.
            limit: How many runs at the most.
            has: The tags that the runner has.
        """
        ...

    async def suspend(self, key: int, waits: Sequence[Wait], now: float) -> None:
        """Let a run leave memory until one of its waits ends; at once where one has already."""
        ...

    async def finish(
        self, key: int, status: RunStatus, outcome: bytes, failures: Sequence[str], now: float
    ) -> None:
        """Keep how a run ended, wake those that wait for it, and release what it holds.

        It stands in no line any more; who is next for an entity that it had is told by a claim.
        """
        ...

    async def reopen(self, key: int, now: float) -> bool:
        """Claim a failed or cancelled run, without its last failures; whether it was one."""
        ...

    async def cancel(self, run_id: str, now: float) -> bool:
        """Ask a run to stop, and wake it; whether there is one that has not ended."""
        ...

    async def cancelled(self) -> list[str]:
        """The ids of the runs that this runner executes and that were asked to stop."""
        ...

    async def progress(self, key: int, payload: bytes) -> None:
        """Keep what a run says of its progress, in place of what it said before."""
        ...

    async def records(self, key: int) -> list[Record]:
        """A run's records, in the order they were written."""
        ...

    async def timeline(self, key: int) -> list[tuple[Record, float]]:
        """A run's records in order, each with when it was written, in seconds since the epoch."""
        ...

    async def find(self, run_id: str) -> StoredRun | None:
        """The run of that id, where there is one."""
        ...

    async def list(self, query: RunQuery) -> list[StoredRun]:
        """Runs, the newest first."""
        ...

    async def workflows(self) -> builtins.list[str]:
        """The names of the workflows that have runs which have not ended, sorted."""
        ...

    async def payloads(self, start: bytes) -> set[bytes]:
        """What is kept of inputs, records, outcomes, signals, events and entities, and starts so.

        What moves or is copied meanwhile is among it.
        """
        ...

    async def send(
        self, run_id: str, name: str, payload: bytes, signal_id: str | None, now: float
    ) -> RunStatus | None:
        """Keep a signal for a run, once for an id, and wake the run where it waits for it.

        Returns:
            The run's status before; None where there is no such run. One that has ended is sent
            nothing.
        """
        ...

    async def receive(self, key: int, name: str, path: str) -> bytes | None:
        """Take a run's oldest signal of a name, and keep it as the VALUE record at `path`."""
        ...

    async def set_event(self, record: Record, name: str, now: float) -> None:
        """Keep a record, and its payload as the run's event of a name; wake those that wait."""
        ...

    async def event(self, run_id: str, name: str) -> bytes | None:
        """The value of a run's event, where it has been set."""
        ...

    async def acquire(self, kind: str, key: str, record: Record, now: float) -> tuple[bytes] | None:
        """Let a run have an entity, and keep its state as the record's payload.

        Returns:
            The state, empty where there is none yet, in a tuple of one. None where it is had, or
            others come first: the run's wait at the record's path stands in line from then on, or
            keeps the place that it has.
        """
        ...

    async def release(
        self, kind: str, key: str, state: bytes | None, record: Record, now: float
    ) -> Turn | None:
        """Let go of an entity, with its new state unless that is None.

        It is kept for the one who has waited longest, whose run is woken. Returns who that is.
        """
        ...

    async def withdraw(self, kind: str, key: str, turn: Turn, now: float) -> Turn | None:
        """Leave the line for an entity, or let go of it unchanged where it has come to that.

        Nothing is recorded, and nothing happens where it is so already. Returns who is next, where
        that was not so before.
        """
        ...

    async def fork(self, key: int, new: NewRun, before: str | None) -> tuple[StoredRun, bool]:
        """Keep a new run with a copy of the records of another, as `create` does.

        Args:
            key: The run that it is forked from.
            new: What it is started with.
            before: Only what was recorded before the first record at or below this path, and
                nothing above it that failed; None for all.
        """
        ...

    async def prune(self, before: float, statuses: Collection[RunStatus], limit: int) -> int:
        """Remove ended runs that were last updated before a time; how many there were."""
        ...

    async def last_tick(self, schedule: str) -> float | None:
        """Up to when a schedule's runs have been started, in seconds since the epoch."""
        ...

    async def set_tick(self, schedule: str, at: float) -> None:
        """Keep up to when a schedule's runs have been started; never less than is kept."""
        ...
