"""What the code of a run may ask of other runs as well: then it is a step of that run."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from plait.durable._client import RunClient, value_of
from plait.durable._errors import JournalError
from plait.durable._execution import current_run
from plait.durable._known import check_signal, known_as
from plait.durable._topics import end_topic
from plait.primitives import Failure, Outcome, Success
from plait.primitives._context import current_context
from plait.primitives._decorators import as_primitive

if TYPE_CHECKING:
    from plait.durable._execution import Ending
    from plait.durable._executor import Executor
    from plait.durable._runtime import DurableRuntime
    from plait.durable._stored import StoredRun
    from plait.primitives import WorkflowContext, WorkflowPrimitive


class InsideClient(RunClient):
    """Looks at runs and tells them something, once where the code of a run does so.

    Args:
        executor: What executes the runs of its workflows.
        workflows: These, by name.
    """

    def __init__(
        self, executor: Executor, workflows: dict[str, WorkflowPrimitive[Any, Any]]
    ) -> None:
        super().__init__(
            executor.journal,
            executor.codec,
            executor.blobs,
            executor.topics,
            executor.timestamp,
        )
        self._executor = executor
        self._workflows = workflows

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

    def _register(self, operand: Any) -> str:
        """Take a workflow, or a function, as one of this runner's; the name that it has here."""
        workflow = as_primitive(operand)
        name = known_as(workflow)
        known = self._workflows.setdefault(name, workflow)
        if known is not workflow and known != workflow:
            msg = (
                f"two workflows are named {name!r}, {known} and {workflow}; a durable run finds "
                "its workflow by name: give one another with .named(...)"
            )
            raise ValueError(msg)
        return name

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
        if of_this_journal and not self._is_of_this_journal(runtime):
            return None
        return runtime, context

    def _is_of_this_journal(self, runtime: DurableRuntime) -> bool:
        return runtime._journal is self._journal

    async def _send(self, run_id: str, name: str, payload: object, signal_id: str | None) -> None:
        known = (await self._find(run_id)).start.workflow
        if known in self._workflows:
            awaited = self._executor.awaited.get(known, {})
            check_signal(self._workflows[known], name, payload, awaited)
        await super().signal(run_id, name, payload, signal_id=signal_id)

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
        while True:
            if ending is not None:
                await ending.wait()
                if ending.outcome is not None:
                    return ending.outcome
            with self._topics.listening(end_topic(run_id)) as news:
                outcome = await self._ended(run_id)
                if outcome is not None:
                    return outcome
                ending = await self._ending_of(await self._find(run_id))
                if ending is None:
                    await news.wait()

    async def _ended(self, run_id: str) -> Outcome[Any] | None:
        """How a run ended; None where it has not."""
        return await self._outcome_in(await self._find(run_id))

    async def _ending_of(self, stored: StoredRun) -> Ending | None:
        """What becomes of this runner's execution of a run, where it is the one to execute it."""
        run_id, executions = stored.start.run_id, self._executor.executions
        while self._executor.lost_lease is None and (
            stored.status == "running" and run_id not in executions
        ):
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

    def _news(self, topic: str) -> None:
        super()._news(topic)
        self._executor.nudge()
