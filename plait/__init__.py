"""plait composes async Python into workflows that can be run in process, or durably.

The names that a newcomer looks for are here; each lives in one of the subpackages, beside what it
belongs with: `plait.primitives`, `plait.recovery`, `plait.performance`, `plait.testing`,
`plait.durable`, `plait.observability`.
"""

from plait.observability import ambient_runtime as _ambient_runtime
from plait.performance import (
    BatchPrimitive,
    CachePrimitive,
    ConcurrencyLimitPrimitive,
    RateLimitPrimitive,
)
from plait.primitives import (
    ConditionalPrimitive,
    Failure,
    Future,
    MapPrimitive,
    Outcome,
    ParallelPrimitive,
    PermanentError,
    PlaitError,
    RecordedError,
    ReducePrimitive,
    RejectedError,
    RouterPrimitive,
    SequentialPrimitive,
    SerializationError,
    SignalPayloadError,
    SignalPrimitive,
    SleepPrimitive,
    Step,
    StepTimeoutError,
    Success,
    UnknownRouteError,
    Workflow,
    WorkflowContext,
    WorkflowPrimitive,
    _ambient,
    failed_path,
    step,
    workflow,
)
from plait.primitives._public import publish as _publish
from plait.recovery import (
    CircuitBreaker,
    CircuitBreakerPrimitive,
    CircuitOpenError,
    CompensationPrimitive,
    FallbackPrimitive,
    HedgePrimitive,
    RetryBudget,
    RetryPrimitive,
    TimeoutPrimitive,
)
from plait.testing import MockPrimitive

__all__ = [
    "BatchPrimitive",
    "CachePrimitive",
    "CircuitBreaker",
    "CircuitBreakerPrimitive",
    "CircuitOpenError",
    "CompensationPrimitive",
    "ConcurrencyLimitPrimitive",
    "ConditionalPrimitive",
    "Failure",
    "FallbackPrimitive",
    "Future",
    "HedgePrimitive",
    "MapPrimitive",
    "MockPrimitive",
    "Outcome",
    "ParallelPrimitive",
    "PermanentError",
    "PlaitError",
    "RateLimitPrimitive",
    "RecordedError",
    "ReducePrimitive",
    "RejectedError",
    "RetryBudget",
    "RetryPrimitive",
    "RouterPrimitive",
    "SequentialPrimitive",
    "SerializationError",
    "SignalPayloadError",
    "SignalPrimitive",
    "SleepPrimitive",
    "Step",
    "StepTimeoutError",
    "Success",
    "TimeoutPrimitive",
    "UnknownRouteError",
    "Workflow",
    "WorkflowContext",
    "WorkflowPrimitive",
    "failed_path",
    "step",
    "workflow",
]

_ambient.use(_ambient_runtime)

_publish(globals())
