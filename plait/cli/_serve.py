"""`plait serve`, `plait worker` and `plait token`."""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer

from plait.cli._durations import seconds_in
from plait.cli._executing import until_signalled
from plait.cli._loading import load, runner_at
from plait.cli._output import CommandError, Exit, Json, output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plait.cli._output import Output
    from plait.server import Server, Token

Targets = Annotated[
    list[str], typer.Argument(metavar="MODULE:NAME...", help="Workflows, or one runner.")
]
Journal = Annotated[
    str, typer.Option("--journal", envvar="PLAIT_JOURNAL", help="As sqlite:///runs.db.")
]


class Engine(StrEnum):
    """What carries runs."""

    PLAIT = "plait"
    RESTATE = "restate"


Grace = Annotated[
    float, typer.Option(help="How many seconds what is under way is given at the end.")
]


def serve(
    targets: Targets,
    journal: Journal = "",
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 for any that is free.")] = 8000,
    tokens: Annotated[
        Path | None,
        typer.Option(envvar="PLAIT_TOKENS", help="A file of tokens, as `plait token` writes."),
    ] = None,
    grace: Grace = 10,
    is_json: Json = False,
    engine: Annotated[
        Engine, typer.Option(help="What carries the runs: plait itself, or a Restate server.")
    ] = Engine.PLAIT,
) -> None:
    """Serve runs over HTTP, with a dashboard, and execute them, until SIGTERM or SIGINT.

    A target may also be an application that `plait.server.app` made. Without tokens, only this
    machine is let in. With `--engine restate`, workflows, or an application that
    `plait.durable.restate.app` made, are served to a Restate server instead, which is told of them
    by `curl ADMIN_ADDRESS/deployments --json '{"uri": "http://..."}'`.
    """
    with output(is_json=is_json) as printed:
        if engine is Engine.RESTATE:
            return _serve_to_restate(targets, host, port, printed)
        from plait.server import Server, app, serve
        from plait.server._security import tokens_in

        found = load(targets[0]) if len(targets) == 1 else None
        if isinstance(found, Server):
            application: Server = found
        else:
            known: Sequence[Token] = () if tokens is None else tokens_in(tokens)
            runner = runner_at(targets, journal, grace_seconds=grace)
            application = app(runner, tokens=known)

        def announce(address: str) -> None:
            _tell_address("serving at", address, printed)
            if application.site.guard.is_open:
                printed.note("no tokens are configured: only this machine is let in")

        return serve(application, host=host, port=port, announce=announce)


def _serve_to_restate(targets: Sequence[str], host: str, port: int, printed: Output) -> None:
    from plait.durable.restate import app, serve
    from plait.primitives import WorkflowPrimitive

    found = [load(target) for target in targets]
    is_made = len(found) == 1 and not isinstance(found[0], WorkflowPrimitive)
    application = found[0] if is_made else app(found)

    def announce(address: str) -> None:
        _tell_address("serving to Restate at", address, printed)

    serve(application, host=host, port=port, announce=announce)


def _tell_address(what: str, address: str, printed: Output) -> None:
    if printed.is_json:
        printed.value({"address": address})
    else:
        printed.text(f"{what} {address}")


def worker(
    targets: Targets,
    journal: Journal = "",
    grace: Grace = 10,
    capability: Annotated[
        list[str] | None,
        typer.Option(help="What is had here that steps may need, such as gpu; any number."),
    ] = None,
    max_running: Annotated[
        int, typer.Option(min=1, help="How many runs are taken from the journal at once.")
    ] = 200,
    is_json: Json = False,
) -> None:
    """Execute the runs of a journal that others start, until SIGTERM or SIGINT.

    Where the target is a runner, what it has is said there.
    """
    with output(is_json=is_json) as printed:
        runner = runner_at(
            targets,
            journal,
            grace_seconds=grace,
            capabilities=capability or (),
            max_running=max_running,
        )
        if lacking := set(capability or ()).difference(runner._executor._capabilities):
            msg = f"the runner {targets[0]!r} has no {min(lacking)!r} among its capabilities="
            raise CommandError(msg)

        async def work() -> None:
            names = sorted(runner._workflows)
            if is_json:
                printed.value({"workflows": names})
            else:
                printed.text(f"executing the runs of {', '.join(names)}")
            await anyio.sleep_forever()

        async def main() -> None:
            async with runner:
                await until_signalled(work)
                printed.note("taking no more runs")

        anyio.run(main)


def token(
    name: Annotated[str, typer.Argument(help="Whose it is.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="read, run or operate; all by default.")
    ] = None,
    expires_in: Annotated[str, typer.Option(help="Such as 90d; never by default.")] = "",
    file: Annotated[
        Path | None, typer.Option(help="Add it to this file, for `plait serve --tokens`.")
    ] = None,
    is_json: Json = False,
) -> None:
    """Make a bearer token, and print its secret, which is kept nowhere."""
    with output(is_json=is_json) as printed:
        from plait.server import Token
        from plait.server._security import SCOPES

        secret = secrets.token_urlsafe(32)
        scopes: Any = scope or SCOPES
        made = Token.of(name, secret, scopes=scopes)
        until = datetime.fromtimestamp(_now() + seconds_in(expires_in), UTC) if expires_in else None
        entry = {
            "name": name,
            "sha256": made.digest,
            "scopes": sorted(made.scopes),
            "expires_at": None if until is None else until.isoformat(),
        }
        if file is not None:
            _add(file, entry)
        if is_json:
            printed.value({"secret": secret, "entry": entry})
            return
        printed.text(secret)
        if file is None:
            printed.note(f"for the file of tokens: {json.dumps([entry])}")


def _add(file: Path, entry: dict[str, Any]) -> None:
    known: list[dict[str, Any]] = []
    with suppress(FileNotFoundError):
        known = json.loads(file.read_text())
    if any(it["name"] == entry["name"] for it in known):
        msg = f"{file} has a token named {entry['name']!r} already"
        raise CommandError(msg, Exit.USAGE)
    file.touch(mode=0o600)
    file.write_text(json.dumps([*known, entry], indent=2) + "\n")


def _now() -> float:
    return datetime.now(UTC).timestamp()
