"""A journal whose process dies at a write."""

from __future__ import annotations

import builtins
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from plait.durable import JournalError
from plait.durable._stored import Claimed, Kind, RunQuery

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Generator, Sequence

    from plait.durable import Journal
    from plait.durable._stored import NewRun, QueueLimits, Record, RunStatus, StoredRun

T = TypeVar("T")

_RUNNING = RunQuery(statuses=["running"])
_WORDS = {Kind.TIME: "the timer", Kind.CALL: "the call", Kind.CANCELLED: "the cancellation"}

is_outside: ContextVar[bool] = ContextVar("plait_is_outside", default=False)
"""Whether the code that runs is not of the process that dies."""


def _read(name: str) -> Callable[..., Any]:
    """A method that asks the storage, in a process that is alive."""

    async def read(self: MortalJournal, *args: Any) -> Any:
        self.check_alive()
        return await getattr(self.storage, name)(*args)

    return read


def _write(name: str, told: str, path: int | None = None) -> Callable[..., Any]:
    """A method that writes to the storage, or dies before.

    Args:
        name: Of the method.
        told: What is written, in words, with the arguments by their numbers.
        path: The number of the argument that is a path, or the record with one.
    """

    async def write(self: MortalJournal, *args: Any) -> Any:
        about = "" if path is None else getattr(args[path], "path", args[path])
        self.about_to_write(told.format(*args), about)
        return await getattr(self.storage, name)(*args)

    return write


class _Refused:
    """The answer to what was handed in to a process that is dead."""

    def __init__(self, refuse: Callable[[], None]) -> None:
        self._refuse = refuse

    def __await__(self) -> Generator[None, None, None]:
        # Nothing is yielded: it raises.
        yield from self._refuse() or ()


