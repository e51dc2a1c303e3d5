"""What a journal keeps, and what it can be asked: the protocol that storages implement."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Sequence

RunStatus: TypeAlias = Literal["running", "completed", "failed"]


class Kind(IntEnum):
    """What a record says of its node."""

    VALUE = 0
    ERROR = 1
    TIME = 2
    DATA = 3


class Record(NamedTuple):
    """One line of a run's journal.

    Attributes:
        run: The run's key in the journal.
        path: The node's path.
        kind: Whether the payload is the node's result, its error, or a time that it waits for. DATA
            is left of an error that a resumed run does again: what `data` says still holds.
        digest: Of the node's input; empty where that has no encoded form.
        payload: What `kind` says, encoded; a time is in seconds since the epoch.
        data: What the node changed in `context.data`, encoded; None where nothing changed.
    """

    run: int
    path: str
    kind: int
    digest: bytes
    payload: bytes
    data: bytes | None


@dataclass(frozen=True, slots=True)
class NewRun:
    """What a run is started with.

    Attributes:
        run_id: Its id.
        workflow: The name of its workflow.
        digest: Of its input.
        payload: Its input, encoded.
        context: What its context starts with, encoded.
        created: When, in seconds since the epoch.
    """

    run_id: str
    workflow: str
    digest: bytes
    payload: bytes
    context: bytes
    created: float


@dataclass(frozen=True, slots=True)
class StoredRun:
    """What the journal knows of one run.

    Attributes:
        key: Its key in the journal.
        start: What it was started with.
        status: "running" (under way, or interrupted), "completed" or "failed".
        updated: When the status last changed, in seconds since the epoch.
        outcome: Its result or error, encoded; None while it is running.
        failures: The paths of the failures that ended it; what a resumed run does again.
        is_claimed: Whether the runner that asked is the one to execute it.
    """

    key: int
    start: NewRun
    status: RunStatus
    updated: float
    outcome: bytes | None
    failures: tuple[str, ...]
    is_claimed: bool


@runtime_checkable
class Journal(Protocol):
    """Where runs and what their nodes did are kept.

    One runner uses a journal object at a time; several, in several processes, may use the same
    storage. A journal that another runner has taken over from raises `JournalError` on each write.
    """

    async def open(self) -> None:
        """Make ready, and take a lease. Raises `JournalError` where this is not a journal."""
        ...

    async def close(self) -> None:
        """Write what was handed in, and give the lease back."""
        ...

    def append(self, record: Record) -> Awaitable[None]:
        """Hand in a record; awaiting the answer waits until it is on disk."""
        ...

    async def create(self, run: NewRun) -> tuple[StoredRun, bool]:
        """Keep a new run, or find the one that has its id; says whether it is new."""
        ...

    async def claim(self, workflows: Collection[str]) -> list[StoredRun]:
        """Take over the interrupted runs of these workflows whose runners are gone."""
        ...

    async def finish(
        self, key: int, status: RunStatus, outcome: bytes, failures: Sequence[str], now: float
    ) -> None:
        """Keep how a run ended."""
        ...

    async def reopen(self, key: int, now: float) -> bool:
        """Claim a failed run, without its last failures; whether it was one."""
        ...

    async def records(self, key: int) -> list[Record]:
        """A run's records, in the order they were written."""
        ...

    async def find(self, run_id: str) -> StoredRun | None:
        """The run of that id, where there is one."""
        ...

    async def list(
        self, *, workflow: str | None, status: RunStatus | None, limit: int
    ) -> list[StoredRun]:
        """Runs, the newest first."""
        ...
