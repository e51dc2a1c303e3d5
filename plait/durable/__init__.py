"""Runs that survive the process: the durable runner and its journals."""

from plait.durable._errors import (
    JournalError,
    RunConflictError,
    RunNotFoundError,
    StepInterruptedError,
    WorkflowChangedError,
)
from plait.durable._journal import Journal, RunStatus
from plait.durable._run import Run, RunInfo
from plait.durable._runner import DurableRunner
from plait.durable._sqlite import SqliteJournal
from plait.primitives._public import publish as _publish

__all__ = [
    "DurableRunner",
    "Journal",
    "JournalError",
    "Run",
    "RunConflictError",
    "RunInfo",
    "RunNotFoundError",
    "RunStatus",
    "SqliteJournal",
    "StepInterruptedError",
    "WorkflowChangedError",
]

_publish(globals())
