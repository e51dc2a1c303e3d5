"""What a command's arguments stand for: workflows, runners, inputs, journals."""

from __future__ import annotations

import importlib
import os
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer
from pydantic import ValidationError

from plait.cli._output import CommandError, Exit
from plait.durable import DurableRunner, JsonCodec, PostgresJournal
from plait.durable._blobs import Blobs
from plait.durable._client import RunClient
from plait.durable._known import known_as
from plait.durable._runner import _journal_at
from plait.durable._topics import Topics
from plait.durable._types import input_adapter
from plait.primitives import WorkflowPrimitive
from plait.primitives._decorators import as_primitive

if TYPE_CHECKING:
    from collections.abc import Sequence

RunId = Annotated[str, typer.Argument(metavar="RUN_ID")]
JournalOption = Annotated[
    str,
    typer.Option(
        "--journal",
        envvar="PLAIT_JOURNAL",
        help="Where runs are kept, as sqlite:///runs.db or postgresql://user@host/database.",
    ),
]
AppOption = Annotated[
    list[str],
    typer.Option("--app", envvar="PLAIT_APP", help="module:workflow, or module:runner."),
]
SeenInOption = Annotated[
    list[str] | None,
    typer.Option(
        "--app", envvar="PLAIT_APP", help="module:runner, for its journal, codec and blobs."
    ),
]


def load(target: str) -> Any:
    """What `module:name` stands for; the module may lie in the current folder.

    Raises:
        CommandError: There is no such module or name.
    """
    module_name, separator, name = target.partition(":")
    if not separator or not name or not module_name:
        msg = f"{target!r} is not of the form module:name"
        raise CommandError(msg)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module_name}.".startswith(f"{missing}."):
            msg = f"there is no module {module_name!r} here or on the path"
            raise CommandError(msg, Exit.NOT_FOUND) from error
        msg = f"module {module_name!r} cannot be imported: {_told(error)}"
        raise CommandError(msg) from error
    for part in name.split("."):
        if not hasattr(found, part):
            msg = f"{module_name!r} has no {name!r}"
            raise CommandError(msg, Exit.NOT_FOUND)
        found = getattr(found, part)
    return found


def _told(error: Exception) -> str:
    """An error with where it was raised, which is a place in what was to be loaded."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    name = type(error).__name__
    if isinstance(error, SyntaxError):
        return f"{name}: {error}"
    return f"{name}: {error} ({place.filename}, line {place.lineno})"


def workflow_at(target: str) -> WorkflowPrimitive[Any, Any]:
    """A workflow, or a function as one.

    Raises:
        CommandError: There is none.
    """
    found = load(target)
    if isinstance(found, DurableRunner):
        msg = f"{target!r} is a runner; name a workflow, and the runner with --app"
        raise CommandError(msg)
    try:
        return as_primitive(found)
    except TypeError as error:
        raise CommandError(str(error)) from error


def runner_at(targets: Sequence[str], journal: str, **options: Any) -> DurableRunner:
    """A runner: the one that is named, or one for the workflows that are.

    Raises:
        CommandError: There is none, or there are several, or no journal is named for workflows.
    """
    found = [load(target) for target in targets]
    runners = [it for it in found if isinstance(it, DurableRunner)]
    if runners:
        if len(found) > 1:
            msg = "name one runner, or workflows"
            raise CommandError(msg)
        return runners[0]
    if not found:
        msg = "name the workflows, or a runner, as module:name"
        raise CommandError(msg)
    if not journal:
        msg = "name the journal with --journal or PLAIT_JOURNAL, as sqlite:///runs.db"
        raise CommandError(msg)
    workflows = [workflow_at(target) for target in targets]
    return DurableRunner(journal, workflows=workflows, **options)


def client_at(journal: str, application: Sequence[str] = ()) -> RunClient:
    """What looks at the runs of a journal that is there, and executes none.

    Args:
        journal: The journal's address.
        application: Workflows, or a runner, whose journal it then is; it is not entered.

    Raises:
        CommandError: There is none.
    """
    found = [load(target) for target in application]
    if runner := next((it for it in found if isinstance(it, DurableRunner)), None):
        return RunClient(runner._journal, runner._codec, runner._blobs, Topics(), time.time)
    if not journal:
        msg = "name the journal with --journal or PLAIT_JOURNAL, as sqlite:///runs.db"
        raise CommandError(msg)
    found_journal(journal)
    return RunClient(_journal_at(journal), JsonCodec(), Blobs(None), Topics(), time.time)


def found_journal(journal: str) -> Path | PostgresJournal:
    """The file of a journal that is there, or the one that is in a database.

    Raises:
        CommandError: There is none.
        JournalError: Its server cannot be asked.
        ValueError: It is no address of one.
    """
    found = _journal_at(journal)
    if isinstance(found, PostgresJournal):
        if anyio.run(found.examine).is_there:
            return found
        msg = f"there is no journal yet where {found.name} would be: a worker makes it"
        raise CommandError(msg, Exit.NOT_FOUND)
    file = Path(journal.partition(":///")[2])
    if not file.exists():
        msg = f"there is no journal {file}"
        raise CommandError(msg, Exit.NOT_FOUND)
    return file


def input_text(given: str | None) -> bytes:
    """An input as JSON: itself, `@file`, or `-` for what comes through the pipe."""
    if given is None:
        return b"null"
    if given == "-":
        return sys.stdin.buffer.read()
    if not given.startswith("@"):
        return os.fsencode(given)
    try:
        return Path(given[1:]).read_bytes()
    except OSError as error:
        code = Exit.NOT_FOUND if isinstance(error, FileNotFoundError) else Exit.USAGE
        msg = f"the input {given[1:]!r} cannot be read: {error.strerror}"
        raise CommandError(msg, code) from error


def input_of(workflow: WorkflowPrimitive[Any, Any], given: str | None) -> Any:
    """The input of a workflow, of the type that it takes.

    Raises:
        CommandError: It is no such thing.
    """
    try:
        return input_adapter(workflow).validate_json(input_text(given), strict=True)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, it['loc']))}: {it['msg']}".removeprefix(": ")
            for it in error.errors(include_url=False)
        )
        msg = f"that is no input of {known_as(workflow)!r}: {problems}"
        raise CommandError(msg) from error
