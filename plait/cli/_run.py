"""`plait run`: a workflow from the shell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from plait.cli._executing import durably, shown, tell, until_signalled
from plait.cli._loading import input_of, runner_at, workflow_at
from plait.cli._output import Json, output
from plait.primitives import WorkflowContext

if TYPE_CHECKING:
    from plait.durable import DurableRunner, Run


def run(
    target: Annotated[str, typer.Argument(metavar="MODULE:WORKFLOW")],
    given: Annotated[
        str | None, typer.Option("--input", "-i", help="JSON, @file, or - for stdin.")
    ] = None,
    journal: Annotated[
        str,
        typer.Option(
            "--journal", envvar="PLAIT_JOURNAL", help="Run durably, as sqlite:///runs.db."
        ),
    ] = "",
    run_id: Annotated[
        str | None, typer.Option("--run-id", help="The run's id: the same one goes on.")
    ] = None,
    application: Annotated[
        str, typer.Option("--app", help="Run durably on this runner, as module:runner.")
    ] = "",
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="End once the run does nothing but wait.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Draw no tree.")] = False,
    is_json: Json = False,
) -> None:
    """Run a workflow, and print its result as JSON.

    Without a journal or a runner it runs in this process alone. With one, a run that is
    interrupted goes on when the same command is given again with its --run-id.
    """
    with output(is_json=is_json) as printed:
        workflow = workflow_at(target)
        input_data = input_of(workflow, given)

        async def start(runner: DurableRunner) -> Run[Any]:
            return await runner.start(workflow, input_data, run_id=run_id)

        async def call() -> Any:
            return await workflow.execute(input_data, WorkflowContext())

        async def main() -> Any:
            if application:
                return await durably(runner_at([application], ""), start, is_to_wait=not no_wait)
            if not journal:
                return None, await until_signalled(call)
            # One that is left as soon as it waits need not be kept in memory for a while.
            patience = {"suspend_after": 0.05} if no_wait else {}
            runner = runner_at([target], journal, grace_seconds=0, **patience)
            return await durably(runner, start, is_to_wait=not no_wait)

        tell(printed, *shown(printed, main, is_shown=not quiet and not is_json))
