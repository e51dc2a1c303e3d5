"""The durable runner: starts runs, carries interrupted ones on, and hands out their results."""

from __future__ import annotations

import logging
import math
import uuid
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio
import anyio.abc

from plait.durable._blobs import Blobs, BlobStore
from plait.durable._client import RunClient, value_of
from plait.durable._codec import Codec, JsonCodec
from plait.durable._errors import JournalError, RunConflictError
from plait.durable._executor import Executor, current_run
from plait.durable._journal import UNENDED, Journal, NewRun, RunQuery
from plait.durable._known import check_signal, known_as
from plait.durable._run import Run
from plait.durable._sqlite import SqliteJournal
from plait.durable._topics import end_topic
from plait.durable._verification import Verification, verify
from plait.primitives import Failure, Outcome, Success, _ambient
from plait.primitives._context import current_context
from plait.primitives._decorators import as_primitive
from plait.primitives._encoding import encode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from plait.durable._executor import Ending
    from plait.durable._journal import StoredRun
    from plait.durable._queues import Queue
    from plait.durable._recorder import Durability
    from plait.durable._runtime import DurableRuntime
    from plait.durable._schedules import Schedule
    from plait.primitives import WorkflowContext, WorkflowPrimitive

In = TypeVar("In")
Out = TypeVar("Out")

logger = logging.getLogger("plait.durable")

_LOOKED_AT = 100
"""How many runs of a status are looked at for workflows that a runner does not have."""


