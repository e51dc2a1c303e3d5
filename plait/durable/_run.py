"""A run as its caller holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from plait.durable._client import value_of

if TYPE_CHECKING:
    from plait.durable._again import Reruns
    from plait.durable._execution import Ending
    from plait.durable._info import RunInfo

Out = TypeVar("Out")


class Run(Generic[Out]):
    """A run, wherever it is executed.

    Attributes:
        run_id: Its id.
    """

    def __init__(self, runner: Reruns, run_id: str, ending: Ending | None) -> None:
        self.run_id = run_id
        self._runner = runner
        self._ending = ending

    def __repr__(self) -> str:
        return f"<Run {self.run_id!r}>"

    @property
    def replayed(self) -> int:
        """How many nodes this runner found done in the journal, and did not execute again."""
        return 0 if self._ending is None else self._ending.counts[0]

    @property
    def executed(self) -> int:
        """How many nodes this runner executed and recorded."""
        return 0 if self._ending is None else self._ending.counts[1]

    async def result(self) -> Out:
        """Wait until the run has ended, and return what its workflow returned.

        In the body of another durable run this is a wait like any other: that run leaves memory
        meanwhile, and one that is cancelled while it waits cancels this one.

        Raises:
            RunCancelledError: The run was cancelled.
            WorkflowChangedError: The workflow no longer fits what the journal says was done.
            JournalError: The journal cannot be written or read.
            Exception: What the workflow raised, as its own type where that can be built again,
                else a `RecordedError`.
        """
        result: Out = value_of(await self._runner._outcome(self.run_id, self._ending))
        return result

    async def info(self) -> RunInfo:
        """What the journal knows of it now."""
        return await self._runner.info(self.run_id)

    async def signal(self, name: str, payload: object = None) -> None:
        """Send it a signal; see `DurableRunner.signal`."""
        await self._runner.signal(self.run_id, name, payload)

    async def event(self, name: str, *, timeout: float | None = None) -> Any:
        """Wait for an event that the run sets, and return its value.

        In the body of another durable run this is a wait like any other.

        Args:
            name: The event's name.
            timeout: How long to wait, in seconds.

        Raises:
            StepTimeoutError: It was not set in time.
            RunEndedError: The run ended without it.
        """
        return await self._runner.event(self.run_id, name, timeout=timeout)

    async def cancel(self) -> bool:
        """Ask the run to stop; whether it had not ended yet. See `DurableRunner.cancel`."""
        return await self._runner.cancel(self.run_id)

    async def resume(self) -> Run[Out]:
        """Carry a failed run on from what failed; what had finished is not executed again.

        Returns:
            The run as it goes on now. One that has not failed is left as it is.
        """
        return await self._runner.resume(self.run_id)
