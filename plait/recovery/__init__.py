"""Primitives that go on when something fails: retry, fallback, timeout."""

from plait.primitives._public import publish as _publish
from plait.recovery._backoff import Backoff, constant, exponential
from plait.recovery._fallback import FallbackPrimitive
from plait.recovery._match import ErrorMatch
from plait.recovery._retry import RetryPrimitive
from plait.recovery._timeout import TimeoutPrimitive

__all__ = [
    "Backoff",
    "ErrorMatch",
    "FallbackPrimitive",
    "RetryPrimitive",
    "TimeoutPrimitive",
    "constant",
    "exponential",
]

_publish(globals())
