"""Primitives that go on when something fails, or undo what was done."""

from plait.primitives._public import publish as _publish
from plait.recovery._backoff import Backoff, constant, exponential, linear, waits
from plait.recovery._breaker import (
    BreakerChange,
    BreakerState,
    CircuitBreaker,
    CircuitOpenError,
)
from plait.recovery._budget import RetryBudget
from plait.recovery._circuit_breaker import CircuitBreakerPrimitive
from plait.recovery._compensation import CompensationPrimitive
from plait.recovery._fallback import FallbackPrimitive
from plait.recovery._hedge import HedgePrimitive
from plait.recovery._match import ErrorMatch
from plait.recovery._retry import RetryAttempt, RetryPrimitive
from plait.recovery._timeout import TimeoutPrimitive
from plait.recovery._waiting import no_waiting

__all__ = [
    "Backoff",
    "BreakerChange",
    "BreakerState",
    "CircuitBreaker",
    "CircuitBreakerPrimitive",
    "CircuitOpenError",
    "CompensationPrimitive",
    "ErrorMatch",
    "FallbackPrimitive",
    "HedgePrimitive",
    "RetryAttempt",
    "RetryBudget",
    "RetryPrimitive",
    "TimeoutPrimitive",
    "constant",
    "exponential",
    "linear",
    "no_waiting",
    "waits",
]

_publish(globals())
