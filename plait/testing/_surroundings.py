"""What the tools that run workflows again and again share: their time, and the user's functions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from plait.primitives import Failure, Outcome, Success
from plait.primitives._sameness import same
from plait.testing._clock import VirtualClock
from plait.testing._clock._virtual import running_clock


def virtual_time() -> AbstractAsyncContextManager[VirtualClock]:
    """The virtual clock that the caller runs under, or a new one."""
    running = running_clock()
    return VirtualClock() if running is None else nullcontext(running)


async def called(function: Callable[..., Any] | None, *args: object) -> Any:
    """What a function of the user's returns, sync or async; None where there is none."""
    if function is None:
        return None
    result = function(*args)
    return await result if hasattr(result, "__await__") else result


def told(outcome: Outcome[Any]) -> str:
    """How a run ended, in one line."""
    if isinstance(outcome, Failure):
        return f"{type(outcome.error).__name__}: {outcome.error}"
    return repr(outcome.value)


def same_outcome(left: Outcome[Any], right: Outcome[Any]) -> bool:
    """Whether two runs ended alike."""
    match left, right:
        case Success(one), Success(other):
            return alike(one, other)
        case Failure(one), Failure(other):
            return same(one, other)
        case _:
            return False


def alike(left: object, right: object) -> bool:
    """Whether two values are equal, to Python or to a journal."""
    return bool(left == right) or same(left, right)
