"""The durable runner: starts runs, carries interrupted ones on, and hands out their results."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import anyio

from plait.durable._blobs import Blobs, BlobStore
from plait.durable._codec import Codec, JsonCodec
from plait.durable._executor import Executor
from plait.durable._journal import Journal
from plait.durable._postgres import PostgresJournal
from plait.durable._sqlite import SqliteJournal
from plait.durable._starts import Starts
from plait.primitives._step import tags

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from types import TracebackType

    from plait.durable._environment import Durability
    from plait.durable._queues import Queue
    from plait.durable._schedules import Schedule
    from plait.primitives import WorkflowPrimitive

logger = logging.getLogger("plait.durable")


class DurableRunner(Starts):
    """Runs workflows over a journal, so that a run that was killed goes on where it was.

    Each node that has finished is never executed again; one that had not is executed again and
    finds its finished children done. Entering the runner carries on the interrupted runs of its
    workflows. Leaving it waits a while for what runs, then suspends it for the next runner.

    Args:
        journal: `"sqlite:///runs.db"` (a file; four slashes for an absolute path),
            `"postgresql://user@host/database"`, or a journal.
        workflows: The workflows whose interrupted runs are carried on. Their names tell them apart.
        listeners: The workflows that each event starts; see `publish`.
        queues: The limits of queues.
        schedules: What is started by the clock.
        codec: How values are encoded; as JSON by default.
        blobs: Where payloads go that are too large for the journal, as a store or as `Blobs`.
        durability: Whether a step's record is on disk before the next step starts ("sync"), or
            before the run ends ("async": they overlap), or is written only when the run ends or
            waits ("exit"). What is not on disk when the process dies is done again.
        suspend_after: How long a run that does nothing but wait stays in memory, in seconds.
        grace_seconds: How long leaving waits for the runs that are under way.
        capabilities: What is had here that steps may need, such as `{"gpu"}`: a step with
            `needs="gpu"` is executed by a runner that has it.
        max_running: How many runs it takes from the journal to execute them at once: of queues, due
            ones, interrupted ones. The others are left to other runners, or taken as these end or
            leave memory. Runs that are started here without a queue come on top.

    Raises:
        ValueError: The address is of another form, two workflows have one name, a capability is
            no tag, or `max_running` is not positive.

    Example:
        >>> import tempfile
        >>> import anyio
        >>> from plait import step
        >>> from plait.durable import DurableRunner
        >>> @step
        ... async def charge(order: int) -> str:
        ...     return f"charged {order}"
        >>> orders = (charge >> str.title).named("orders")
        >>> async def main(file: str) -> str:
        ...     async with DurableRunner(f"sqlite:///{file}", workflows=[orders]) as runner:
        ...         return await runner.run(orders, 42, run_id="order-42")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     anyio.run(main, f"{folder}/runs.db")
        'Charged 42'
    """

    def __init__(
        self,
        journal: str | Journal,
        *,
        workflows: Sequence[WorkflowPrimitive[Any, Any]] = (),
        listeners: Mapping[str, Sequence[WorkflowPrimitive[Any, Any]]] | None = None,
        queues: Sequence[Queue] = (),
        schedules: Sequence[Schedule] = (),
        codec: Codec | None = None,
        blobs: BlobStore | Blobs | None = None,
        durability: Durability = "sync",
        suspend_after: float = 1.0,
        grace_seconds: float = 10,
        capabilities: str | Collection[str] = (),
        max_running: int = 200,
    ) -> None:
        if durability not in ("sync", "async", "exit"):
            msg = f'durability={durability!r} must be "sync", "async" or "exit"'
            raise ValueError(msg)
        if max_running < 1:
            msg = f"max_running={max_running!r} must be at least 1"
            raise ValueError(msg)
        limits = {queue.name: queue.limits() for queue in queues}
        if len(limits) < len(queues):
            msg = "two queues have one name"
            raise ValueError(msg)
        known: dict[str, WorkflowPrimitive[Any, Any]] = {}
        executor = Executor(
            journal if isinstance(journal, Journal) else _journal_at(journal),
            codec or JsonCodec(),
            blobs if isinstance(blobs, Blobs) else Blobs(blobs),
            known,
            list(limits.values()),
            suspend_after=suspend_after,
            durability=durability,
            capabilities=tags(capabilities, "capabilities="),
            max_running=max_running,
        )
        super().__init__(executor, known, limits)
        for workflow in workflows:
            self._register(workflow)
        for event, listening in (listeners or {}).items():
            self._listeners[event] = [self._register(each) for each in listening]
        self._schedules = tuple(schedules)
        for schedule in self._schedules:
            self._register(schedule.workflow)
        self._grace_seconds = grace_seconds

    async def __aenter__(self) -> Self:
        if self._task_group is not None:
            msg = "this DurableRunner is entered already; make another one"
            raise RuntimeError(msg)
        await self._journal.open()
        self._task_group = await anyio.create_task_group().__aenter__()
        try:
            await self._report_unknown()
            self._executor.begin(self._task_group)
            await self._executor.claim()
            for schedule in self._schedules:
                self._task_group.start_soon(schedule.keep, self, self._journal)
        except BaseException:
            await self._leave(grace_seconds=0)
            self._task_group = None
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._leave(grace_seconds=self._grace_seconds if error is None else 0)

    async def _report_unknown(self) -> None:
        """Say which workflows this runner leaves alone, although runs of them have not ended."""
        unknown = set(await self._journal.workflows()).difference(self._workflows)
        if unknown:
            logger.warning(
                "runs of workflows that this runner does not have are left alone: %s; "
                "pass them in workflows= to carry them on",
                ", ".join(map(repr, sorted(unknown))),
            )

    async def _leave(self, *, grace_seconds: float) -> None:
        task_group = self._check_entered()
        try:
            try:
                await self._executor.leave(grace_seconds)
            finally:
                task_group.cancel_scope.cancel()
                await task_group.__aexit__(None, None, None)
        finally:
            with anyio.CancelScope(shield=True):
                await self._journal.close()


def _journal_at(address: str) -> Journal:
    if str(address).startswith(("postgresql://", "postgres://")):
        return PostgresJournal(address)
    scheme, separator, path = str(address).partition(":///")
    if scheme != "sqlite" or not separator or not path:
        # What may be a password is not shown.
        shown = re.sub(r"(?<=://).*@|(?<=password=)\S+", "...", str(address))
        msg = (
            f'journal={shown!r} is no address of a journal; one is "sqlite:///runs.db", another '
            '"postgresql://user@host/database"'
        )
        raise ValueError(msg)
    return SqliteJournal(Path(path))
