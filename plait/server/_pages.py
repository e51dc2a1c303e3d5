"""The dashboard's pages: the list of runs, a run, and the workflows."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from pydantic import TypeAdapter

from plait.durable import RunNotFoundError
from plait.durable._stored import ENDED, RunStatus
from plait.durable._timeline import tree_of
from plait.durable._types import input_adapter
from plait.primitives import SignalPrimitive
from plait.primitives._drawing import draw
from plait.server._rows import timeline_of
from plait.server._runs import detail_of
from plait.server._scale import duration
from plait.server._shape import states_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.responses import Response

    from plait.durable import RunInfo
    from plait.primitives import WorkflowPrimitive
    from plait.server._dashboard import Page

STATUSES: tuple[RunStatus, ...] = (
    "queued", "running", "waiting", "completed", "failed", "cancelled",
)  # fmt: skip
_DONE = {
    "started": "The run was started.",
    "signalled": "The signal was sent.",
    "cancelled": "The run was asked to stop.",
    "resumed": "The run goes on from what failed.",
    "forked": "This run goes on from the other one.",
}
_PAGE = 25
_SEARCHED = 1000
_FORKED = 500


class Ask(NamedTuple):
    """A signal that a run waits for, and how to answer it."""

    name: str
    path: str
    until: Any
    is_decision: bool
    template: str


async def runs(page: Page) -> Response:
    """The list of runs."""
    query = page.request.query_params
    status = query.get("status", "")
    wanted = {
        "workflow": query.get("workflow") or None,
        "status": [status] if status in STATUSES else [],
    }
    search = query.get("q", "").strip()
    found, following = await _found(page, wanted, search, query.get("before"))
    kept = {"q": search, "workflow": wanted["workflow"] or "", "status": status}
    more = None
    if following is not None:
        more = urlencode({**{k: v for k, v in kept.items() if v}, "before": following})
    return page.render(
        "runs.html",
        runs=[await detail_of_row(page, info) for info in found],
        statuses=STATUSES,
        workflows=sorted(page.site.workflows),
        filters=kept,
        more=more,
        is_first="before" not in query,
    )


async def detail_of_row(page: Page, info: RunInfo) -> dict[str, Any]:
    """What the list shows of a run."""
    return {
        "info": info,
        "signal": next((wait.signal for wait in info.waits if wait.signal), None),
        "progress": info.progress if page.site.redaction.payloads else None,
    }


async def run(page: Page) -> Response:
    """A run's page."""
    run_id = page.path("run_id")
    return await run_page(page, run_id)


async def run_page(page: Page, run_id: str, error: str = "", status: int = 200) -> Response:
    """A run's page, perhaps with what went wrong when something was asked of it."""
    info = await page.runner.info(run_id)
    detail = await detail_of(page, run_id)
    root = await tree_of(page.runner, run_id)
    now = datetime.now(UTC)
    is_over = info.status in ENDED
    workflow = page.site.workflows.get(info.workflow)
    drawing = None
    if workflow is not None and workflow.children:
        drawing = draw(workflow, states_of(workflow, root))
    return page.render(
        "run.html",
        status,
        info=info,
        detail=detail,
        input=await _input(page, run_id),
        timeline=timeline_of(root, page.redaction, now),
        is_over=is_over,
        drawing=drawing,
        asks=[] if workflow is None else list(_asks(page, workflow, info)),
        took=duration(((info.updated_at if is_over else now) - info.created_at).total_seconds()),
        paths=[node.path for node in root.recorded()[-_FORKED:]],
        done=_DONE.get(page.request.query_params.get("done", "")),
        error=error,
    )


async def workflows(page: Page) -> Response:
    """What can be started."""
    return await workflows_page(page)


async def workflows_page(page: Page, error: str = "", given: str = "", name: str = "") -> Response:
    """What can be started, perhaps with what was wrong with an input."""
    shown = [
        {
            "name": known_as,
            "about": _about(workflow),
            "drawing": draw(workflow),
            "template": given if known_as == name else _template(input_adapter(workflow)),
            "error": error if known_as == name else "",
        }
        for known_as, workflow in sorted(page.site.workflows.items())
    ]
    return page.render("workflows.html", 422 if error else 200, workflows=shown)


def _about(workflow: WorkflowPrimitive[Any, Any]) -> str:
    """The first line of what is said of a workflow where it is written; empty for none."""
    said = workflow.__doc__
    return (said or "").strip().partition("\n")[0] if said != type(workflow).__doc__ else ""


async def _found(
    page: Page, wanted: dict[str, Any], search: str, before: str | None
) -> tuple[list[RunInfo], str | None]:
    """The runs of a list, and where it goes on."""
    runner = page.runner
    name, is_metadata, value = search.partition("=")
    if search and not is_metadata:
        try:
            return [await runner.info(search)], None
        except RunNotFoundError:
            recent = await runner.list(**wanted, limit=_SEARCHED)
            return [info for info in recent if search in info.run_id][:_PAGE], None
    metadata = {name.strip(): value.strip()} if is_metadata else None
    found = await runner.list(**wanted, metadata=metadata, before=before, limit=_PAGE)
    return found, found[-1].run_id if len(found) == _PAGE else None


async def _input(page: Page, run_id: str) -> Any:
    stored = await page.runner._find(run_id)
    payload = await page.runner._blobs.get(stored.start.payload, run_id)
    try:
        return page.redaction.of_value(page.runner._codec.decode(payload))
    except ValueError as error:
        return f"cannot be decoded: {error}"


def _asks(page: Page, workflow: WorkflowPrimitive[Any, Any], info: RunInfo) -> Iterator[Ask]:
    """The signals that a run waits for."""
    awaited = page.runner._executor.awaited.get(info.workflow, {})
    for wait in info.waits:
        if wait.signal is None:
            continue
        types = [*awaited.get(wait.signal, ()), *_payload_types(workflow, wait.signal)]
        kind = next(iter(types), object)
        adapter: TypeAdapter[Any] = TypeAdapter(Any if kind is object else kind)
        yield Ask(wait.signal, wait.path, wait.until, kind is bool, _template(adapter))


def _payload_types(primitive: WorkflowPrimitive[Any, Any], signal: str) -> Iterator[Any]:
    if isinstance(primitive, SignalPrimitive) and primitive.signal == signal:
        yield primitive.payload_type
    for child in primitive.children:
        yield from _payload_types(child, signal)


_EXAMPLES = {"string": "", "integer": 0, "number": 0.0, "boolean": True, "array": [], "null": None}


def _template(adapter: TypeAdapter[Any]) -> str:
    """Something of a type's form, for a person to fill in."""
    schema = adapter.json_schema()
    return json.dumps(_example(schema, schema.get("$defs", {}), 0), indent=2)


def _example(schema: dict[str, Any], definitions: dict[str, Any], depth: int) -> Any:
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if "default" in schema:
        return schema["default"]
    if depth < 4 and (choices := schema.get("anyOf") or schema.get("oneOf")):
        return _example(choices[0], definitions, depth + 1)
    if choices := schema.get("enum"):
        return choices[0]
    if schema.get("type") == "object":
        properties = schema.get("properties", {}) if depth < 4 else {}
        return {name: _example(of, definitions, depth + 1) for name, of in properties.items()}
    return _EXAMPLES.get(schema.get("type", "null"))
