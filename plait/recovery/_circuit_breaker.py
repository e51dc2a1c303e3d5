"""Not calling what fails."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar

from plait.primitives._base import In, Out
from plait.primitives._errors import note_failure
from plait.primitives._wrapper import Wrapper
from plait.recovery._breaker import BreakerState, CircuitBreaker, CircuitOpenError
from plait.recovery._match import ErrorMatch, matcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from plait.primitives._base import Operand
    from plait.primitives._context import WorkflowContext
    from plait.recovery._backoff import Backoff
    from plait.recovery._breaker import BreakerChange

_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(CircuitBreaker).parameters.items()
}
_EVENTS: dict[BreakerState, str] = {
    "open": "breaker_opened",
    "half_open": "breaker_half_opened",
    "closed": "breaker_closed",
}


class CircuitBreakerPrimitive(Wrapper[In, Out]):
    """Executes a primitive until it fails too often; then refuses to for a while.

    The state is that of a `CircuitBreaker`, which says what each number means. It is this process's
    own: a durable run hands back recorded results and failures, rejections among them, without
    counting them again.

    Put a timeout inside of it rather than around it: a call that is cancelled from outside counts
    neither as a failure nor as a success.

    Args:
        primitive: What is executed.
        failure_threshold: How many failures in a row open it.
        recovery_timeout: How long it stays open, in seconds; or a backoff.
        success_threshold: How many successes close it when it is half open.
        half_open_max: How many calls are let in at once when it is half open.
        expected: Exception classes that count as failures, or a function of the exception. Any
            other is an answer, and counts as a success.
        failure_rate: The share of failures that opens it, in place of failures in a row.
        window: Over how many seconds that share is taken.
        minimum_calls: How many calls there must be in them before it counts.
        on_change: Is called with each `BreakerChange`.
        breaker: A state that several primitives share, in place of all numbers here.

    Raises:
        CircuitOpenError: When it is executed, and open.
        ValueError: A number is out of its range.
        TypeError: `expected` is of another kind, `breaker` comes with numbers of its own, or the
            primitive cannot be composed.

    Example:
        >>> from plait import CircuitBreakerPrimitive, CircuitOpenError
        >>> guarded = CircuitBreakerPrimitive(int, failure_threshold=1)
        >>> for text in ("four", "4"):
        ...     try:
        ...         guarded.run_sync(text)
        ...     except (ValueError, CircuitOpenError) as error:
        ...         print(type(error).__name__)
        ValueError
        CircuitOpenError
    """

    _kind: ClassVar[str] = "circuit_breaker"
    _inside: ClassVar[str] = "/guarded"
    # Whether it lets a call through does not follow from what is inside.
    _is_leaf: ClassVar[bool] = True

    def __init__(
        self,
        primitive: Operand[In, Out],
        *,
        failure_threshold: int = 5,
        recovery_timeout: float | Backoff = 30,
        success_threshold: int = 2,
        half_open_max: int = 1,
        expected: ErrorMatch = Exception,
        failure_rate: float | None = None,
        window: float = 60,
        minimum_calls: int = 10,
        on_change: Callable[[BreakerChange], object] | None = None,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        super().__init__(primitive)
        self._expected = expected
        self._is_expected = matcher(expected, "expected")
        self._options: dict[str, Any] = {
            "failure_threshold": failure_threshold,
            "recovery_timeout": recovery_timeout,
            "success_threshold": success_threshold,
            "half_open_max": half_open_max,
            "failure_rate": failure_rate,
            "window": window,
            "minimum_calls": minimum_calls,
            "on_change": on_change,
        }
        self._shared = breaker
        self.breaker = self._made() if breaker is None else self._checked(breaker)

    async def execute(self, input_data: In, context: WorkflowContext) -> Out:
        """Execute the primitive, unless the breaker is open."""
        frame = context.enter(self, 0)
        before = self.breaker.state
        try:
            permit = self.breaker.enter(context.time())
        except CircuitOpenError as error:
            note_failure(error, frame)
            frame.report("breaker_rejected", breaker=self.breaker.name)
            raise
        before = self._report(before, frame)
        try:
            result: Out = await self._primitive.execute(input_data, frame)
        except Exception as error:
            note_failure(error, frame)
            end = permit.fail if self._is_expected(error) else permit.succeed
            end(context.time())
            raise
        else:
            permit.succeed(context.time())
        finally:
            # Where its end has not been told, it was cancelled.
            permit.release()
            self._report(before, frame)
        return result

    def _report(self, before: BreakerState, frame: WorkflowContext) -> BreakerState:
        after = self.breaker.state
        if after != before and after in _EVENTS:
            frame.report(_EVENTS[after], breaker=self.breaker.name)
        return after

    def _made(self) -> CircuitBreaker:
        return CircuitBreaker(self.label, **self._options)

    def _checked(self, breaker: CircuitBreaker) -> CircuitBreaker:
        if not isinstance(breaker, CircuitBreaker):
            msg = f'breaker={breaker!r} must be a CircuitBreaker, such as CircuitBreaker("bank")'
            raise TypeError(msg)
        given = [name for name, value in self._options.items() if value != _DEFAULTS[name]]
        if given:
            msg = f"{', '.join(given)} beside breaker={breaker!r}, which has numbers of its own"
            raise TypeError(msg)
        return breaker

    def _spec(self) -> dict[str, Any]:
        return {
            "primitive": self._primitive,
            "expected": self._expected,
            "breaker": self._shared,
            **self._options,
        }
