"""`plait graph`, `plait verify`, `plait schedules` and `plait doctor`."""

from __future__ import annotations

import sqlite3
import sys
from datetime import UTC, datetime
from enum import StrEnum
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer
from rich.text import Text
from rich.tree import Tree

from plait.cli._health import health_of, tell_health
from plait.cli._loading import JournalOption, load, runner_at, workflow_at
from plait.cli._output import CommandError, Exit, Json, Output, output
from plait.durable import DurableRunner, JournalError, Verification, WorkflowChangedError
from plait.durable._opened import opened
from plait.primitives._drawing import draw

if TYPE_CHECKING:
    from plait.primitives import WorkflowPrimitive

_EXTRAS = {
    "agents": ("pydantic-ai-slim",),
    "blobs": ("obstore",),
    "cli": ("rich", "typer"),
    "encryption": ("cryptography",),
    "otel": ("opentelemetry-exporter-otlp", "opentelemetry-sdk"),
    "postgres": ("psycopg",),
    "redis": ("redis",),
    "restate": ("hypercorn", "restate-sdk"),
    "schedules": ("cronsim",),
    "server": ("jinja2", "starlette", "uvicorn"),
}
_TICKS = 3
_AT_ONCE = 1000


class Form(StrEnum):
    """How a shape is drawn."""

    TEXT = "text"
    MERMAID = "mermaid"
    SVG = "svg"
    JSON = "json"


def graph(
    target: Annotated[str, typer.Argument(metavar="MODULE:WORKFLOW")],
    form: Annotated[Form, typer.Option("--format", "-f", help="How it is drawn.")] = Form.TEXT,
    to: Annotated[Path | None, typer.Option("--output", "-o", help="A file.")] = None,
    is_json: Json = False,
) -> None:
    """Draw a workflow's shape."""
    with output(is_json=is_json) as printed:
        workflow = workflow_at(target)
        wanted = Form.JSON if is_json else form
        if wanted is Form.TEXT and to is None:
            whole = Tree("", hide_root=True)
            _grow(workflow, whole)
            printed.drawing(whole)
        elif wanted is Form.JSON and to is None:
            printed.value(workflow.describe())
        elif wanted in (Form.TEXT, Form.JSON):
            msg = "--output takes --format mermaid or svg"
            raise CommandError(msg)
        else:
            is_svg = wanted is Form.SVG
            text = draw(workflow, is_standalone=True) if is_svg else workflow.to_mermaid()
            if to is None:
                printed.text(text)
            else:
                to.write_text(f"{text}\n")


def verify(
    target: Annotated[str, typer.Argument(metavar="MODULE:NAME", help="A workflow or a runner.")],
    run_ids: Annotated[list[str] | None, typer.Argument(metavar="[RUN_ID]...")] = None,
    journal: JournalOption = "",
    is_json: Json = False,
) -> None:
    """Replay runs without executing anything: does the code still fit what they have done?

    All runs of the workflow that have not ended are looked at where none is named.
    """
    with output(is_json=is_json) as printed:
        runner = runner_at([target], journal)
        found = anyio.run(_verified, runner, run_ids or [])
        for one in found:
            _tell_verified(one, printed)
        if not is_json and not found:
            printed.note("no run is under way")
        if not all(one.fits for one in found):
            raise typer.Exit(Exit.FAILED)


def schedules(
    target: Annotated[str, typer.Argument(metavar="MODULE:RUNNER")], is_json: Json = False
) -> None:
    """Tell when a runner's schedules start their runs."""
    with output(is_json=is_json) as printed:
        runner = load(target)
        if not isinstance(runner, DurableRunner):
            msg = f"{target!r} is no DurableRunner"
            raise CommandError(msg)
        now = datetime.now(UTC)
        found: list[dict[str, Any]] = [
            {
                "name": schedule.name,
                "workflow": schedule.workflow.name,
                "when": str(schedule._when),
                "next": list(islice(schedule.ticks(now), _TICKS)),
            }
            for schedule in runner._schedules
        ]
        if is_json:
            printed.value(found)
            return
        printed.table(
            ("SCHEDULE", "WORKFLOW", "WHEN", "NEXT"),
            [
                (
                    one["name"],
                    one["workflow"],
                    one["when"],
                    ", ".join(f"{tick:%Y-%m-%d %H:%M:%S}" for tick in one["next"]),
                )
                for one in found
            ],
        )


