"""The durable runner: starts runs, carries interrupted ones on, and hands out their results."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio
import anyio.abc

from plait.durable._codec import JsonCodec, digest
from plait.durable._errors import JournalError, RunConflictError, RunNotFoundError
from plait.durable._journal import Journal, NewRun
from plait.durable._run import Execution, Run, RunInfo
from plait.durable._runtime import DurableRuntime
from plait.durable._sqlite import SqliteJournal
from plait.primitives import Failure, Outcome, Success, Workflow, WorkflowContext, failed_path
from plait.primitives._decorators import as_primitive
from plait.primitives._encoding import decode, encode
from plait.primitives._errors import Abort

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from plait.durable._journal import Record, RunStatus, StoredRun
    from plait.primitives import WorkflowPrimitive

In = TypeVar("In")
Out = TypeVar("Out")

_POLL_SECONDS = 0.2


class DurableRunner:
    """Runs workflows over a journal, so that a run that was killed goes on where it was.

    Each node that has finished is never executed again; one that had not is executed again and
    finds its finished children done. Entering the runner carries on the interrupted runs of its
    workflows. Leaving it waits a while for what runs, then suspends it for the next runner.

    Args:
        journal: `"sqlite:///runs.db"` (a file; four slashes for an absolute path), or a journal.
        workflows: The workflows whose interrupted runs are carried on. Their names tell them apart.
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
        grace_seconds: float = 10,
    ) -> None:
        self._journal = journal if isinstance(journal, Journal) else _journal_at(journal)
        self._workflows: dict[str, WorkflowPrimitive[Any, Any]] = {}
        for workflow in workflows:
            self._register(as_primitive(workflow))
        self._grace_seconds = grace_seconds
        self._codec = JsonCodec()
        self._executions: dict[str, Execution] = {}
        self._task_group: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        if self._task_group is not None:
            msg = "this DurableRunner is entered already; make another one"
            raise RuntimeError(msg)
        await self._journal.open()
        self._task_group = await anyio.create_task_group().__aenter__()
        try:
            await self._recover()
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
    ) -> Run[Out]:
        """Start a run, or attach to the one that has the id already.

        Args:
            workflow: What to execute.
            input_data: Its input.
            run_id: The run's id, which makes starting it twice the same as once; new where none is
                given.
            data: What the run's `context.data` starts with.
            metadata: Facts about the run for spans, logs and lists.
            correlation_id: Ties the run to a request or message of the application's own.

        Raises:
            RunConflictError: A run of that id was started with something else.
            SerializationError: The input, `data` or `metadata` has no encoded form.
            JournalError: The journal cannot be written.
        """
        self._check_entered()
        workflow = self._register(as_primitive(workflow))
        run_id = uuid.uuid4().hex if run_id is None else run_id
        shared = {
            "data": dict(data or {}),
            "metadata": dict(metadata or {}),
            "correlation_id": correlation_id or uuid.uuid4().hex,
        }
        new = NewRun(
            run_id=run_id,
            workflow=_known_as(workflow),
            digest=digest(input_data),
            payload=self._codec.encode(input_data),
            context=self._codec.encode(shared),
            created=time.time(),
        )
        stored, is_new = await self._journal.create(new)
        if is_new:
            return Run(self, run_id, self._launch(stored, []))
        if (stored.start.workflow, stored.start.digest) != (new.workflow, new.digest):
            what = "input" if stored.start.workflow == new.workflow else "workflow"
            msg = (
                f"run {run_id!r} of {stored.start.workflow!r} was started with another {what}; "
                "a run id stands for one input of one workflow"
            )
            raise RunConflictError(msg)
        return Run(self, run_id, await self._execution_of(stored))

    async def run(
        self,
        workflow: WorkflowPrimitive[In, Out],
        input_data: In,
        *,
        run_id: str | None = None,
        data: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        correlation_id: str | None = None,
    ) -> Out:
        """Start a run, or attach to it, and wait for its result: `start`, then `Run.result`."""
        started = await self.start(
            workflow,
            input_data,
            run_id=run_id,
            data=data,
            metadata=metadata,
            correlation_id=correlation_id,
        )
        return await started.result()

    async def resume(self, run_id: str) -> Run[Any]:
        """Carry a failed run on from what failed; one that has not failed is left as it is.

        Raises:
            RunNotFoundError: There is no such run.
            ValueError: Its workflow is not among this runner's.
        """
        stored = await self._find(run_id)
        if stored.start.workflow not in self._workflows:
            msg = (
                f"run {run_id!r} is of workflow {stored.start.workflow!r}, which this runner does "
                "not have; pass it in workflows="
            )
            raise ValueError(msg)
        if await self._journal.reopen(stored.key, time.time()):
            self._launch(stored, await self._journal.records(stored.key))
        return Run(self, run_id, self._executions.get(run_id))

    async def get(self, run_id: str) -> Run[Any]:
        """The run of that id.

        Raises:
            RunNotFoundError: There is none.
        """
        return Run(self, run_id, await self._execution_of(await self._find(run_id)))

    async def info(self, run_id: str) -> RunInfo:
        """What the journal knows of a run.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return RunInfo.of(await self._find(run_id))

    async def list(
        self,
        *,
        workflow: str | None = None,
        status: RunStatus | None = None,
        limit: int = 100,
    ) -> list[RunInfo]:
        """Runs in the journal, the newest first.

        Args:
            workflow: Only those of the workflow of this name.
            status: Only those with this status.
            limit: How many at the most.
        """
        found = await self._journal.list(workflow=workflow, status=status, limit=limit)
        return [RunInfo.of(stored) for stored in found]

    def _register(self, workflow: WorkflowPrimitive[Any, Any]) -> WorkflowPrimitive[Any, Any]:
        name = _known_as(workflow)
        known = self._workflows.setdefault(name, workflow)
        if known != workflow:
            msg = (
                f"two workflows are named {name!r}, {known} and {workflow}; a durable run finds "
                "its workflow by name: give one another with .named(...)"
            )
            raise ValueError(msg)
        return known

    async def _recover(self) -> None:
        for stored in await self._journal.claim(self._workflows):
            self._launch(stored, await self._journal.records(stored.key))

    async def _execution_of(self, stored: StoredRun) -> Execution | None:
        """This runner's execution of a run, where it is the one to execute it."""
        run_id = stored.start.run_id
        if stored.status != "running" or run_id in self._executions:
            return self._executions.get(run_id)
        if stored.is_claimed:
            # It was stopped by its journal or a changed workflow, which may have been mended since.
            records = await self._journal.records(stored.key)
            return self._executions.get(run_id) or self._launch(stored, records)
        await self._recover()
        return self._executions.get(run_id)

    def _check_entered(self) -> anyio.abc.TaskGroup:
        if self._task_group is None:
            msg = "enter the DurableRunner first: async with DurableRunner(...) as runner"
            raise RuntimeError(msg)
        return self._task_group

    def _launch(self, stored: StoredRun, records: Sequence[Record]) -> Execution:
        task_group = self._check_entered()
        start = stored.start
        context = WorkflowContext(workflow_id=start.workflow)
        runtime = DurableRuntime(
            self._journal, stored.key, records, self._codec, inner=context._runtime
        )
        execution = Execution(self._workflows[start.workflow], stored, runtime)
        self._executions[start.run_id] = execution
        task_group.start_soon(self._execute, execution)
        return execution

    async def _execute(self, execution: Execution) -> None:
        key, run_id = execution.stored.key, execution.stored.start.run_id
        try:
            context, input_data = self._restore(execution)
            try:
                result = await execution.workflow.execute(input_data, context)
                payload = self._codec.encode(result, execution.workflow)
            except Exception as error:  # noqa: BLE001 - kept as the run's outcome
                execution.outcome = Failure(error)
                failures = sorted({*execution.runtime.failures, failed_path(error) or ""})
                await self._journal.finish(key, "failed", encode(error), failures, time.time())
            else:
                await self._journal.finish(key, "completed", payload, (), time.time())
                execution.outcome = Success(result)
        except JournalError as error:
            execution.outcome = Failure(error)
        except BaseException as error:
            abort = _abort_in(error)
            if abort is None:
                raise
            execution.outcome = Failure(abort.error)
        finally:
            del self._executions[run_id]
            execution.ended.set()

    def _restore(self, execution: Execution) -> tuple[WorkflowContext, Any]:
        """The context and the input that a run was started with."""
        start = execution.stored.start
        try:
            shared, input_data = decode(start.context), decode(start.payload)
        except ValueError as error:
            msg = f"what run {start.run_id!r} was started with cannot be decoded: {error}"
            raise JournalError(msg) from error
        context = WorkflowContext(workflow_id=start.workflow, **shared)
        context._runtime = execution.runtime
        context._run.run_id = start.run_id
        execution.runtime.remember(context.data)
        return context, input_data

    async def _outcome(self, run_id: str) -> Outcome[Any]:
        """How a run ended that this runner does not execute; waits until it has."""
        while (stored := await self._find(run_id)).outcome is None:
            execution = await self._execution_of(stored)
            if execution is not None:
                return await execution.result()
            await anyio.sleep(_POLL_SECONDS)
        try:
            if stored.status == "failed":
                return Failure(decode(stored.outcome))
            workflow = self._workflows.get(stored.start.workflow)
            return Success(self._codec.decode(stored.outcome, workflow))
        except ValueError as error:
            name = stored.start.workflow
            msg = f"the outcome of run {run_id!r} of {name!r} cannot be decoded: {error}"
            raise JournalError(msg) from error

    async def _find(self, run_id: str) -> StoredRun:
        stored = await self._journal.find(run_id)
        if stored is None:
            msg = f"there is no run {run_id!r} in the journal"
            raise RunNotFoundError(msg)
        return stored

    async def _leave(self, *, grace_seconds: float) -> None:
        task_group = self._check_entered()
        try:
            try:
                with anyio.move_on_after(grace_seconds):
                    for execution in list(self._executions.values()):
                        await execution.ended.wait()
            finally:
                task_group.cancel_scope.cancel()
                await task_group.__aexit__(None, None, None)
        finally:
            self._executions.clear()
            with anyio.CancelScope(shield=True):
                await self._journal.close()


def _known_as(workflow: WorkflowPrimitive[Any, Any]) -> str:
    """The name by which a run finds its workflow again."""
    version = workflow.version if isinstance(workflow, Workflow) else None
    return workflow.name if version is None else f"{workflow.name}@{version}"


def _abort_in(error: BaseException) -> Abort | None:
    """What ended a run from inside of it, also out of a task group of the user's."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_abort_in, error.exceptions)), None)
    return error if isinstance(error, Abort) else None


def _journal_at(address: str) -> Journal:
    scheme, separator, path = str(address).partition(":///")
    if scheme != "sqlite" or not separator or not path:
        msg = f'journal={address!r} is no address of a journal; one is "sqlite:///runs.db"'
        raise ValueError(msg)
    return SqliteJournal(Path(path))
