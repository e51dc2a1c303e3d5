"""How runs begin: by a call, or by an event."""

from __future__ import annotations

import math
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from plait.durable._again import Reruns
from plait.durable._errors import RunConflictError
from plait.durable._ids import RandomIds
from plait.durable._run import Run
from plait.durable._stored import NewRun
from plait.primitives import _ambient
from plait.primitives._encoding import encode

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import anyio.abc

    from plait.durable._executor import Executor
    from plait.durable._runtime import DurableRuntime
    from plait.durable._stored import StoredRun
    from plait.primitives import WorkflowContext, WorkflowPrimitive

In = TypeVar("In")
Out = TypeVar("Out")


class Starts(Reruns):
    """Starts runs, each once for an id.

    Args:
        executor: What executes the runs of its workflows.
        workflows: These, by name.
        queues: The names of the queues.
    """

    def __init__(
        self,
        executor: Executor,
        workflows: dict[str, WorkflowPrimitive[Any, Any]],
        queues: Collection[str],
    ) -> None:
        super().__init__(executor, workflows)
        self._listeners: dict[str, list[str]] = {}
        self._ids = RandomIds()
        self._queues = queues
        self._task_group: anyio.abc.TaskGroup | None = None

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
        name = self._register(workflow)
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
        self._check_start(run_id, queue, seconds)

        inside = self._inside()
        create = partial(
            self._create,
            name,
            input_data,
            run_id,
            data,
            metadata,
            correlation_id,
            queue,
            priority,
            seconds,
            inside,
        )
        if inside is None:
            return await create(self._ids.draw())
        runtime, context = inside
        digest = runtime._digest((name, input_data))
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
            return [f"{event}:{event_id or unique}:{name}" for name in listening]

        inside = self._inside()

        async def create(unique: str) -> list[Run[Any]]:
            new = [
                await self._new_run(name, payload, run_id, inside=inside)
                for name, run_id in zip(listening, ids(unique), strict=True)
            ]
            created = await self._journal.create(new)
            return [
                self._begun(stored) if is_new else await self._found(stored, name, payload)
                for name, (stored, is_new) in zip(listening, created, strict=True)
            ]

        if inside is None:
            return await create(self._ids.draw())
        runtime, context = inside
        digest = runtime._digest((event, payload))
        unique, runs = await runtime.once("publish", digest, create, context)
        return runs or [self._run(run_id) for run_id in ids(unique)]

    def _check_entered(self) -> anyio.abc.TaskGroup:
        if self._task_group is None:
            msg = "enter the DurableRunner first: async with DurableRunner(...) as runner"
            raise RuntimeError(msg)
        return self._task_group

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

    async def _create(
        self,
        workflow: str,
        input_data: object,
        run_id: str | None,
        data: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
        correlation_id: str | None,
        queue: str | None,
        priority: int,
        delay: float,
        inside: tuple[DurableRuntime, WorkflowContext] | None,
        unique: str,
    ) -> Run[Any]:
        new = await self._new_run(
            workflow,
            input_data,
            run_id or unique,
            data,
            metadata,
            correlation_id,
            queue=queue,
            priority=priority,
            delay=delay,
            inside=inside,
        )
        ((stored, is_new),) = await self._journal.create([new])
        return self._begun(stored) if is_new else await self._found(stored, workflow, input_data)

    async def _new_run(
        self,
        workflow: str,
        input_data: object,
        run_id: str,
        data: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        correlation_id: str | None = None,
        *,
        queue: str | None = None,
        priority: int = 0,
        delay: float = 0,
        inside: tuple[DurableRuntime, WorkflowContext] | None,
    ) -> NewRun:
        if self._executor.lost_lease is not None:
            await self._executor.leased()
        parent: str | None = None
        if inside is not None:
            runtime, context = inside
            parent = runtime.run_id if self._is_of_this_journal(runtime) else None
            correlation_id = correlation_id or context.correlation_id
        # What is not given takes no room in the journal.
        shared: dict[str, Any] = {"correlation_id": correlation_id or self._ids.draw()}
        if data:
            shared["data"] = dict(data)
        if metadata:
            shared["metadata"] = dict(metadata)
        if (observed := _ambient.runtime()) is not None:
            shared["origin"] = observed.carrier()
        created = self._timestamp()
        return NewRun(
            run_id=run_id,
            workflow=workflow,
            digest=self._codec.digest(input_data),
            payload=await self._blobs.put(self._codec.encode(input_data)),
            context=self._codec.encode(shared),
            created=created,
            metadata=encode(shared["metadata"]).decode() if metadata else "{}",
            due=created + delay if delay > 0 else None,
            queue=queue,
            priority=priority,
            parent=parent,
        )

    def _begun(self, stored: StoredRun) -> Run[Any]:
        """A run that was created now, as its caller holds it."""
        if stored.is_claimed:
            return Run(self, stored.start.run_id, self._executor.launch(stored, ()).ending)
        self._executor.nudge()
        return Run(self, stored.start.run_id, None)

    async def _found(self, stored: StoredRun, workflow: str, input_data: object) -> Run[Any]:
        """A run that there was already, as its caller holds it.

        Raises:
            RunConflictError: It was started with something else.
        """
        start = stored.start
        is_same = start.workflow == workflow
        if not is_same or self._codec.digest(input_data, start.digest) != start.digest:
            what = "input" if is_same else "workflow"
            msg = (
                f"run {start.run_id!r} of {start.workflow!r} was started with another {what}; "
                "a run id stands for one input of one workflow"
            )
            raise RunConflictError(msg)
        return Run(self, start.run_id, await self._ending_of(stored))
