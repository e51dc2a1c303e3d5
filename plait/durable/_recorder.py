"""Writes what a run does to its journal, and finds what is written there."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from plait.durable._data import DataLog
from plait.durable._errors import JournalError
from plait.durable._history import RACED, History
from plait.durable._stored import Kind, Record
from plait.primitives._errors import Abort
from plait.primitives._runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from plait.durable._arrivals import Arrivals
    from plait.durable._environment import Environment
    from plait.durable._stored import StoredRun, Wait
    from plait.primitives import WorkflowContext

T = TypeVar("T")

_new_tuple = tuple.__new__


class FrontierReached(Exception):  # noqa: N818 - not a failure: it ends a replay
    """A replay that is to execute nothing has come to where something would be.

    Args:
        path: Where that is.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class Recorder(Runtime):
    """A run's journal as its runtime uses it.

    Args:
        run: The run.
        environment: What it is executed with.
        inner: The runtime for what is executed in earnest.
    """

    # There may be thousands at once: each is one object, and not an object and its dict.
    __slots__ = (
        "_arrivals",
        "_blobs",
        "_busy",
        "_codec",
        "_counts",
        "_data",
        "_durability",
        "_held_back",
        "_history",
        "_journal",
        "_like",
        "_noted",
        "_on_idle",
        "_put_off",
        "_run_key",
        "_waits",
        "aborted_by",
        "is_closing",
        "is_verifying",
        "run_id",
    )

    def __init__(self, run: StoredRun, environment: Environment, inner: Runtime | None) -> None:
        super().__init__(inner)
        self.run_id = run.start.run_id
        self.is_closing = False
        """Whether the run is leaving memory: nothing more is begun or recorded."""
        self.is_verifying = False
        """Whether the run is only replayed, up to where something would be executed."""
        self.aborted_by: Exception | None = None
        """What ended the run from inside, whatever its own code made of that."""
        self._on_idle = environment.on_idle
        self._busy = 0
        self._waits: list[Wait] = []
        self._journal = environment.journal
        self._run_key = run.key
        self._codec = environment.codec
        self._blobs = environment.blobs
        self._like = run.start.digest
        self._history = History(())
        self._data = DataLog((), self._codec)
        self._durability = environment.durability
        self._noted: list[Awaitable[None]] = []
        self._held_back: list[Record] = []
        self._put_off: list[Record] = []
        """What is recorded before anything else is, and not at all where nothing else is."""
        self._arrivals: Arrivals | None = None
        """In which order what raced reaches the code; None where nothing has."""
        self._counts: dict[str, int] = {}

    async def load(self, records: Sequence[Record], data: dict[str, Any]) -> None:
        """Take what is recorded already, and the data that the run was started with, as known."""
        if records:
            found = [
                await self._with_blobs(record, partial(self._blobs.get, where=record.path))
                if self._blobs.changes(record.payload, record.data)
                else record
                for record in records
            ]
            self._history = History(found)
            self._data = DataLog(found, self._codec)
        self._data.start_from(data)

    async def flush(self) -> None:
        """Wait until everything that was recorded is on disk."""
        if self._put_off:
            self._note_put_off()
        for record in self._held_back:
            self._noted.append(self._appended(record))
        self._held_back.clear()
        while self._noted:
            await self._on_disk(self._noted.pop(0))

    async def _with_blobs(
        self, record: Record, exchange: Callable[[bytes], Awaitable[bytes]]
    ) -> Record:
        data = None if record.data is None else await exchange(record.data)
        return record._replace(payload=await exchange(record.payload), data=data)

    def _record(
        self,
        path: str,
        kind: Kind,
        payload: bytes = b"",
        digest: bytes = b"",
        data: bytes | None = None,
        seconds: float | None = None,
    ) -> Record:
        # Not Record(...) and kind.value: each would cost as much as the rest of this.
        return _new_tuple(
            Record, (self._run_key, path, kind._value_, digest, payload, data, seconds)
        )

    async def _write(self, record: Record) -> None:
        """Record something before anything goes on; how soon it is on disk, `durability` says."""
        if self.is_closing or self.is_verifying:
            self._refuse_when_closing(record.path)
        self._begin_work()
        before: list[Awaitable[None]] = []
        try:
            if self._put_off:
                self._note_put_off()
            if self._blobs.changes(record.payload, record.data):
                record = await self._with_blobs(record, self._blobs.put)
            if self._arrivals is not None and record.digest.startswith(RACED):
                self._arrivals.join(record.path)
            if self._durability != "sync":
                self._note(record)
                return
            if self._noted:
                before, self._noted = self._noted, before
            await self._journal.append(record)
            # What was noted before is on disk with it; what was noted since is not waited for.
            while before:
                await before.pop()
        except JournalError as error:
            raise self._not_written(error) from error
        finally:
            if before:
                self._noted[:0] = before
            self._end_work()

    def _goes_alone(self, record: Record) -> bool:
        """Whether all that `_write` would do is to append the record as it is."""
        return (
            self._durability == "sync"
            and not (self.is_closing or self.is_verifying or self._put_off or self._noted)
            and not self._blobs.changes(record.payload, record.data)
        )

    def _note(self, record: Record) -> None:
        """Record something that is soon enough on disk with the next record that is waited for."""
        if self.is_verifying:
            return
        if self._put_off:
            self._note_put_off()
        if self._durability == "exit":
            self._held_back.append(record)
        else:
            self._noted.append(self._appended(record))

    def _note_put_off(self) -> None:
        put_off, self._put_off = self._put_off, []
        for record in put_off:
            self._note(record)

    def _appended(self, record: Record) -> Awaitable[None]:
        try:
            return self._journal.append(record)
        except JournalError as error:
            raise self._not_written(error) from error

    async def _on_disk(self, written: Awaitable[T]) -> T:
        """Await something that the journal does; meanwhile the run does more than wait."""
        self._begin_work()
        try:
            return await written
        except JournalError as error:
            raise self._not_written(error) from error
        finally:
            self._end_work()

    def _begin_work(self) -> None:
        """Do more than wait: what does is not let go of."""
        self._busy += 1
        if self._waits:
            self._on_idle(self, False)

    def _end_work(self) -> None:
        self._busy -= 1
        if self._waits and not self._busy:
            self._on_idle(self, True)

    def _not_written(self, error: JournalError) -> Abort:
        # Not the step's failure: nothing may be retried, or go on, that is not recorded.
        return self._abort(error)

    def _abort(self, error: Exception) -> Abort:
        """What ends the run from inside of it; what is cancelled by that is not recorded."""
        if not self.is_closing:
            self.aborted_by = error
        self.is_closing = True
        return Abort(error)

    def _refuse_when_closing(self, path: str) -> None:
        """Stop here, at what would have to be executed or recorded, where neither is to be."""
        if self.is_verifying:
            raise self._abort(FrontierReached(path))
        if self.is_closing:
            raise self._abort(suspended(self.run_id))

    def _digest(self, value: object) -> bytes:
        """Tells an input from others of this run."""
        try:
            return self._codec.digest(value, self._like)
        except ValueError as error:
            raise self._abort(undecodable(self.run_id, error)) from error

    def _own_place(self, context: WorkflowContext, what: str, name: str = "") -> str:
        """The path of something that a node asked for, by the order in which it did."""
        # No node's path has a "#": branches and routes may be called "sleep" or "deadline".
        place = f"{context.path}#{what}"
        count = self._count(place + name)
        if count > 1:
            place = f"{place} {count}"
        return f"{place}:{name}" if name else place

    def _count(self, place: str) -> int:
        """How often something was asked for at a place, this time included."""
        count = self._counts[place] = self._counts.get(place, 0) + 1
        return count

    def _recorded_time(self, path: str) -> float | None:
        record = self._history.get(path)
        if record is None:
            return None
        try:
            return float(record.payload)
        except ValueError as error:
            raise self._abort(undecodable(path, error)) from error

    def _decoded(self, path: str, payload: bytes) -> Any:
        try:
            return self._codec.decode(payload)
        except ValueError as error:
            raise self._abort(undecodable(path, error)) from error


def suspended(run_id: str) -> JournalError:
    """What is said where a run leaves memory before it has ended."""
    return JournalError(f"run {run_id!r} was suspended as its runner ended")


def undecodable(path: str, error: Exception) -> JournalError:
    """What is said of a record that cannot be read."""
    return JournalError(f"what is recorded for {path!r} cannot be decoded: {error}")
