"""Executing in this process, until a signal asks it to end."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.abc

from plait.cli._output import Exit, Output
from plait.cli._watching import watching
from plait.durable import JournalError, RunConflictError, WorkflowChangedError
from plait.primitives import Failure, Outcome, Success

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from plait.durable import DurableRunner, Run

T = TypeVar("T")

_POLL_SECONDS = 0.1
_NOT_ITS_OWN = (JournalError, RunConflictError, WorkflowChangedError)


async def until_signalled(call: Callable[[], Awaitable[T]]) -> Outcome[T] | None:
    """How a call ended; None where SIGINT or SIGTERM came before it had."""
    outcome: Outcome[T] | None = None
    listening, calling = anyio.CancelScope(), anyio.CancelScope()

    async def listen(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        with listening, anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                calling.cancel()

    async with anyio.create_task_group() as tasks:
        await tasks.start(listen)
        with calling:
            outcome = await _outcome_of(call)
        listening.cancel()
    return outcome


async def durably(
    runner: DurableRunner,
    start: Callable[[DurableRunner], Awaitable[Run[Any]]],
    *,
    is_to_wait: bool,
) -> tuple[str | None, Outcome[Any] | None]:
    """Execute a run here; its id, and how it ended."""
    run_id: str | None = None

    async def call() -> Outcome[Any] | None:
        nonlocal run_id
        run = await start(runner)
        run_id = run.run_id
        return await _ended(run, is_to_wait=is_to_wait)

    async with runner:
        outcome = await until_signalled(call)
    if isinstance(outcome, Failure):
        raise outcome.error
    return run_id, None if outcome is None else outcome.value


def shown(printed: Output, main: Callable[[], Coroutine[Any, Any, T]], *, is_shown: bool) -> T:
    """Run something, and draw what it executes where somebody sees that."""
    with watching(printed.err, is_shown=is_shown):
        return anyio.run(main)


def tell(printed: Output, run_id: str | None, outcome: Outcome[Any] | None) -> None:
    """Print how a run ended; one that did not complete ends the command."""
    known = {} if run_id is None else {"run_id": run_id}
    match outcome:
        case Success(value):
            ended = {**known, "status": "completed", "result": value}
            printed.value(ended if printed.is_json else value)
        case Failure(error) if isinstance(error, _NOT_ITS_OWN):
            raise error
        case Failure(error):
            kind = type(error).__qualname__
            if printed.is_json:
                printed.fail(str(error), Exit.FAILED, status="failed", type=kind, **known)
            notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
            printed.fail(f"{kind}: {error}{notes}", Exit.FAILED)
        case _:
            message = "interrupted" if run_id is None else f"run {run_id!r} has not ended yet"
            printed.fail(message, Exit.SUSPENDED, status="suspended", **known)


async def _outcome_of(call: Callable[[], Awaitable[T]]) -> Outcome[T]:
    try:
        return Success(await call())
    except Exception as error:  # noqa: BLE001 - told by whoever asked
        return Failure(error)


async def _ended(run: Run[Any], *, is_to_wait: bool) -> Outcome[Any] | None:
    """How a run ended; None where it only waits, and that is not to be waited for."""
    if is_to_wait:
        return await _outcome_of(run.result)
    outcome: Outcome[Any] | None = None
    looking, asking = anyio.CancelScope(), anyio.CancelScope()

    async def look() -> None:
        with looking:
            while (await run.info()).status != "waiting":  # noqa: ASYNC110
                await anyio.sleep(_POLL_SECONDS)
            asking.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        with asking:
            outcome = await _outcome_of(run.result)
        looking.cancel()
    return outcome
