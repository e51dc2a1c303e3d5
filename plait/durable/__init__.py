"""Runs that survive the process: the durable runner and its journals."""

from plait.durable._blobs import BlobInfo, BlobStore, FolderBlobStore, ObjectBlobStore
from plait.durable._codec import Codec, JsonCodec
from plait.durable._encryption import EncryptedCodec
from plait.durable._errors import (
    JournalError,
    LeaseLostError,
    RunCancelledError,
    RunConflictError,
    RunEndedError,
    RunNotFoundError,
    StepInterruptedError,
    WorkflowChangedError,
)
from plait.durable._info import Progress, RunInfo, Waiting
from plait.durable._journal import Journal
from plait.durable._memory import MemoryJournal
from plait.durable._postgres import PostgresJournal
from plait.durable._queues import Queue
from plait.durable._run import Run
from plait.durable._runner import DurableRunner
from plait.durable._schedules import Schedule
from plait.durable._sqlite import SqliteJournal
from plait.durable._stored import RunStatus
from plait.durable._transactions import TransactionStep
from plait.durable._verification import Verification
from plait.primitives._public import publish as _publish

__all__ = [
    "BlobInfo",
    "BlobStore",
    "Codec",
    "DurableRunner",
    "EncryptedCodec",
    "FolderBlobStore",
    "Journal",
    "JournalError",
    "JsonCodec",
    "LeaseLostError",
    "MemoryJournal",
    "ObjectBlobStore",
    "PostgresJournal",
    "Progress",
    "Queue",
    "Run",
    "RunCancelledError",
    "RunConflictError",
    "RunEndedError",
    "RunInfo",
    "RunNotFoundError",
    "RunStatus",
    "Schedule",
    "SqliteJournal",
    "StepInterruptedError",
    "TransactionStep",
    "Verification",
    "Waiting",
    "WorkflowChangedError",
]

_publish(globals())
