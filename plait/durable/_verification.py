"""Whether a workflow's code still fits what a run has done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from plait.durable._errors import WorkflowChangedError
from plait.durable._execution import Execution, abort_in, current_run
from plait.durable._recorder import FrontierReached
from plait.primitives import Failure, Outcome, Runtime, Success
from plait.primitives._context import current_context
from plait.primitives._sameness import same

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plait.durable._executor import Executor
    from plait.durable._stored import Record, StoredRun

_PATIENCE_SECONDS = 10
"""How long code that waits for something of its own is waited for."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of a replay that executed nothing.

    Attributes:
        run_id: The run.
        error: How the code no longer fits; None where it does.
        replayed: How many nodes were handed back from the journal.
        stopped_at: The node that would be executed next; None where the run was replayed whole.
    """

    run_id: str
    error: WorkflowChangedError | None
    replayed: int
    stopped_at: str | None

    @property
    def fits(self) -> bool:
        """Whether the code fits the run."""
        return self.error is None


class _AsOf(Runtime):
    """Has it be no earlier than when a run got where it is: waits that were over then still are."""

    def __init__(self, timestamp: float, inner: Runtime | None) -> None:
        super().__init__(inner)
        self._timestamp = timestamp

    def timestamp(self) -> float:
        """Seconds since the epoch."""
        return max(self._timestamp, super().timestamp())


async def verify(executor: Executor, stored: StoredRun, records: Sequence[Record]) -> Verification:
    """Replay a run without executing or recording anything.

    Raises:
        JournalError: Something that is recorded cannot be decoded.
    """
    runtime = executor.runtime(stored)
    runtime.is_verifying = True
    runtime.inner = _AsOf(stored.updated, runtime.inner)
    execution = Execution(executor.workflows[stored.start.workflow], stored, records, runtime)
    error, stopped_at = None, None
    try:
        outcome = await _replayed(executor, execution)
    except BaseException as ended:
        abort = abort_in(ended)
        if abort is None:
            raise
        if isinstance(abort.error, FrontierReached):
            stopped_at = abort.error.path
        elif isinstance(abort.error, WorkflowChangedError):
            error = abort.error
        else:
            raise abort.error from None
    else:
        error = _compared(executor, stored, outcome)
    if stopped_at is not None and stored.status == "completed":
        msg = f"the run has completed, and {stopped_at!r} would be executed now"
        error = WorkflowChangedError(msg, stopped_at)
    return Verification(stored.start.run_id, error, runtime.replayed, stopped_at)


async def _replayed(executor: Executor, execution: Execution) -> Outcome[object] | None:
    context, input_data = await execution.restored(executor.codec, executor.blobs)
    # What the code asks a runner for, it asks for on behalf of this run.
    tokens = current_run.set(execution.runtime), current_context.set(None)
    try:
        with anyio.move_on_after(_PATIENCE_SECONDS):
            try:
                result = await execution.workflow.execute(input_data, context)
                executor.codec.encode(result, execution.workflow)
                return Success(result)
            except Exception as error:  # noqa: BLE001 - how the run ended, perhaps
                return Failure(error)
        return None
    finally:
        current_run.reset(tokens[0])
        current_context.reset(tokens[1])


def _compared(
    executor: Executor, stored: StoredRun, outcome: Outcome[object] | None
) -> WorkflowChangedError | None:
    path = stored.start.workflow
    if stored.outcome is None:
        return None
    if outcome is None:
        return WorkflowChangedError(f"the run has {stored.status}, and waits for ever now", path)
    if isinstance(outcome, Failure):
        if stored.status == "completed":
            msg = f"the run has completed, and fails now with {outcome.error!r}"
            return WorkflowChangedError(msg, path)
        return None
    workflow = executor.workflows[stored.start.workflow]
    if stored.status != "completed":
        msg = f"the run has {stored.status}, and returns {outcome.value!r} now"
        return WorkflowChangedError(msg, path)
    recorded = executor.codec.decode(stored.outcome, workflow)
    if not same(outcome.value, recorded):
        msg = f"the run returned {recorded!r}, and returns {outcome.value!r} now"
        return WorkflowChangedError(msg, path)
    return None