class DurableRunner(RunClient):
    """Runs workflows over a journal, so that a run that was killed goes on where it was.

    Each node that has finished is never executed again; one that had not is executed again and
    finds its finished children done. Entering the runner carries on the interrupted runs of its
    workflows. Leaving it waits a while for what runs, then suspends it for the next runner.

    Args:
        journal: `"sqlite:///runs.db"` (a file; four slashes for an absolute path), or a journal.
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

    Raises:
        ValueError: The address is of another form, or two workflows have one name.

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
    ) -> None:
        if durability not in ("sync", "async", "exit"):
            msg = f'durability={durability!r} must be "sync", "async" or "exit"'
            raise ValueError(msg)
        self._workflows: dict[str, WorkflowPrimitive[Any, Any]] = {}
        for workflow in workflows:
            self._register(as_primitive(workflow))
        self._listeners = {
            event: [self._register(as_primitive(workflow)) for workflow in listening]
            for event, listening in (listeners or {}).items()
        }
        self._schedules = tuple(schedules)
        for schedule in self._schedules:
            self._register(schedule.workflow)
        self._queues = {queue.name: queue.limits() for queue in queues}
        if len(self._queues) < len(queues):
            msg = "two queues have one name"
            raise ValueError(msg)
        self._grace_seconds = grace_seconds
        self._executor = Executor(
            journal if isinstance(journal, Journal) else _journal_at(journal),
            codec or JsonCodec(),
            blobs if isinstance(blobs, Blobs) else Blobs(blobs),
            self._workflows,
            list(self._queues.values()),
            suspend_after=suspend_after,
            durability=durability,
        )
        executor = self._executor
        super().__init__(
            executor.journal,
            executor.codec,
            executor.blobs,
            executor.topics,
            executor.timestamp,
        )
        self._task_group: anyio.abc.TaskGroup | None = None

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

    async def start(
        self,
        workflow: WorkflowPrimitive[In, Out],
        input_data: In,
        *,
        run_id: str | None = None,
        data: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        correlation_id: str | None = None,
        queue: str | None = None,
        priority: int = 0,
        delay: timedelta | float = 0,
    ) -> Run[Out]:
        """Start a run, or attach to the one that has the id already.

        Called in the body of a durable run it starts a child of it, once: its id follows from the
        parent's where none is given.

        Args:
            workflow: What to execute.
            input_data: Its input.
            run_id: The run's id, which makes starting it twice the same as once; new where none is
                given.
            data: What the run's `context.data` starts with.
            metadata: Facts about the run for spans, logs and lists. It is not encrypted.
            correlation_id: Ties the run to a request or message of the application's own.
            queue: The queue that says when it begins.
            priority: Which of a queue's runs goes first: the one with the highest.
            delay: How long from now it begins at the soonest; a number is in seconds.

        Raises:
            RunConflictError: A run of that id was started with something else.
            SerializationError: The input, `data` or `metadata` has no encoded form.
            JournalError: The journal cannot be written.
        """
        self._check_entered()
        workflow = self._register(as_primitive(workflow))
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
        self._check_start(run_id, queue, seconds)

        async def create(unique: str) -> Run[Any]:
            new = await self._new_run(
                workflow, input_data, run_id or unique, data, metadata, correlation_id
            )
            due = new.created + seconds if seconds > 0 else None
            new = replace(new, queue=queue, priority=priority, due=due)
            ((stored, is_new),) = await self._journal.create([new])
            return await self._started(stored, workflow, input_data, is_new=is_new)

        inside = self._inside()
        if inside is None:
            return await create(uuid.uuid4().hex)
        runtime, context = inside
        digest = runtime._digest((known_as(workflow), input_data))
        unique, run = await runtime.once("start", digest, create, context)
        if run is None:
            # It was started before; its workflow may be known to this runner only now.
            self._executor.nudge()
            run = self._run(run_id or unique)
        return run

    async def run(
        self,
        workflow: WorkflowPrimitive[In, Out],
        input_data: In,
        *,
        run_id: str | None = None,
        data: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        correlation_id: str | None = None,
        queue: str | None = None,
        priority: int = 0,
        delay: timedelta | float = 0,
    ) -> Out:
        """Start a run, or attach to it, and wait for its result: `start`, then `Run.result`."""
        started = await self.start(
            workflow,
            input_data,
            run_id=run_id,
            data=data,
            metadata=metadata,
            correlation_id=correlation_id,
            queue=queue,
            priority=priority,
            delay=delay,
        )
        return await started.result()

    async def publish(
        self, event: str, payload: object = None, *, event_id: str | None = None
    ) -> list[Run[Any]]:
        """Start every workflow that listens to an event, with the payload as its input.

        Args:
            event: The event's name.
            payload: The input.
            event_id: Makes publishing it twice the same as once; new where none is given.

        Returns:
            The runs, in the order of the listeners; their ids are `EVENT:EVENT_ID:WORKFLOW`.

        Raises:
            ValueError: Nothing listens to an event of that name.
            RunConflictError: It was published with that id and something else.
        """
        self._check_entered()
        listening = self._listeners.get(event)
        if not listening:
            known = ", ".join(map(repr, sorted(self._listeners))) or "none"
            msg = f"nothing listens to event {event!r}; the events of listeners= are {known}"
            raise ValueError(msg)

        def ids(unique: str) -> list[str]:
            return [f"{event}:{event_id or unique}:{known_as(workflow)}" for workflow in listening]

        async def create(unique: str) -> list[Run[Any]]:
            new = [
                await self._new_run(workflow, payload, run_id)
                for workflow, run_id in zip(listening, ids(unique), strict=True)
            ]
            created = await self._journal.create(new)
            return [
                await self._started(stored, workflow, payload, is_new=is_new)
                for workflow, (stored, is_new) in zip(listening, created, strict=True)
            ]

        inside = self._inside()
        if inside is None:
            return await create(uuid.uuid4().hex)
        runtime, context = inside
        digest = runtime._digest((event, payload))
        unique, runs = await runtime.once("publish", digest, create, context)
        return runs or [self._run(run_id) for run_id in ids(unique)]

    async def signal(
        self, run_id: str, name: str, payload: object = None, *, signal_id: str | None = None
    ) -> None:
        """Send a run a signal, which is kept until it waits for it.

        From the body of a durable run it is sent once, wherever that run is interrupted.

        Args:
            run_id: The run.
            name: The signal's name.
            payload: What it brings.
            signal_id: Makes sending it twice the same as once.

        Raises:
            RunNotFoundError: There is no such run.
            RunEndedError: It has ended.
            ValueError: Its workflow never waits for a signal of that name.
            SignalPayloadError: What it waits for is of another type.
            SerializationError: The payload has no encoded form.
        """
        inside = self._inside()
        if inside is None:
            return await self._send(run_id, name, payload, signal_id)

        async def send(unique: str) -> None:
            await self._send(run_id, name, payload, signal_id or unique)

        runtime, context = inside
        await runtime.once("send", runtime._digest((run_id, name, payload)), send, context)
        return None

    async def cancel(self, run_id: str) -> bool:
        """Ask a run to stop: its steps are cancelled, and its compensations run.

        Returns:
            Whether it had not ended yet.

        Raises:
            RunNotFoundError: There is no such run.
        """
        inside = self._inside()
        if inside is None:
            return await super().cancel(run_id)
        runtime, context = inside
        cancel, digest = super().cancel, runtime._digest(run_id)
        _, was_running = await runtime.once("cancel", digest, lambda _: cancel(run_id), context)
        return was_running is not False

    async def event(self, run_id: str, name: str, *, timeout: float | None = None) -> Any:
        """Wait for an event that a run sets, and return its value.

        In the body of a durable run this is a wait like any other: that run leaves memory
        meanwhile.

        Args:
            run_id: The run.
            name: The event's name.
            timeout: How long to wait, in seconds.

        Raises:
            RunNotFoundError: There is no such run.
            RunEndedError: The run ended without it.
            StepTimeoutError: It was not set in time.
        """
        inside = self._inside(of_this_journal=True)
        if inside is None:
            return await super().event(run_id, name, timeout=timeout)
        runtime, context = inside
        found = partial(self._event, run_id, name)
        return value_of(await runtime.event_of(run_id, name, found, timeout, context))

    async def resume(self, run_id: str) -> Run[Any]:
        """Carry a failed run on from what failed; one that has not failed is left as it is.

        Raises:
            RunNotFoundError: There is no such run.
            ValueError: Its workflow is not among this runner's.
        """
        stored = await self._find(run_id)
        self._workflow_of(stored)
        if await self._journal.reopen(stored.key, self._timestamp()):
            execution = self._executor.executions.get(run_id)
            if execution is not None and execution.is_over:
                await execution.ending.ended.wait()
            await self._ending_of(await self._find(run_id))
        return self._run(run_id)

    async def fork(
        self, run_id: str, *, before: str | None = None, new_run_id: str | None = None
    ) -> Run[Any]:
        """Start a run that goes on from a point of another one, with what that had done by then.

        Args:
            run_id: The other run.
            before: The path of the first node to execute again; None to keep all that is recorded.
            new_run_id: The id of the new run; new where none is given.

        Raises:
            RunNotFoundError: There is no such run.
            ValueError: Its workflow is not among this runner's, or nothing is recorded at the path.
            RunConflictError: There is a run of the new id.
        """
        stored = await self._find(run_id)
        self._workflow_of(stored)
        records = await self._journal.records(stored.key)
        below = () if before is None else (before, f"{before}/", f"{before}[", f"{before}#")
        if before is not None and not any(r.path.startswith(below) for r in records):
            msg = f"nothing is recorded at {before!r} of run {run_id!r}"
            raise ValueError(msg)
        start = stored.start
        new = NewRun(
            run_id=uuid.uuid4().hex if new_run_id is None else new_run_id,
            workflow=start.workflow,
            digest=start.digest,
            payload=start.payload,
            context=start.context,
            created=self._timestamp(),
            metadata=start.metadata,
        )
        forked, is_new = await self._journal.fork(stored.key, new, before)
        if not is_new:
            msg = f"there is a run {new.run_id!r} already; a fork needs an id of its own"
            raise RunConflictError(msg)
        self._executor.launch(forked, await self._journal.records(forked.key))
        return self._run(new.run_id)

    async def get(self, run_id: str) -> Run[Any]:
        """The run of that id.

        Raises:
            RunNotFoundError: There is none.
        """
        return Run(self, run_id, await self._ending_of(await self._find(run_id)))

    async def verify(self, run_id: str) -> Verification:
        """Replay a run without executing or recording anything, to see whether the code fits it.

        Raises:
            RunNotFoundError: There is no such run.
            ValueError: Its workflow is not among this runner's.
        """
        stored = await self._find(run_id)
        self._workflow_of(stored)
        return await verify(self._executor, stored, await self._journal.records(stored.key))

    def _register(self, workflow: WorkflowPrimitive[Any, Any]) -> WorkflowPrimitive[Any, Any]:
        name = known_as(workflow)
        known = self._workflows.setdefault(name, workflow)
        if known != workflow:
            msg = (
                f"two workflows are named {name!r}, {known} and {workflow}; a durable run finds "
                "its workflow by name: give one another with .named(...)"
            )
            raise ValueError(msg)
        return known

    def _workflow_of(self, stored: StoredRun) -> WorkflowPrimitive[Any, Any]:
        workflow = self._workflows.get(stored.start.workflow)
        if workflow is None:
            msg = (
                f"run {stored.start.run_id!r} is of workflow {stored.start.workflow!r}, which this "
                "runner does not have; pass it in workflows="
            )
            raise ValueError(msg)
        return workflow

    def _inside(
        self, *, of_this_journal: bool = False
    ) -> tuple[DurableRuntime, WorkflowContext] | None:
        """The run, and its node, whose code asks."""
        runtime, context = current_run.get(), current_context.get()
        if runtime is None or context is None or context._run.run_id != runtime.run_id:
            return None
        if of_this_journal and runtime._journal is not self._journal:
            return None
        return runtime, context

    def _run(self, run_id: str) -> Run[Any]:
        execution = self._executor.executions.get(run_id)
        return Run(self, run_id, None if execution is None else execution.ending)

    def _check_start(self, run_id: str | None, queue: str | None, seconds: float) -> None:
        if run_id == "":
            msg = "the id of a run must not be empty"
            raise ValueError(msg)
        if not 0 <= seconds < math.inf:
            msg = f"delay={seconds!r} s of a run must be a time that is still to come"
            raise ValueError(msg)
        if queue is not None and queue not in self._queues:
            known = ", ".join(map(repr, self._queues)) or "none"
            msg = f"there is no queue {queue!r}; those of queues= are {known}"
            raise ValueError(msg)

    async def _new_run(
        self,
        workflow: WorkflowPrimitive[Any, Any],
        input_data: object,
        run_id: str,
        data: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        correlation_id: str | None = None,
    ) -> NewRun:
        inside, parent = self._inside(), self._inside(of_this_journal=True)
        if inside is not None:
            correlation_id = correlation_id or inside[1].correlation_id
        shared = {
            "data": dict(data or {}),
            "metadata": dict(metadata or {}),
            "correlation_id": correlation_id or uuid.uuid4().hex,
        }
        if (runtime := _ambient.runtime()) is not None:
            shared["origin"] = runtime.carrier()
        return NewRun(
            run_id=run_id,
            workflow=known_as(workflow),
            digest=self._codec.digest(input_data),
            payload=await self._blobs.put(self._codec.encode(input_data)),
            context=self._codec.encode(shared),
            created=self._timestamp(),
            metadata=encode(shared["metadata"]).decode(),
            parent=None if parent is None else parent[0].run_id,
        )

    async def _started(
        self,
        stored: StoredRun,
        workflow: WorkflowPrimitive[Any, Any],
        input_data: object,
        *,
        is_new: bool,
    ) -> Run[Any]:
        """A run that was created, or found: as its caller holds it."""
        start = stored.start
        if is_new:
            if stored.is_claimed:
                return Run(self, start.run_id, self._executor.launch(stored, []).ending)
            self._executor.nudge()
            return Run(self, start.run_id, None)
        is_same = start.workflow == known_as(workflow)
        if not is_same or self._codec.digest(input_data, start.digest) != start.digest:
            what = "input" if is_same else "workflow"
            msg = (
                f"run {start.run_id!r} of {start.workflow!r} was started with another {what}; "
                "a run id stands for one input of one workflow"
            )
            raise RunConflictError(msg)
        return Run(self, start.run_id, await self._ending_of(stored))

    async def _send(self, run_id: str, name: str, payload: object, signal_id: str | None) -> None:
        known = (await self._find(run_id)).start.workflow
        if known in self._workflows:
            awaited = self._executor.awaited.get(known, {})
            check_signal(self._workflows[known], name, payload, awaited)
        await super().signal(run_id, name, payload, signal_id=signal_id)

    async def _ending_of(self, stored: StoredRun) -> Ending | None:
        """What becomes of this runner's execution of a run, where it is the one to execute it."""
        run_id, executions = stored.start.run_id, self._executor.executions
        while stored.status == "running" and run_id not in executions:
            if not stored.is_claimed or stored.start.workflow not in self._workflows:
                await self._executor.claim()
                break
            # Its journal or a changed workflow stopped it, which may have been mended since.
            with self._topics.listening(end_topic(run_id)) as news:
                records = await self._journal.records(stored.key)
                stored = await self._find(run_id)
            is_left = stored.status == "running" and stored.is_claimed
            # Where it has ended meanwhile, what was found may be older than that.
            if is_left and not news.has_come and run_id not in executions:
                return self._executor.launch(stored, records).ending
        execution = executions.get(run_id)
        return None if execution is None else execution.ending

    async def _outcome(self, run_id: str, ending: Ending | None) -> Outcome[Any]:
        """How a run ended; waits until it has."""
        inside = self._inside(of_this_journal=True)
        if inside is not None:
            runtime, context = inside
            if runtime.run_id == run_id:
                msg = f"run {run_id!r} waits for its own end, which does not come then"
                raise RuntimeError(msg)
            ended, cancel = partial(self._ended, run_id), partial(super().cancel, run_id)
            return await runtime.outcome_of(run_id, ended, cancel, context)
        with self._topics.listening(end_topic(run_id)) as news:
            while True:
                if ending is not None:
                    await ending.ended.wait()
                    if ending.outcome is not None:
                        return ending.outcome
                outcome = await self._ended(run_id)
                if outcome is not None:
                    return outcome
                ending = await self._ending_of(await self._find(run_id))
                if ending is None:
                    await news.wait()

    async def _ended(self, run_id: str) -> Outcome[Any] | None:
        """How a run ended; None where it has not."""
        return await self._outcome_in(await self._find(run_id))

    async def _outcome_in(self, stored: StoredRun) -> Outcome[Any] | None:
        run_id = stored.start.run_id
        if stored.outcome is None:
            return None
        payload = await self._blobs.get(stored.outcome, run_id)
        try:
            if stored.status != "completed":
                return Failure(self._codec.decode(payload))
            workflow = self._workflows.get(stored.start.workflow)
            return Success(self._codec.decode(payload, workflow))
        except ValueError as error:
            name = stored.start.workflow
            msg = f"the outcome of run {run_id!r} of {name!r} cannot be decoded: {error}"
            raise JournalError(msg) from error

    async def _report_unknown(self) -> None:
        """Say which workflows this runner leaves alone, although runs of them have not ended."""
        unknown: set[str] = set()
        for status in UNENDED:
            found = await self._journal.list(RunQuery(statuses=(status,), limit=_LOOKED_AT))
            unknown.update(run.start.workflow for run in found)
        unknown.difference_update(self._workflows)
        if unknown:
            logger.warning(
                "runs of workflows that this runner does not have are left alone: %s; "
                "pass them in workflows= to carry them on",
                ", ".join(map(repr, sorted(unknown))),
            )

    def _news(self, topic: str) -> None:
        super()._news(topic)
        self._executor.nudge()

    def _check_entered(self) -> anyio.abc.TaskGroup:
        if self._task_group is None:
            msg = "enter the DurableRunner first: async with DurableRunner(...) as runner"
            raise RuntimeError(msg)
        return self._task_group

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
    scheme, separator, path = str(address).partition(":///")
    if scheme != "sqlite" or not separator or not path:
        msg = f'journal={address!r} is no address of a journal; one is "sqlite:///runs.db"'
        raise ValueError(msg)
    return SqliteJournal(Path(path))
