"""A run as its caller holds it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from plait.durable._errors import JournalError
from plait.primitives import Failure, Outcome
from plait.primitives._encoding import decode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plait.durable._journal import RunStatus, StoredRun
    from plait.durable._runner import DurableRunner
    from plait.durable._runtime import DurableRuntime
    from plait.primitives import WorkflowPrimitive

Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What the journal knows of one run.

    Attributes:
        run_id: Its id.
        workflow: The name of its workflow.
        status: "running" (under way, or interrupted), "completed" or "failed".
        created_at: When it was started.
        updated_at: When its status last changed.
        metadata: What it was started with.
    """

    run_id: str
    workflow: str
    status: RunStatus
    created_at: datetime
    updated_at: datetime
    metadata: Mapping[str, Any]

    @classmethod
    def of(cls, stored: StoredRun) -> RunInfo:
        """What a journal's row says."""
        start = stored.start
        return cls(
            run_id=start.run_id,
            workflow=start.workflow,
            status=stored.status,
            created_at=datetime.fromtimestamp(start.created, UTC),
            updated_at=datetime.fromtimestamp(stored.updated, UTC),
            metadata=MappingProxyType(_metadata(start.context)),
        )


def _metadata(context: bytes) -> dict[str, Any]:
    try:
        metadata: dict[str, Any] = decode(context)["metadata"]
    except ValueError:
        # A list is no place to fail for one run; its own result says what is wrong with it.
        return {}
    return metadata


class Run(Generic[Out]):
    """A run, wherever it is executed.

    Attributes:
        run_id: Its id.
    """

    def __init__(self, runner: DurableRunner, run_id: str, execution: Execution | None) -> None:
        self.run_id = run_id
        self._runner = runner
        self._execution = execution

    def __repr__(self) -> str:
        return f"<Run {self.run_id!r}>"

    @property
    def replayed(self) -> int:
        """How many nodes this runner found done in the journal, and did not execute again."""
        return 0 if self._execution is None else self._execution.runtime.replayed

    @property
    def executed(self) -> int:
        """How many nodes this runner executed and recorded."""
        return 0 if self._execution is None else self._execution.runtime.executed

    async def result(self) -> Out:
        """Wait until the run has ended, and return what its workflow returned.

        Raises:
            WorkflowChangedError: The workflow no longer fits what the journal says was done.
            JournalError: The journal cannot be written or read.
            Exception: What the workflow raised, as its own type where that can be built again,
                else a `RecordedError`.
        """
        outcome: Outcome[Out]
        if self._execution is not None:
            outcome = await self._execution.result()
        else:
            outcome = await self._runner._outcome(self.run_id)
        if isinstance(outcome, Failure):
            raise outcome.error
        return outcome.value

    async def info(self) -> RunInfo:
        """What the journal knows of it now."""
        return await self._runner.info(self.run_id)

    async def resume(self) -> Run[Out]:
        """Carry a failed run on from what failed; what had finished is not executed again.

        Returns:
            The run as it goes on now. One that has not failed is left as it is.
        """
        return await self._runner.resume(self.run_id)


class Execution:
    """A run that this runner executes."""

    def __init__(
        self, workflow: WorkflowPrimitive[Any, Any], stored: StoredRun, runtime: DurableRuntime
    ) -> None:
        self.workflow = workflow
        self.stored = stored
        self.runtime = runtime
        self.ended = anyio.Event()
        suspended = JournalError(f"run {stored.start.run_id!r} was suspended as its runner ended")
        self.outcome: Outcome[Any] = Failure(suspended)

    async def result(self) -> Outcome[Any]:
        """How it ended; waits until it has."""
        await self.ended.wait()
        return self.outcome
