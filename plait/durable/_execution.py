"""A run as a runner executes it, and what is left of that for those who wait for its end."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio

from plait.durable._codec import encode_error
from plait.durable._errors import JournalError
from plait.primitives import Failure, Outcome, Success, WorkflowContext
from plait.primitives._errors import Abort

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plait.durable._blobs import Blobs
    from plait.durable._codec import Codec
    from plait.durable._runtime import DurableRuntime
    from plait.durable._stored import Record, StoredRun, Wait
    from plait.primitives import WorkflowPrimitive

current_run: ContextVar[DurableRuntime | None] = ContextVar("plait_run", default=None)
"""The run that the code which is asked now belongs to."""


class Ending:
    """What is left of a run once it is out of memory, for those who wait for it.

    Args:
        runtime: What executes it.
    """

    __slots__ = ("_counts", "_ended", "_runtime", "outcome")

    def __init__(self, runtime: DurableRuntime) -> None:
        self.outcome: Outcome[Any] | None = None
        """How it ended; None where it was let go to wait, or another runner has it."""
        self._runtime: DurableRuntime | None = runtime
        self._counts = (0, 0)
        self._ended: anyio.Event | None = None

    @property
    def counts(self) -> tuple[int, int]:
        """How many nodes were replayed and how many executed."""
        runtime = self._runtime
        return self._counts if runtime is None else (runtime.replayed, runtime.executed)

    def set(self) -> None:
        """Tell that the run has ended, or left memory."""
        self._counts, self._runtime = self.counts, None
        if self._ended is not None:
            self._ended.set()

    @property
    def is_awaited(self) -> bool:
        """Whether somebody has waited for it."""
        return self._ended is not None

    async def wait(self) -> None:
        """Wait until the run has ended, or left memory."""
        if self._runtime is not None:
            # Most are never waited for, or not before they have ended.
            self._ended = self._ended or anyio.Event()
            await self._ended.wait()


class Execution:
    """A run that this runner executes.

    Args:
        workflow: Its workflow.
        stored: What the journal says of it.
        records: What is recorded of it.
        runtime: What executes it.
    """

    __slots__ = (
        "ending",
        "idle_since",
        "is_lost",
        "is_over",
        "is_taken",
        "records",
        "runtime",
        "stored",
        "waits",
        "workflow",
    )

    def __init__(
        self,
        workflow: WorkflowPrimitive[Any, Any],
        stored: StoredRun,
        records: Sequence[Record],
        runtime: DurableRuntime,
    ) -> None:
        self.workflow = workflow
        self.stored = stored
        self.records = records
        self.runtime = runtime
        self.ending = Ending(runtime)
        self.waits: list[Wait] | None = None
        """What it was let go to wait for."""
        self.idle_since = ((-1, -1), 0.0)
        """What it had done, and when, as it began to do nothing but wait."""
        self.is_taken = False
        """Whether it was taken from the journal, and counts as such."""
        self.is_lost = False
        """Whether another runner has taken it over."""
        self.is_over = False
        """Whether the journal is told how it ended, or that it waits."""

    def let_go(self) -> None:
        """Have it leave memory."""
        self.runtime.let_go()

    def lose(self) -> None:
        """Have it leave memory, as it is another runner's now."""
        self.is_lost = True
        self.let_go()

    async def carried_out(self, codec: Codec, blobs: Blobs) -> tuple[Outcome[Any], bytes]:
        """Execute it to its end: how it ended, and that encoded.

        Raises:
            JournalError: What it was started with cannot be decoded, or a blob is missing.
        """
        context, input_data = await self.restored(codec, blobs)
        try:
            result = await self.workflow.execute(input_data, context)
            return Success(result), codec.encode(result, self.workflow)
        except Exception as error:  # noqa: BLE001 - kept as the run's outcome
            return Failure(error), encode_error(codec, error)

    async def restored(self, codec: Codec, blobs: Blobs) -> tuple[WorkflowContext, Any]:
        """The context and the input that it was started with, with what is recorded loaded.

        Raises:
            JournalError: Something cannot be decoded, or a blob is missing.
        """
        runtime, start = self.runtime, self.stored.start
        payload = await blobs.get(start.payload, start.run_id)
        try:
            shared, input_data = codec.decode(start.context), codec.decode(payload)
        except ValueError as error:
            msg = f"what run {start.run_id!r} was started with cannot be decoded: {error}"
            raise JournalError(msg) from error
        origin = shared.pop("origin", None)
        context = WorkflowContext(workflow_id=start.workflow, parent_span=origin, **shared)
        context._runtime = runtime
        context._run.run_id = start.run_id
        if self.records or context.data:
            await runtime.load(self.records, context.data)
            self.records = ()
        return context, input_data


def abort_in(error: BaseException) -> Abort | None:
    """What ended a run from inside of it, also out of a task group of the user's."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(abort_in, error.exceptions)), None)
    return error if isinstance(error, Abort) else None
