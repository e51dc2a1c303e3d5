"""The command's parts."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from plait.cli import _runs
from plait.cli._inspecting import doctor, graph, schedules, verify
from plait.cli._run import run
from plait.cli._serve import serve, token, worker
from plait.cli._trace import trace

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    epilog=(
        "Exit codes: 0 done, 1 the run failed or does not fit, 2 wrong usage, 3 not found, "
        "4 the run has not ended yet, 5 the journal cannot be used."
    ),
)


def _tell_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"plait {version('plait')}")
        raise typer.Exit


@app.callback()
def _plait(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_tell_version, is_eager=True),
    ] = False,
) -> None:
    """Run workflows, serve them, and look at what they do."""


for command in (run, serve, worker, trace, graph, verify, schedules, doctor, token):
    app.command()(command)
app.add_typer(_runs.app, name="runs")
