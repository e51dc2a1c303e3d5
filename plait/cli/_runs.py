"""`plait runs`: what a journal keeps, and acting on it."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer
from rich.text import Text

from plait.cli._asking import ask
from plait.cli._durations import seconds_in
from plait.cli._executing import durably, shown, tell, until_signalled
from plait.cli._loading import (
    AppOption,
    JournalOption,
    RunId,
    SeenInOption,
    input_text,
    runner_at,
)
from plait.cli._output import CommandError, Exit, Json, Output, output
from plait.cli._telling import (
    STYLES,
    awaited,
    drawn,
    fields_of,
    node_fields,
    payload_line,
    payload_told,
    status_of,
    tell_node,
    tell_waits,
)
from plait.durable._readable import readable
from plait.durable._stored import ENDED
from plait.durable._timeline import tree_of
from plait.primitives import Failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from plait.durable import DurableRunner, Run, RunInfo
    from plait.durable._client import RunClient
    from plait.durable._timeline import Node

app = typer.Typer(no_args_is_help=True, help="Look at the runs of a journal, and act on them.")

Workflow = Annotated[str | None, typer.Option(help="Only those of this workflow.")]

_TAIL_SECONDS = 0.2


@app.command("list")
def list_(
    journal: JournalOption = "",
    application: SeenInOption = None,
    workflow: Workflow = None,
    status: Annotated[list[str] | None, typer.Option(help="Only those with this status.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(help="Only those with this NAME=VALUE.")
    ] = None,
    before: Annotated[str | None, typer.Option(help="Only those started before this run.")] = None,
    limit: Annotated[int, typer.Option(help="How many at the most.")] = 50,
    is_json: Json = False,
) -> None:
    """List runs, the newest first."""
    with output(is_json=is_json) as printed:
        statuses: Any = status or ()
        if unknown := set(statuses).difference(STYLES):
            msg = f"{min(unknown)!r} is no status; there are {', '.join(STYLES)}"
            raise CommandError(msg)
        pairs = [it.partition("=") for it in metadata or ()]
        wanted = {name: value for name, _, value in pairs}

        async def found(client: RunClient) -> list[RunInfo]:
            return await client.list(
                workflow=workflow, status=statuses, metadata=wanted, before=before, limit=limit
            )

        runs = ask(found, journal, application)
        if is_json:
            printed.value([fields_of(info) for info in runs])
            return
        printed.table(
            ("RUN", "WORKFLOW", "STATUS", "STARTED", "WAITS FOR"),
            [
                (
                    info.run_id,
                    info.workflow,
                    status_of(info),
                    f"{info.created_at:%Y-%m-%d %H:%M:%S}",
                    ", ".join(map(awaited, info.waits)),
                )
                for info in runs
            ],
        )


@app.command()
def show(
    run_id: RunId,
    journal: JournalOption = "",
    application: SeenInOption = None,
    is_json: Json = False,
) -> None:
    """Show a run: what it did, and what it waits for."""
    with output(is_json=is_json) as printed:

        async def found(client: RunClient) -> tuple[RunInfo, Node, dict[str, Any]]:
            stored = await client._find(run_id)
            payloads = {"input": stored.start.payload, "outcome": stored.outcome}
            kept = {
                name: await payload_told(client, payload, run_id)
                for name, payload in payloads.items()
            }
            return await client.info(run_id), await tree_of(client, run_id), kept

        info, root, kept = ask(found, journal, application)
        if is_json:
            printed.value({**fields_of(info), **kept, "nodes": node_fields(root)})
            return
        workflow = (info.workflow, "dim")
        printed.out.print(Text.assemble(info.run_id, "  ", status_of(info), "  ", workflow))
        tell_waits(info, printed)
        printed.out.print(Text.assemble(("input  ", "dim"), payload_line(kept["input"])))
        if info.status == "completed":
            printed.out.print(Text.assemble(("result ", "dim"), payload_line(kept["outcome"])))
        printed.drawing(drawn(root))


@app.command()
def tail(
    run_id: RunId,
    journal: JournalOption = "",
    application: SeenInOption = None,
    is_json: Json = False,
) -> None:
    """Follow a run until it ends; the command ends as it does."""
    with output(is_json=is_json) as printed:
        _tell_end(run_id, ask(partial(_followed, run_id, printed), journal, application), printed)


@app.command()
def signal(
    run_id: RunId,
    name: Annotated[str, typer.Argument(help="The signal's name.")],
    payload: Annotated[str | None, typer.Argument(help="JSON, @file, or -.")] = None,
    signal_id: Annotated[
        str | None, typer.Option("--id", help="Makes sending it twice the same as once.")
    ] = None,
    journal: JournalOption = "",
    application: SeenInOption = None,
    is_json: Json = False,
) -> None:
    """Send a run a signal, which is kept until it waits for it."""
    with output(is_json=is_json) as printed:
        try:
            brought = json.loads(input_text(payload))
        except ValueError as error:
            msg = f"the payload is not JSON: {error}"
            raise CommandError(msg) from error

        async def send(client: RunClient) -> None:
            # One that is written otherwise than its run could not be read there.
            readable((await client._find(run_id)).start.context, client._codec)
            await client.signal(run_id, name, brought, signal_id=signal_id)

        ask(send, journal, application)
        _said(printed, f"sent {name!r} to run {run_id!r}", run_id=run_id, signal=name)


@app.command()
def cancel(
    run_id: RunId,
    journal: JournalOption = "",
    application: SeenInOption = None,
    is_json: Json = False,
) -> None:
    """Ask a run to stop, once whoever executes it has undone what is to be undone."""
    with output(is_json=is_json) as printed:

        async def stop(client: RunClient) -> bool:
            return await client.cancel(run_id)

        was_under_way = ask(stop, journal, application)
        said = "was asked to stop" if was_under_way else "had ended already"
        _said(printed, f"run {run_id!r} {said}", run_id=run_id, was_under_way=was_under_way)


@app.command()
def resume(
    run_id: RunId,
    application: AppOption,
    journal: JournalOption = "",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="End once it only waits.")] = False,
    is_json: Json = False,
) -> None:
    """Carry a failed run on from what failed, here, and print its result."""

    async def start(runner: DurableRunner) -> Run[Any]:
        return await runner.resume(run_id)

    _execute(application, journal, start, is_json=is_json, is_to_wait=not no_wait)


@app.command()
def fork(
    run_id: RunId,
    application: AppOption,
    journal: JournalOption = "",
    before: Annotated[
        str | None, typer.Option(help="Keep what was recorded before this path; all by default.")
    ] = None,
    new_run_id: Annotated[str | None, typer.Option("--as", help="The new run's id.")] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="End once it only waits.")] = False,
    is_json: Json = False,
) -> None:
    """Start a run that goes on from a point of another one, here, and print its result."""

    async def start(runner: DurableRunner) -> Run[Any]:
        return await runner.fork(run_id, before=before, new_run_id=new_run_id)

    _execute(application, journal, start, is_json=is_json, is_to_wait=not no_wait)


@app.command()
def export(
    run_ids: Annotated[list[str] | None, typer.Argument(metavar="[RUN_ID]...")] = None,
    journal: JournalOption = "",
    application: SeenInOption = None,
    to: Annotated[Path | None, typer.Option("--output", "-o", help="A file.")] = None,
    is_json: Annotated[
        bool, typer.Option("--json", help="Say in JSON what goes wrong, too.")
    ] = False,
) -> None:
    """Print all that the journal keeps of runs, as lines of JSON; of all runs by default."""
    with output(is_json=is_json) as printed:

        async def write(client: RunClient) -> None:
            lines = client.export(*(run_ids or ()))
            if to is None:
                async for line in lines:
                    sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
                return
            count = 0
            async with await anyio.open_file(to, "w") as file:
                async for line in lines:
                    await file.write(f"{line}\n")
                    count += 1
            printed.note(f"{count} lines in {to}")

        ask(write, journal, application)


@app.command()
def prune(
    older_than: Annotated[str, typer.Option(help="How long ago they ended, as 30d.")],
    status: Annotated[
        list[str] | None, typer.Option(help="Only those that completed, failed or cancelled.")
    ] = None,
    journal: JournalOption = "",
    application: SeenInOption = None,
    is_json: Json = False,
) -> None:
    """Remove runs that ended some time ago, with all that is recorded of them."""
    with output(is_json=is_json) as printed:
        seconds = seconds_in(older_than)
        statuses: Any = tuple(status or ENDED)

        async def remove(client: RunClient) -> int:
            return await client.prune(seconds, status=statuses)

        count = ask(remove, journal, application)
        _said(printed, f"{count} runs were removed", removed=count)


def _execute(
    application: list[str],
    journal: str,
    start: Callable[[DurableRunner], Awaitable[Run[Any]]],
    *,
    is_json: bool,
    is_to_wait: bool,
) -> None:
    with output(is_json=is_json) as printed:
        runner = runner_at(application, journal, grace_seconds=0)
        execute = partial(durably, runner, start, is_to_wait=is_to_wait)
        tell(printed, *shown(printed, execute, is_shown=not is_json))


async def _followed(run_id: str, printed: Output, client: RunClient) -> str | None:
    """Print each node as it is recorded; the run's status at its end."""

    async def follow() -> str:
        seen: set[tuple[str, str]] = set()
        while True:
            info = await client.info(run_id)
            for node in (await tree_of(client, run_id)).recorded():
                key = (node.path, node.state)
                if key not in seen:
                    seen.add(key)
                    tell_node(node, printed)
            if info.status in ENDED:
                return info.status
            await anyio.sleep(_TAIL_SECONDS)

    ended = await until_signalled(follow)
    if isinstance(ended, Failure):
        raise ended.error
    return None if ended is None else ended.value


def _tell_end(run_id: str, status: str | None, printed: Output) -> None:
    if status is None:
        printed.fail(f"run {run_id!r} has not ended yet", Exit.SUSPENDED, run_id=run_id)
    if status != "completed":
        verb = "was" if status == "cancelled" else "has"
        printed.fail(f"run {run_id!r} {verb} {status}", Exit.FAILED, run_id=run_id)


def _said(printed: Output, text: str, **values: Any) -> None:
    if printed.is_json:
        printed.value(values)
    else:
        printed.text(text)
