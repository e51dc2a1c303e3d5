"""Waiting as a step of a composition: for some time, or for a signal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

from plait.primitives._base import WorkflowPrimitive

if TYPE_CHECKING:
    from collections.abc import Callable

    from plait.primitives._context import WorkflowContext

T = TypeVar("T")
P = TypeVar("P")
R = TypeVar("R")


class SleepPrimitive(WorkflowPrimitive[T, T], Generic[T]):
    """Waits, then hands its input on.

    A durable run leaves memory meanwhile; one that is interrupted waits only for what is left.

    Args:
        seconds: How long, or a function of the input that says so.

    Raises:
        ValueError: The time is negative.

    Example:
        >>> from plait import SleepPrimitive
        >>> (SleepPrimitive(0.001) >> str.upper).run_sync("later")
        'LATER'
    """

    _kind: ClassVar[str] = "sleep"
    _is_leaf: ClassVar[bool] = False

    def __init__(self, seconds: float | Callable[[T], float]) -> None:
        self._seconds = seconds if callable(seconds) else _checked(seconds)

    async def execute(self, input_data: T, context: WorkflowContext) -> T:
        """Wait, and return the input."""
        seconds = self._seconds
        await context.sleep(_checked(seconds(input_data)) if callable(seconds) else seconds)
        return input_data

    def _spec(self) -> dict[str, Any]:
        return {"seconds": self._seconds}


class SignalPrimitive(WorkflowPrimitive[T, R], Generic[T, R]):
    """Waits until the run is sent a signal; its result is what the signal brought.

    Args:
        signal: The signal's name.
        payload_type: What it brings; plain data is validated into dataclasses and models.
        timeout: How long to wait, in seconds; None for as long as it takes.
        combine: Makes the result of the input and what the signal brought.

    Raises:
        ValueError: The name is empty, or the timeout not positive.

    Example:
        >>> from plait import SignalPrimitive, WorkflowContext
        >>> def decide(order: str, approved: bool) -> str:
        ...     return f"{order}: {'ship' if approved else 'drop'}"
        >>> review = SignalPrimitive("reviewed", bool, timeout=86_400, combine=decide)
        >>> context = WorkflowContext()
        >>> context.signal("reviewed", True)
        >>> review.run_sync("order 42", context)
        'order 42: ship'
    """

    _is_leaf: ClassVar[bool] = False

    @overload
    def __init__(
        self: SignalPrimitive[object, Any], signal: str, *, timeout: float | None = None
    ) -> None: ...
    @overload
    def __init__(
        self: SignalPrimitive[object, P],
        signal: str,
        payload_type: type[P],
        *,
        timeout: float | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: SignalPrimitive[T, R],  # pyright: ignore[reportInvalidTypeVarUse]
        signal: str,
        payload_type: type[P],
        *,
        timeout: float | None = None,
        combine: Callable[[T, P], R],
    ) -> None: ...
    def __init__(
        self,
        signal: str,
        payload_type: Any = object,
        *,
        timeout: float | None = None,
        combine: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        if not signal:
            msg = "the name of a signal must not be empty"
            raise ValueError(msg)
        if timeout is not None and not timeout > 0:
            msg = f"timeout={timeout!r} of signal {signal!r} must be positive"
            raise ValueError(msg)
        self._name = self.signal = signal
        self.payload_type = payload_type
        self._timeout = timeout
        self._combine = combine

    async def execute(self, input_data: T, context: WorkflowContext) -> R:
        """Wait for the signal."""
        payload = await context.wait_for(self.signal, self.payload_type, timeout=self._timeout)
        result: R = payload if self._combine is None else self._combine(input_data, payload)
        return result

    def _spec(self) -> dict[str, Any]:
        return {
            "signal": self.signal,
            "payload_type": self.payload_type,
            "timeout": self._timeout,
            "combine": self._combine,
        }


def _checked(seconds: float) -> float:
    if not seconds >= 0:
        msg = f"a sleep of {seconds!r} s: it must not be negative"
        raise ValueError(msg)
    return seconds
