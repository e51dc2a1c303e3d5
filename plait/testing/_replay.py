"""Hold the code of a workflow against the runs that it has behind it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from plait.durable import DurableRunner, JournalError
from plait.durable._executor import Executor
from plait.durable._known import known_as
from plait.durable._opened import opened
from plait.durable._stored import RunQuery
from plait.durable._verification import verify
from plait.primitives._decorators import as_primitive
from plait.testing._surroundings import virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from plait.durable import Journal
    from plait.primitives import WorkflowPrimitive


class ReplayError(AssertionError):
    """A workflow no longer fits runs that a journal has of it."""


async def assert_replays(
    workflow: WorkflowPrimitive[Any, Any],
    journal: str | Journal | DurableRunner,
    *,
    limit: int = 1000,
) -> int:
    """Replay the runs that a journal has of a workflow, without executing a step.

    A completed run must come to its end, with the result that it had; one that is under way must
    come to where it is. Keep journals of real runs beside the tests: a change to a workflow that
    these could not survive is then found before it meets them.

    Args:
        workflow: The workflow, as it is now.
        journal: The journal, or its address; or the runner that has it open, which is asked as
            well how values are encoded and where large ones are. No run is changed.
        limit: How many runs at the most, the newest first.

    Returns:
        How many runs were replayed.

    Raises:
        ReplayError: A run does not fit, or there is none.
        JournalError: The journal cannot be read, or something in it cannot be decoded.

    Example:
        >>> import anyio
        >>> from plait import step
        >>> from plait.durable import DurableRunner, MemoryJournal
        >>> from plait.testing import assert_replays
        >>> old = (step(str.strip) >> str.title).named("names")
        >>> new = (step(str.strip) >> str.upper).named("names")
        >>> async def main() -> None:
        ...     async with DurableRunner(MemoryJournal()) as runner:
        ...         await runner.run(old, " ada ", run_id="run-1")
        ...         assert await assert_replays(old, runner) == 1
        ...         await assert_replays(new, runner)
        >>> anyio.run(main)
        Traceback (most recent call last):
        ...
        plait.testing.ReplayError: 'names' no longer fits 1 of 1 runs
        run 'run-1': 'names/2:upper' is recorded as 'names/2:title': the workflow was changed since
    """
    workflow = as_primitive(workflow)
    name = known_as(workflow)
    problems: list[str] = []
    failure: JournalError | None = None
    async with virtual_time(), _opened(journal) as runner:
        around = runner._executor
        stored = await around.journal.list(RunQuery(workflow=name, limit=limit))
        executor = Executor(
            around.journal,
            around.codec,
            around.blobs,
            {name: workflow},
            [],
            suspend_after=0,
            durability="sync",
        )
        async with anyio.create_task_group() as tasks:
            executor.spawn_in(tasks)
            try:
                for run in stored:
                    found = await verify(executor, run, await around.journal.records(run.key))
                    if found.error is not None:
                        problems.append(f"run {run.start.run_id!r}: {found.error}")
            except JournalError as error:
                failure = error
    if failure is not None:
        raise failure
    if not stored:
        msg = f"the journal has no runs of {name!r}, so that nothing was replayed"
        raise ReplayError(msg)
    if problems:
        head = f"{name!r} no longer fits {len(problems)} of {len(stored)} runs"
        raise ReplayError("\n".join((head, *problems)))
    return len(stored)


@asynccontextmanager
async def _opened(journal: str | Journal | DurableRunner) -> AsyncGenerator[DurableRunner, None]:
    """A runner whose journal is open, and which is not entered: it would carry runs on."""
    if isinstance(journal, DurableRunner):
        yield journal
        return
    runner = DurableRunner(journal)
    async with opened(runner._journal):
        yield runner
