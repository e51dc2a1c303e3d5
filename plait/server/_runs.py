"""Endpoints that start runs and tell of them."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response

from plait.durable import JournalError, RunInfo
from plait.durable._stored import ENDED, RunStatus
from plait.durable._timeline import tree_of
from plait.primitives import Failure, Success
from plait.server._models import (
    KEY,
    EventView,
    Published,
    RunDetail,
    RunList,
    RunView,
    error_view,
    fields_of,
    node_view,
)
from plait.server._problems import Problem
from plait.server._site import reply

if TYPE_CHECKING:
    from plait.durable import Run
    from plait.server._site import Call

_KEY = re.compile(KEY)
_STATUS: TypeAdapter[RunStatus] = TypeAdapter(RunStatus)
_TIME: TypeAdapter[datetime] = TypeAdapter(datetime)
_MOST = 500


async def start(call: Call) -> Response:
    """Start a run of a workflow; its input is the body."""
    name = call.path("workflow")
    if name not in call.site.workflows:
        known = ", ".join(sorted(call.site.workflows)) or "none"
        msg = f"there is no workflow {name!r}; there are: {known}"
        raise Problem(404, msg, kind="workflow-not-found")
    key = idempotency_key(call)
    given = await call.body()
    _refuse_draining(call)
    run = await call.runner.start(
        call.site.workflows[name], checked_input(call, name, given), run_id=key
    )
    detail = await _waited_for(call, run)
    has_ended = detail.status in ENDED
    headers = {"Location": call.link("api", "runs", run.run_id)}
    if call.wait_seconds:
        headers["Preference-Applied"] = f"wait={call.wait_seconds:g}"
    return reply(detail, 200 if has_ended else 202, headers)


async def runs(call: Call) -> Response:
    """List runs, the newest first."""
    query = call.request.query_params
    known = {"workflow", "status", "parent", "queue", "before", "limit"}
    known |= {"created_after", "created_before"}
    metadata: dict[str, Any] = {}
    for name in query:
        if name.startswith("metadata."):
            metadata[name.removeprefix("metadata.")] = query[name]
        elif name not in known:
            raise Problem(400, f"there is no filter {name!r}", kind="malformed")
    limit = query.get("limit", "50")
    if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:5]) <= _MOST):
        raise Problem(400, f"limit={limit!r} must be from 1 to {_MOST}", kind="malformed")
    try:
        found = await call.runner.list(
            workflow=query.get("workflow"),
            status=[_STATUS.validate_python(status) for status in query.getlist("status")],
            created_after=_time(query.get("created_after")),
            created_before=_time(query.get("created_before")),
            metadata=metadata,
            parent=query.get("parent"),
            queue=query.get("queue"),
            before=query.get("before"),
            limit=int(limit),
        )
    except ValidationError as error:
        text = error.errors(include_url=False)[0]["msg"]
        raise Problem(400, f"a filter is malformed: {text}", kind="malformed") from None
    except (OverflowError, ValueError) as error:
        # A time of the first or the last day, without an offset, may lie beyond all times here.
        raise Problem(400, f"a filter is malformed: {error}", kind="malformed") from None
    page = [RunView(**fields_of(info, call.redaction)) for info in found]
    following = found[-1].run_id if len(found) == int(limit) else None
    return reply(RunList(runs=page, next=following))


async def run(call: Call) -> Response:
    """A run, with its result or its error once it has ended."""
    run_id = call.path("run_id")
    if call.wait_seconds:
        return reply(await _waited_for(call, await call.runner.get(run_id)))
    return reply(await detail_of(call, run_id))


async def result(call: Call) -> Response:
    """A run's result alone."""
    run_id = call.path("run_id")
    if call.wait_seconds:
        detail = await _waited_for(call, await call.runner.get(run_id))
    else:
        detail = await detail_of(call, run_id)
    if detail.status not in ENDED:
        return reply(detail, 202, {"Retry-After": "1"})
    if detail.status != "completed":
        error = None if detail.error is None else detail.error.model_dump()
        msg = f"run {run_id!r} has {detail.status}, and has no result"
        raise Problem(409, msg, kind="run-failed", error=error)
    body = TypeAdapter(Any).dump_json(detail.result)
    return Response(body, media_type="application/json")


async def nodes(call: Call) -> Response:
    """What a run has done so far, as the tree of its nodes."""
    root = await tree_of(call.runner, call.path("run_id"))
    return reply(node_view(root, call.redaction))


async def event(call: Call) -> Response:
    """The value of an event that a run has set."""
    run_id, name = call.path("run_id"), call.path("event")
    # The journal takes its time, also where nobody wants to wait.
    value = await call.runner.event(run_id, name, timeout=max(call.wait_seconds, 0.25))
    return reply(EventView(name=name, value=call.redaction.of_value(value)))


async def publish(call: Call) -> Response:
    """Publish an event, with the body as its payload; it starts whatever listens to it."""
    name = call.path("event")
    listening = call.runner._listeners.get(name)
    if not listening:
        raise Problem(404, f"nothing listens to event {name!r}", kind="event-not-found")
    key = idempotency_key(call)
    given = await call.body()
    _refuse_draining(call)
    payload = checked_input(call, listening[0], given)
    started = await call.runner.publish(name, payload, event_id=key)
    return reply(Published(run_ids=[run.run_id for run in started]), 202)


def idempotency_key(call: Call) -> str | None:
    """The request's `Idempotency-Key`, which makes sending it twice the same as once."""
    header = call.request.headers.get("idempotency-key")
    if header is None:
        return None
    key = header[1:-1] if len(header) > 1 and header[0] == header[-1] == '"' else header
    if not _KEY.fullmatch(key):
        msg = "an Idempotency-Key has 1 to 200 letters, digits and . _ : @ + ~ = -"
        raise Problem(400, msg, kind="malformed")
    return key


def checked_input(call: Call, workflow: str, given: bytes) -> Any:
    """The input of a workflow, of the type that it takes.

    Raises:
        Problem: What was given is no such thing.
    """
    try:
        return call.site.input_of(workflow).validate_json(given, strict=True)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False, include_context=False)
        msg = f"the body is no input of workflow {workflow!r}: {error.error_count()} errors"
        raise Problem(422, msg, kind="invalid-input", errors=errors) from None


async def detail_of(call: Call, run_id: str) -> RunDetail:
    """A run with its result or error, as whoever asks may see it.

    Raises:
        RunNotFoundError: There is no such run.
    """
    stored = await call.runner._find(run_id)
    fields = fields_of(RunInfo.of(stored, call.runner._codec), call.redaction)
    try:
        outcome = await call.runner._outcome_in(stored)
    except JournalError as unreadable:
        outcome = Failure(unreadable)
    match outcome:
        case Success(value):
            return RunDetail(**fields, result=call.redaction.of_value(value))
        case Failure(error):
            return RunDetail(**fields, error=error_view(error, call.redaction))
        case _:
            return RunDetail(**fields)


async def _waited_for(call: Call, run: Run[Any]) -> RunDetail:
    if call.wait_seconds:
        # How it ended is told from the journal, as anybody else is told.
        with call.site.held(call.wait_seconds), suppress(Exception):
            await run.result()
    return await detail_of(call, run.run_id)


def _refuse_draining(call: Call) -> None:
    if call.site.is_draining:
        headers = {"Retry-After": "5"}
        raise Problem(503, "the server is about to end", kind="draining", headers=headers)


def _time(text: str | None) -> datetime | None:
    return None if text is None else _TIME.validate_python(text)
