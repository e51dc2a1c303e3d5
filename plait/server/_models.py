"""What the HTTP endpoints take and answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from plait.durable import RunStatus
from plait.durable._timeline import NodeState

if TYPE_CHECKING:
    from plait.durable import RunInfo
    from plait.durable._timeline import Node
    from plait.server._values import Redaction


KEY = r"[A-Za-z0-9][A-Za-z0-9._:@+~=-]{0,199}"
"""What ids that come from outside are made of: any address and file name can hold them."""


class Strict(BaseModel):
    """What takes no members that it does not know."""

    model_config = ConfigDict(extra="forbid")


class WaitView(BaseModel):
    """Something that a run waits for."""

    path: str
    signal: str | None
    until: datetime | None


class ProgressView(BaseModel):
    """How far a run says that it has come."""

    path: str
    done: float
    total: float | None
    message: str


class ErrorView(BaseModel):
    """Why something failed."""

    type: str
    message: str
    notes: list[str]


class RunView(BaseModel):
    """A run."""

    run_id: str
    workflow: str
    status: RunStatus
    created_at: datetime
    updated_at: datetime
    metadata: JsonValue
    queue: str | None
    priority: int
    due_at: datetime | None
    parent: str | None
    is_cancelled: bool = Field(description="Whether it was asked to stop.")
    waits: list[WaitView]
    progress: ProgressView | None


class RunDetail(RunView):
    """A run, with its result or its error once it has ended."""

    result: JsonValue = None
    error: ErrorView | None = None


class RunList(BaseModel):
    """A page of runs, the newest first."""

    runs: list[RunView]
    next: str | None = Field(description="What to pass as `before` for the next page.")


class NodeView(BaseModel):
    """A node of a run, and those below it."""

    path: str
    label: str
    state: NodeState
    order: int | None = Field(description="Which of the run's records is its own, from 1.")
    attempt: int | None = Field(description="Which attempt of a retry it belongs to, from 1.")
    began_at: datetime | None
    ended_at: datetime | None
    result: JsonValue = None
    error: ErrorView | None = None
    children: list[NodeView]


class Cancelled(BaseModel):
    """What became of asking a run to stop."""

    run_id: str
    was_under_way: bool


class ForkRequest(Strict):
    """From where to go on, and as what."""

    before: str | None = Field(None, description="A path: what was recorded before it is kept.")
    run_id: str | None = Field(None, description="The new run's id.", pattern=f"^{KEY}$")


class Published(BaseModel):
    """The runs that an event started."""

    run_ids: list[str]


class Received(BaseModel):
    """What a webhook's message became."""

    run_ids: list[str]


class EventView(BaseModel):
    """An event that a run has set."""

    name: str
    value: JsonValue


class Health(BaseModel):
    """Whether the server can do its work."""

    status: str
    detail: str | None = None


class ProblemView(BaseModel):
    """Problem details (RFC 9457)."""

    model_config = ConfigDict(extra="allow", title="Problem")
    type: str
    title: str
    status: int
    detail: str


def fields_of(info: RunInfo, redaction: Redaction) -> dict[str, Any]:
    """The fields that every view of a run has."""
    progress = info.progress
    return {
        "run_id": info.run_id,
        "workflow": info.workflow,
        "status": info.status,
        "created_at": info.created_at,
        "updated_at": info.updated_at,
        "metadata": redaction.of_value(dict(info.metadata)),
        "queue": info.queue,
        "priority": info.priority,
        "due_at": info.due_at,
        "parent": info.parent,
        "is_cancelled": info.is_cancelled,
        "waits": [WaitView(path=w.path, signal=w.signal, until=w.until) for w in info.waits],
        "progress": None
        if progress is None
        else ProgressView(
            path=progress.path,
            done=progress.done,
            total=progress.total,
            message=redaction.of_text(progress.message),
        ),
    }


def error_view(error: BaseException, redaction: Redaction) -> ErrorView:
    """An error as it is shown."""
    return ErrorView(
        type=getattr(error, "type_name", type(error).__qualname__).rpartition(":")[2],
        message=redaction.of_text(str(error)),
        notes=[redaction.of_text(note) for note in getattr(error, "__notes__", ())],
    )


def node_view(node: Node, redaction: Redaction) -> NodeView:
    """A node as it is shown."""
    from plait.primitives import Failure, Success

    outcome = node.outcome
    return NodeView(
        path=node.path,
        label=node.label,
        state=node.state,
        order=node.order,
        attempt=node.attempt,
        began_at=_moment(node.began),
        ended_at=_moment(node.ended),
        result=redaction.of_value(outcome.value) if isinstance(outcome, Success) else None,
        error=error_view(outcome.error, redaction) if isinstance(outcome, Failure) else None,
        children=[node_view(child, redaction) for child in node.children],
    )


def _moment(time: float | None) -> datetime | None:
    return None if time is None else datetime.fromtimestamp(time, UTC)
