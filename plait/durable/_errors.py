"""The exceptions of the durable runner.

PlaitError
 ├── JournalError                the journal cannot be used
 │    └── LeaseLostError         it cannot be used by this runner, from which another took over
 ├── RunCancelledError           a run was asked to stop, and has
 ├── RunEndedError               a run that has ended was sent a signal
 ├── RunNotFoundError            also a LookupError: no run of that id is in the journal
 └── PermanentError
      ├── RunConflictError       a run of that id was started with something else
      ├── StepInterruptedError   a step that may run once was interrupted after it had begun
      └── WorkflowChangedError   the code no longer fits what the journal says was done
"""

from __future__ import annotations

from plait.primitives import PermanentError, PlaitError


class JournalError(PlaitError):
    """The journal cannot be used: it is not one, is damaged or full, or another runner has it."""


class LeaseLostError(JournalError):
    """Another runner has taken over from this one, which showed no life for too long."""


class RunCancelledError(PlaitError):
    """A run was asked to stop, and has; what its compensations undo is undone.

    Args:
        run_id: Its id.
    """

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.run_id = run_id

    def __str__(self) -> str:
        return f"run {self.run_id!r} was cancelled"


class RunEndedError(PlaitError):
    """A run that has ended takes no signals any more."""


class RunNotFoundError(PlaitError, LookupError):
    """No run of that id is in the journal."""


class RunConflictError(PermanentError):
    """A run of that id was started with another workflow or another input."""


class StepInterruptedError(PermanentError):
    """A step with `at_most_once=True` was under way when its process died.

    It may have had its effect, or not: a fallback may look. Resuming the run executes it again.
    """


class WorkflowChangedError(PermanentError):
    """The workflow no longer fits the journal of a run that it is to go on with.

    The run is left as it is: it goes on once the workflow fits again.

    Args:
        message: What differs.
        path: The first node that differs.
    """

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message, path)
        self.path = path

    def __str__(self) -> str:
        return str(self.args[0])
