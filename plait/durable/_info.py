"""What a caller is told of a run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from plait.durable._topics import needs_in
from plait.primitives._encoding import decode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plait.durable._codec import Codec
    from plait.durable._stored import RunStatus, StoredRun


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something that a run which has left memory waits for.

    Attributes:
        path: Where it waits, such as `orders#signal:approval`.
        signal: The signal that it waits for, where it is one.
        until: When the wait ends by itself; None where it does not.
        needs: What a runner must have to go on, where none that had it has come by.
    """

    path: str
    signal: str | None
    until: datetime | None
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run says that it has come.

    Attributes:
        path: The node that said so.
        done: How much is done.
        total: How much there is to do, where that is known.
        message: What is being done.
    """

    path: str
    done: float
    total: float | None
    message: str


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What the journal knows of one run.

    Attributes:
        run_id: Its id.
        workflow: The name of its workflow.
        status: "queued", "running" (under way, or interrupted), "waiting" (out of memory),
            "completed", "failed" or "cancelled".
        created_at: When it was started.
        updated_at: When its status last changed.
        metadata: What it was started with.
        queue: The queue that it is in, where there is one.
        priority: Which of its queue goes first.
        due_at: When it is to begin, where that was said.
        parent: The run that started it, where one did.
        is_cancelled: Whether it was asked to stop.
        waits: What it waits for, where it has left memory.
        progress: How far it last said that it had come.
    """

    run_id: str
    workflow: str
    status: RunStatus
    created_at: datetime
    updated_at: datetime
    metadata: Mapping[str, Any]
    queue: str | None
    priority: int
    due_at: datetime | None
    parent: str | None
    is_cancelled: bool
    waits: tuple[Waiting, ...]
    progress: Progress | None

    @classmethod
    def of(cls, stored: StoredRun, codec: Codec) -> RunInfo:
        """What a journal says, readable."""
        start = stored.start
        return cls(
            run_id=start.run_id,
            workflow=start.workflow,
            status=stored.status,
            created_at=_time(start.created),
            updated_at=_time(stored.updated),
            metadata=MappingProxyType(decode(start.metadata.encode())),
            queue=start.queue,
            priority=start.priority,
            due_at=None if start.due is None else _time(start.due),
            parent=start.parent,
            is_cancelled=stored.is_cancelled,
            waits=tuple(
                Waiting(
                    wait.path,
                    wait.topic.removeprefix(f"signal:{start.run_id}:")
                    if wait.topic.startswith("signal:")
                    else None,
                    None if wait.until is None else _time(wait.until),
                    needs_in(wait.topic),
                )
                for wait in stored.waits
            ),
            progress=_progress(stored.progress, codec),
        )


def _progress(payload: bytes | None, codec: Codec) -> Progress | None:
    if payload is None:
        return None
    try:
        said = codec.decode(payload)
    except ValueError:
        # A list is no place to fail for one run; its own result says what is wrong with it.
        return None
    return Progress(said["path"], said["done"], said.get("total"), said["message"])


def _time(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)
