"""What the dashboard's buttons do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from plait.durable import RunConflictError, RunEndedError
from plait.server import _sessions
from plait.server._pages import run_page, workflows_page
from plait.server._problems import Problem
from plait.server._runs import checked_input

if TYPE_CHECKING:
    from starlette.responses import Response

    from plait.server._dashboard import Page


async def start(page: Page) -> Response:
    """Start a run of a workflow."""
    name, given = page.path("workflow"), page.form.get("input", "")
    if name not in page.site.workflows:
        raise Problem(404, f"there is no workflow {name!r}", kind="workflow-not-found")
    try:
        _parsed(given)
        input_data = checked_input(page, name, given.encode())
    except Problem as problem:
        details = [
            f"{'.'.join(map(str, error['loc']))}: {error['msg']}".removeprefix(": ")
            for error in problem.extra.get("errors", ())
        ]
        return await workflows_page(page, "; ".join(details) or problem.detail, given, name)
    run = await page.runner.start(page.site.workflows[name], input_data)
    return page.redirect("runs", run.run_id, done="started")


async def signal(page: Page) -> Response:
    """Send a run a signal."""
    run_id, name = page.path("run_id"), page.form.get("signal", "")
    try:
        payload = _parsed(page.form.get("payload", ""))
        await page.runner.signal(run_id, name, payload)
    except Problem as problem:
        return await run_page(page, run_id, problem.detail, problem.status)
    except RunEndedError as error:
        return await run_page(page, run_id, str(error), 409)
    except ValueError as error:
        return await run_page(page, run_id, str(error), 422)
    return page.redirect("runs", run_id, done="signalled")


async def cancel(page: Page) -> Response:
    """Ask a run to stop."""
    run_id = page.path("run_id")
    await page.runner.cancel(run_id)
    return page.redirect("runs", run_id, done="cancelled")


async def resume(page: Page) -> Response:
    """Carry a failed run on."""
    run_id = page.path("run_id")
    try:
        await page.runner.resume(run_id)
    except ValueError as error:
        return await run_page(page, run_id, str(error), 409)
    return page.redirect("runs", run_id, done="resumed")


async def fork(page: Page) -> Response:
    """Start a run that goes on from a point of this one."""
    run_id, before = page.path("run_id"), page.form.get("before") or None
    try:
        run = await page.runner.fork(run_id, before=before)
    except (ValueError, RunConflictError) as error:
        return await run_page(page, run_id, str(error), 409)
    return page.redirect("runs", run.run_id, done="forked")


async def log_out(page: Page) -> Response:
    """End the session."""
    response = page.redirect("login")
    _sessions.end(page.request, response)
    return response


def _parsed(text: str) -> Any:
    try:
        return from_json(text or "null", allow_inf_nan=False)
    except ValueError as error:
        raise Problem(400, f"that is not JSON: {error}", kind="malformed") from None