class MortalJournal:
    """A journal whose process dies at a write, before that is done.

    What is dead neither writes nor reads any more. What it had handed in by then is kept, and
    another process finds it.

    Args:
        storage: Where all is kept, open.
    """

    def __init__(self, storage: Journal) -> None:
        self.storage = storage
        self.writes = 0
        self.killed_at = ""
        self.died = anyio.Event()
        self.finished: set[str] = set()
        """The paths that are recorded as done."""
        self.dies_at: Callable[[int, str], bool] = lambda number, path: False
        self._signals: dict[tuple[str, str], int] = {}
        self.transacts_async: bool = getattr(storage, "transacts_async", False)
        """Whether the storage calls coroutine functions in its transactions."""

    @property
    def is_dead(self) -> bool:
        """Whether the process has died."""
        return self.died.is_set()

    def check_alive(self) -> None:
        """Raise where the process is dead."""
        if self.is_dead:
            msg = f"the process was killed at {self.killed_at}"
            raise JournalError(msg)

    def about_to_write(self, what: str, path: str = "") -> None:
        """Count a write, or die at it."""
        self.check_alive()
        self.writes += 1
        if self.dies_at(self.writes, path):
            self.killed_at = f"write {self.writes}, {what}"
            self.died.set()
        self.check_alive()

    async def open(self) -> None:
        """See what the process before has left; the storage is open already."""
        running = await self.storage.list(_RUNNING)
        self._inherited = {run.key for run in running}

    async def close(self) -> None:
        """Nothing: the next process uses the storage."""

    async def workflows(self) -> builtins.list[str]:
        """None that a runner could leave alone: to start the run is to carry it on."""
        return []

    async def renew(self) -> None:
        """Nothing: nobody takes over from a process that lives."""

    async def changed(self, timeout: float) -> bool:
        """Wait: nobody else writes."""
        await anyio.sleep(timeout)
        return False

    async def claim(
        self,
        workflows: Collection[str],
        queues: Sequence[QueueLimits],
        now: float,
        limit: int,
        has: Collection[str] = (),
    ) -> Claimed:
        """Take over runs, also those of the process before, whose lease this one has.

        A process that dies right after it has taken over runs has not done anything else yet.
        """
        self.check_alive()
        found = await self.storage.claim(workflows, queues, now, limit, has)
        left = [
            (run, await self.storage.records(run.key))
            for run in await self.storage.list(_RUNNING)
            if run.start.workflow in workflows
        ]
        # Whoever starts it again meanwhile has it executed already.
        left = [(run, records) for run, records in left if run.key in self._inherited]
        self._inherited.difference_update(run.key for run, _ in left)
        runs = [*found.runs, *left]
        return found._replace(runs=runs)

    def confirm(self) -> Awaitable[None] | None:
        """Nothing has to be awaited before something is executed, in a process that is alive."""
        return _Refused(self.check_alive) if self.is_dead else None

    def append(self, record: Record) -> Awaitable[None]:
        """Keep a record, or die."""
        what = _WORDS.get(Kind(record.kind), "the record")
        return self._hand_in(record, f"{what} of {record.path!r}", self.storage.append)

    def fold(self, record: Record) -> Awaitable[None]:
        """Keep a record for all that is below it, or die."""
        what = f"the one record for all of {record.path!r}"
        return self._hand_in(record, what, self.storage.fold)

    async def transact(self, work: Callable[[Any], T], record: Callable[[T], Record]) -> T:
        """Do something together with its record, or die before."""
        made: builtins.list[Record] = []

        def kept(result: T) -> Record:
            made.append(record(result))
            return made[-1]

        self.about_to_write("a transaction")
        result = await self.storage.transact(work, kept)
        self._note(made[-1])
        return result

    async def create(self, runs: Sequence[NewRun]) -> builtins.list[tuple[StoredRun, bool]]:
        """Keep new runs, or die."""
        self.about_to_write("the start of a run")
        created = await self.storage.create(runs)
        self._inherited.difference_update(run.key for run, _ in created)
        return created

    async def send(
        self, run_id: str, name: str, payload: bytes, signal_id: str | None, now: float
    ) -> RunStatus | None:
        """Keep a signal, or die. What comes from outside comes once, in however many lives."""
        self.about_to_write(f"the signal {name!r}")
        if signal_id is None and is_outside.get():
            number = self._signals[run_id, name] = self._signals.get((run_id, name), 0) + 1
            signal_id = f"{name} {number}"
        return await self.storage.send(run_id, name, payload, signal_id, now)

    suspend = _write("suspend", "the run's leaving memory")
    finish = _write("finish", "the run's outcome")
    reopen = _write("reopen", "the run's being resumed")
    cancel = _write("cancel", "the request that {0!r} stop")
    progress = _write("progress", "the run's progress")
    receive = _write("receive", "the receipt of {1!r}", 2)
    set_event = _write("set_event", "the event {1!r}", 0)
    acquire = _write("acquire", "the taking of {0} {1!r}", 2)
    release = _write("release", "the release of {0} {1!r}", 3)
    withdraw = _write("withdraw", "the giving up of {0} {1!r}", 2)
    fork = _write("fork", "the start of a fork")
    prune = _write("prune", "the removal of old runs")
    set_tick = _write("set_tick", "the tick of {0!r}")
    cancelled = _read("cancelled")
    records = _read("records")
    timeline = _read("timeline")
    find = _read("find")
    list = _read("list")
    payloads = _read("payloads")
    event = _read("event")
    last_tick = _read("last_tick")

    def _hand_in(
        self, record: Record, what: str, write: Callable[[Record], Awaitable[None]]
    ) -> Awaitable[None]:
        try:
            self.about_to_write(what, record.path)
        except JournalError:
            # Raised where the answer is awaited, as a journal's errors are: it ends the run, and is
            # not the failure of a step, which code of the user's could handle.
            return _Refused(self.check_alive)
        self._note(record)
        return write(record)

    def _note(self, record: Record) -> None:
        if record.kind in (Kind.VALUE, Kind.ERROR):
            self.finished.add(record.path)
