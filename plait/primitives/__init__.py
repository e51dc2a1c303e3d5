"""The algebra: primitives, the operators that compose them, and the context they run under."""

from plait.primitives._base import WorkflowPrimitive
from plait.primitives._conditional import ConditionalPrimitive
from plait.primitives._context import WorkflowContext
from plait.primitives._decorators import step, workflow
from plait.primitives._errors import (
    PermanentError,
    PlaitError,
    RecordedError,
    RejectedError,
    SerializationError,
    StepTimeoutError,
    UnknownRouteError,
    failed_path,
)
from plait.primitives._futures import Future
from plait.primitives._map import MapPrimitive
from plait.primitives._outcome import Failure, Outcome, Success
from plait.primitives._outside import SignalPayloadError
from plait.primitives._parallel import ParallelPrimitive
from plait.primitives._public import publish as _publish
from plait.primitives._reduce import ReducePrimitive
from plait.primitives._router import RouterPrimitive
from plait.primitives._runtime import Runtime
from plait.primitives._sequential import SequentialPrimitive
from plait.primitives._step import Arguments, Step
from plait.primitives._tail import Calls, Reference
from plait.primitives._waits import SignalPrimitive, SleepPrimitive
from plait.primitives._workflow import Workflow

__all__ = [
    "Arguments",
    "Calls",
    "ConditionalPrimitive",
    "Failure",
    "Future",
    "MapPrimitive",
    "Outcome",
    "ParallelPrimitive",
    "PermanentError",
    "PlaitError",
    "RecordedError",
    "ReducePrimitive",
    "Reference",
    "RejectedError",
    "RouterPrimitive",
    "Runtime",
    "SequentialPrimitive",
    "SerializationError",
    "SignalPayloadError",
    "SignalPrimitive",
    "SleepPrimitive",
    "Step",
    "StepTimeoutError",
    "Success",
    "UnknownRouteError",
    "Workflow",
    "WorkflowContext",
    "WorkflowPrimitive",
    "failed_path",
    "step",
    "workflow",
]

_publish(globals())
