"""The HTTP endpoints: what there is, who may use it, what it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from plait.server import _acts, _health, _runs, _stream, _webhooks
from plait.server import _models as models

if TYPE_CHECKING:
    from pydantic import BaseModel
    from starlette.responses import Response

    from plait.server._security import Scope
    from plait.server._site import Call


@dataclass(frozen=True, slots=True)
class Operation:
    """One endpoint.

    Attributes:
        method: The HTTP method.
        path: Its address, with parameters in braces.
        handle: What answers.
        scope: Which scope it needs; None for none, and no token.
        answers: What it answers with, by status; None is no body, or none that has a model.
        problems: With which statuses it refuses, besides those that every endpoint has.
        body: What its body is: a model, the input of a workflow, any JSON, or none.
        query: Its parameters in the address.
        headers: The headers that it looks at.
        media_type: What its answers are.
    """

    method: Literal["GET", "POST"]
    path: str
    handle: Callable[[Call], Awaitable[Response]]
    scope: Scope | None
    answers: dict[int, type[BaseModel] | None]
    problems: tuple[int, ...] = ()
    body: type[BaseModel] | Literal["input", "any"] | None = None
    query: dict[str, dict[str, Any]] = field(default_factory=dict)
    headers: tuple[str, ...] = ()
    media_type: str = "application/json"

    @property
    def name(self) -> str:
        """What the OpenAPI document calls it."""
        return self.handle.__name__


_TEXT: dict[str, Any] = {"type": "string"}
_MOMENT: dict[str, Any] = {"type": "string", "format": "date-time"}
_STATUS: dict[str, Any] = {
    "type": "array",
    "items": {"enum": ["queued", "running", "waiting", "completed", "failed", "cancelled"]},
}

OPERATIONS = (
    Operation(
        "POST",
        "/api/workflows/{workflow}/runs",
        _runs.start,
        "run",
        {200: models.RunDetail, 202: models.RunDetail},
        (404, 409, 415, 422),
        "input",
        headers=("Idempotency-Key", "Prefer"),
    ),
    Operation(
        "GET",
        "/api/runs",
        _runs.runs,
        "read",
        {200: models.RunList},
        (404,),
        query={
            "workflow": _TEXT,
            "status": _STATUS,
            "created_after": _MOMENT,
            "created_before": _MOMENT,
            "parent": _TEXT,
            "queue": _TEXT,
            "before": _TEXT,
            "limit": {"type": "integer", "minimum": 1, "maximum": 500, "default": 50},
        },
    ),
    Operation(
        "GET",
        "/api/runs/{run_id}",
        _runs.run,
        "read",
        {200: models.RunDetail},
        (404,),
        headers=("Prefer",),
    ),
    Operation(
        "GET",
        "/api/runs/{run_id}/result",
        _runs.result,
        "read",
        {200: None, 202: models.RunDetail},
        (404, 409),
        headers=("Prefer",),
    ),
    Operation(
        "GET", "/api/runs/{run_id}/nodes", _runs.nodes, "read", {200: models.NodeView}, (404,)
    ),
    Operation(
        "GET",
        "/api/runs/{run_id}/stream",
        _stream.stream,
        "read",
        {200: None},
        (404,),
        media_type="text/event-stream",
    ),
    Operation(
        "GET",
        "/api/runs/{run_id}/events/{event}",
        _runs.event,
        "read",
        {200: models.EventView},
        (404, 409),
        headers=("Prefer",),
    ),
    Operation(
        "POST",
        "/api/runs/{run_id}/signals/{signal}",
        _acts.signal,
        "operate",
        {204: None},
        (404, 409, 415, 422),
        "any",
        headers=("Idempotency-Key",),
    ),
    Operation(
        "POST",
        "/api/runs/{run_id}/cancel",
        _acts.cancel,
        "operate",
        {202: models.Cancelled},
        (404,),
    ),
    Operation(
        "POST",
        "/api/runs/{run_id}/resume",
        _acts.resume,
        "operate",
        {202: models.RunDetail},
        (404, 409),
    ),
    Operation(
        "POST",
        "/api/runs/{run_id}/fork",
        _acts.fork,
        "operate",
        {202: models.RunDetail},
        (404, 409, 415, 422),
        models.ForkRequest,
    ),
    Operation(
        "POST",
        "/api/events/{event}",
        _runs.publish,
        "run",
        {202: models.Published},
        (404, 409, 415, 422),
        "any",
        headers=("Idempotency-Key",),
    ),
    Operation(
        "POST",
        "/webhooks/{webhook}",
        _webhooks.receive,
        None,
        {202: models.Received},
        (404, 409, 415, 422),
        "any",
        headers=("webhook-id", "webhook-timestamp", "webhook-signature"),
    ),
    Operation("GET", "/health", _health.health, None, {200: models.Health}),
    Operation("GET", "/ready", _health.ready, None, {200: models.Health, 503: models.Health}),
)