def doctor(journal: JournalOption = "", is_json: Json = False) -> None:
    """Tell what is installed, and whether a journal is in order."""
    with output(is_json=is_json) as printed:
        installed = {extra: {name: _version(name) for name in of} for extra, of in _EXTRAS.items()}
        health = health_of(journal) if journal else None
        is_well = health is None or health["problems"] == []
        if is_json:
            python = sys.version.split()[0]
            printed.value(
                {
                    "plait": _version("plait"),
                    "python": python,
                    "sqlite": sqlite3.sqlite_version,
                    "extras": installed,
                    "journal": health,
                }
            )
        else:
            _tell_installed(installed, printed)
            if health is not None:
                tell_health(health, printed)
        if not is_well:
            raise typer.Exit(Exit.FAILED)


def _grow(primitive: WorkflowPrimitive[Any, Any], into: Tree) -> None:
    kind = primitive._kind or type(primitive).__name__.removesuffix("Primitive").lower()
    kind = "" if kind == primitive.name else f"  {kind}"
    branch = into.add(Text.assemble(primitive.name, (kind, "dim")))
    for child in primitive.children:
        _grow(child, branch)


async def _verified(runner: DurableRunner, run_ids: list[str]) -> list[Verification]:
    # The runner is not entered: nothing is to be executed, or taken from another one.
    found: list[Verification] = []
    async with opened(runner._journal), anyio.create_task_group() as tasks:
        runner._executor.spawn_in(tasks)
        found += [await _verification(runner, it) for it in run_ids or await _under_way(runner)]
    return found


async def _under_way(runner: DurableRunner) -> list[str]:
    run_ids: list[str] = []
    before: str | None = None
    while page := await runner.list(
        status=("queued", "running", "waiting"), before=before, limit=_AT_ONCE
    ):
        run_ids += [info.run_id for info in page if info.workflow in runner._workflows]
        before = page[-1].run_id
    return run_ids


async def _verification(runner: DurableRunner, run_id: str) -> Verification:
    try:
        return await runner.verify(run_id)
    except JournalError as error:
        # One that cannot be read says nothing of the others.
        return Verification(run_id, WorkflowChangedError(str(error), ""), 0, None)


def _tell_verified(one: Verification, printed: Output) -> None:
    if printed.is_json:
        error = None if one.error is None else str(one.error)
        printed.value(
            {
                "run_id": one.run_id,
                "fits": one.fits,
                "error": error,
                "replayed": one.replayed,
                "stopped_at": one.stopped_at,
            }
        )
    elif one.fits:
        where = "" if one.stopped_at is None else f", next is {one.stopped_at}"
        printed.text(f"{one.run_id}: fits, {one.replayed} replayed{where}")
    else:
        printed.text(f"{one.run_id}: {one.error}")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _tell_installed(installed: dict[str, dict[str, str | None]], printed: Output) -> None:
    python = sys.version.split()[0]
    printed.text(f"plait {_version('plait')}, Python {python}, SQLite {sqlite3.sqlite_version}")
    rows: list[tuple[str, Text]] = []
    for extra, packages in installed.items():
        missing = [name for name, found in packages.items() if found is None]
        names = Text(", ".join(f"{name} {found}" for name, found in packages.items() if found))
        if missing:
            names = Text(f'missing {", ".join(missing)}: pip install "plait[{extra}]"', style="dim")
        rows.append((extra, names))
    printed.table(("EXTRA", "PACKAGES"), rows)
