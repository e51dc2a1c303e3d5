"""Endpoints that act on runs: signal, cancel, resume, fork."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError
from starlette.responses import Response

from plait.server._models import Cancelled, ForkRequest
from plait.server._problems import Problem
from plait.server._runs import detail_of, idempotency_key
from plait.server._site import reply

if TYPE_CHECKING:
    from plait.server._site import Call


async def signal(call: Call) -> Response:
    """Send a run a signal; the body is what it brings."""
    run_id, name = call.path("run_id"), call.path("signal")
    key = idempotency_key(call)
    payload = await call.json()
    await call.runner.info(run_id)
    try:
        await call.runner.signal(run_id, name, payload, signal_id=key)
    except ValueError as error:
        raise Problem(422, str(error), kind="invalid-signal") from None
    return Response(status_code=204)


async def cancel(call: Call) -> Response:
    """Ask a run to stop; what its compensations undo is undone."""
    run_id = call.path("run_id")
    was_under_way = await call.runner.cancel(run_id)
    return reply(Cancelled(run_id=run_id, was_under_way=was_under_way), 202)


async def resume(call: Call) -> Response:
    """Carry a failed run on from what failed."""
    run_id = call.path("run_id")
    try:
        await call.runner.resume(run_id)
    except ValueError as error:
        raise Problem(409, str(error), kind="not-here") from None
    return reply(await detail_of(call, run_id), 202)


async def fork(call: Call) -> Response:
    """Start a run that goes on from a point of another one."""
    run_id, given = call.path("run_id"), await call.json()
    try:
        wanted = ForkRequest.model_validate({} if given is None else given)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False, include_context=False)
        msg = "the body says from where, and as what, to fork the run"
        raise Problem(422, msg, kind="invalid-input", errors=errors) from None
    try:
        run = await call.runner.fork(run_id, before=wanted.before, new_run_id=wanted.run_id)
    except ValueError as error:
        raise Problem(409, str(error), kind="not-here") from None
    detail = await detail_of(call, run.run_id)
    return reply(detail, 202, {"Location": call.link("api", "runs", run.run_id)})
