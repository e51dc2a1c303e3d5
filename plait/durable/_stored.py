"""What a journal keeps: runs, records, waits; and what it is asked for them with."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from plait.durable._turns import Turn

RunStatus: TypeAlias = Literal["queued", "running", "waiting", "completed", "failed", "cancelled"]
"""Queued: not begun. Running: under way, or interrupted. Waiting: has left memory until something
wakes it. The others have ended."""

ENDED: tuple[RunStatus, ...] = ("completed", "failed", "cancelled")


class Kind(IntEnum):
    """What a record says of its node."""

    VALUE = 0
    ERROR = 1
    TIME = 2
    DATA = 3
    CALL = 4
    CANCELLED = 5


class Record(NamedTuple):
    """One line of a run's journal.

    Attributes:
        run: The run's key in the journal.
        path: The node's path.
        kind: Whether the payload is the node's result, its error, or a time that it waits for. DATA
            is left of an error that a resumed run does again: what `data` says still holds. CALL
            says that imperative code called a node that has not ended yet, CANCELLED that it
            cancelled one: neither has a payload.
        digest: Of the node's input; empty where that has no encoded form.
        payload: What `kind` says, encoded; a time is in seconds since the epoch.
        data: What the node changed in `context.data`, encoded; None where nothing changed.
        seconds: How long the node was executed; None where it was not, or where that is not known.
    """

    run: int
    path: str
    kind: int
    digest: bytes
    payload: bytes
    data: bytes | None
    seconds: float | None = None


class Wait(NamedTuple):
    """Something that a run waits for.

    Attributes:
        path: Where it waits: the path of a node.
        topic: What wakes it: `signal:RUN_ID:NAME`, `event:RUN_ID:NAME`, `run:RUN_ID` (that run has
            ended) or `entity:KIND:KEY` (it is its turn); empty for a wait that only time ends.
            `needs:TAG,TAG` is for a runner that has these tags, sorted, and wakes nobody else.
        until: When the wait ends by itself, in seconds since the epoch; None where it does not.
    """

    path: str
    topic: str
    until: float | None


class NewRun(NamedTuple):
    """What a run is started with.

    Attributes:
        run_id: Its id.
        workflow: The name of its workflow.
        digest: Of its input.
        payload: Its input, encoded.
        context: What its context starts with, encoded.
        created: When, in seconds since the epoch.
        metadata: Its metadata as plain JSON, for lists.
        due: When it is to begin, in seconds since the epoch; None for at once.
        queue: The queue that says when it begins; None for none.
        priority: Which of a queue's runs goes first: the one with the highest.
        parent: The id of the run that started it, where one did.
    """

    run_id: str
    workflow: str
    digest: bytes
    payload: bytes
    context: bytes
    created: float
    metadata: str = "{}"
    due: float | None = None
    queue: str | None = None
    priority: int = 0
    parent: str | None = None


class StoredRun(NamedTuple):
    """What the journal knows of one run.

    Attributes:
        key: Its key in the journal; a later run has a greater one.
        start: What it was started with.
        status: Where it is.
        updated: When the status last changed, in seconds since the epoch.
        outcome: Its result or error, encoded; None until it has ended.
        failures: The paths of the failures that ended it; what a resumed run does again.
        is_claimed: Whether the runner that asked is the one to execute it.
        is_cancelled: Whether it was asked to stop.
        waits: What it waits for, where it has left memory.
        progress: What it last said of its progress, encoded; None where it said nothing.
    """

    key: int
    start: NewRun
    status: RunStatus
    updated: float
    outcome: bytes | None
    failures: tuple[str, ...]
    is_claimed: bool
    is_cancelled: bool = False
    waits: tuple[Wait, ...] = ()
    progress: bytes | None = None


class Claimed(NamedTuple):
    """Runs that a runner has to execute now.

    Attributes:
        runs: Each with its records, in the order they were written.
        next_due: When the next one is due, in seconds since the epoch; None where none is known,
            or the ones that are due wait for room in their queue.
        turns: For whom of the runs that the runner executes an entity is, or was, kept.
    """

    runs: Sequence[tuple[StoredRun, Sequence[Record]]]
    next_due: float | None
    turns: Sequence[Turn] = ()


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What a queue lets through, over all the runners of a journal.

    Attributes:
        name: The queue's name.
        max_concurrent: How many of its runs are under way at once; None for any number. One that
            has left memory to wait does not count.
        rate: How many may begin in how many seconds; None for any number.
    """

    name: str
    max_concurrent: int | None = None
    rate: tuple[int, float] | None = None


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Which runs to list, the newest first.

    Attributes:
        workflow: Only those of the workflow of this name.
        statuses: Only those with one of these; none given is any.
        created_after: Only those started at this time or later, in seconds since the epoch.
        created_before: Only those started before.
        metadata: Only those whose metadata has these values.
        parent: Only those that this run started.
        queue: Only those of this queue.
        before: Only those whose key is less than this: how lists go on.
        limit: How many at the most.
    """

    workflow: str | None = None
    statuses: Collection[RunStatus] = ()
    created_after: float | None = None
    created_before: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    parent: str | None = None
    queue: str | None = None
    before: int | None = None
    limit: int = 100
