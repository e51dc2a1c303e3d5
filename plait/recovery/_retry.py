"""Trying again."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from plait.primitives._base import In, Out
from plait.primitives._errors import PermanentError, note_failure
from plait.primitives._wrapper import Wrapper
from plait.recovery._backoff import Backoff, exponential
from plait.recovery._budget import RetryBudget
from plait.recovery._match import ErrorMatch, matcher
from plait.recovery._retry_after import retry_after
from plait.recovery._waiting import bounded_retries, waiting_is_off

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from plait.primitives._base import Operand
    from plait.primitives._context import WorkflowContext


NEVER_RETRIED = (
    PermanentError,
    AttributeError,
    ImportError,
    NameError,
    NotImplementedError,
    SyntaxError,
    TypeError,
)
"""What another attempt cannot mend: a failure declared so, or a mistake in the program."""


@dataclass(frozen=True, slots=True)
class RetryAttempt:
    """A failed attempt that another one follows.

    Attributes:
        attempt: Which it was, from 1.
        error: What it raised.
        wait_seconds: How long the next one is waited for.
        path: Where it was, such as `orders/1:charge/attempt 2`.
    """

    attempt: int
    error: Exception
    wait_seconds: float
    path: str


class RetryPrimitive(Wrapper[In, Out]):
    """Executes a primitive again while it fails, up to `max_retries` times more.

    The waits have full jitter (a random share of the scheduled wait, as in "Exponential Backoff
    And Jitter", AWS Architecture Blog, 2015), so that callers that failed together do not come
    back together. An error that says when to try again decides the next wait: one with a
    `retry_after` (seconds or a timedelta), or with the `Retry-After` header of RFC 9110 on its
    `response`, as httpx's and requests' have it, or on itself.

    Args:
        primitive: What is executed.
        max_retries: How often it is tried again.
        backoff: The waits between attempts; where the schedule ends, so do the retries.
        jitter: Whether each wait is a random share of the scheduled one.
        retry_on: Exception classes, or a function of the exception. `PermanentError` and mistakes
            in the program, such as `TypeError` and `NameError`, are never retried.
        max_elapsed: No attempt starts later than this many seconds after the first.
        on_retry: Is called with a `RetryAttempt` before each wait; sync or async. What it raises
            ends the retries.
        budget: Turns retries off while too much fails; several primitives may share one.

    Raises:
        ValueError: A number is negative.
        TypeError: `retry_on`, `backoff`, `on_retry` or `budget` is of another kind, or the
            primitive cannot be composed.

    Example:
        >>> from plait import RetryPrimitive, step
        >>> from plait.recovery import constant
        >>> calls = []
        >>> @step
        ... async def flaky(url: str) -> str:
        ...     calls.append(url)
        ...     if len(calls) < 3:
        ...         raise ConnectionError(url)
        ...     return "ok"
        >>> RetryPrimitive(flaky, backoff=constant(0)).run_sync("/status"), len(calls)
        ('ok', 3)
    """

    _repeats_input: ClassVar[bool] = True
    _kind: ClassVar[str] = "retry"
    _inside: ClassVar[str] = "/attempt {}"

    def __init__(
        self,
        primitive: Operand[In, Out],
        max_retries: int = 3,
        *,
        backoff: Backoff = exponential(0.5, max_delay=60),  # noqa: B008 - immutable
        jitter: bool = True,
        retry_on: ErrorMatch = Exception,
        max_elapsed: float | None = None,
        on_retry: Callable[[RetryAttempt], object] | None = None,
        budget: RetryBudget | None = None,
    ) -> None:
        if max_retries < 0:
            msg = f"max_retries={max_retries!r} must not be negative"
            raise ValueError(msg)
        if max_elapsed is not None and max_elapsed < 0:
            msg = f"max_elapsed={max_elapsed!r} must not be negative"
            raise ValueError(msg)
        if not isinstance(backoff, Backoff):
            msg = f"backoff={backoff!r} must be a Backoff, such as constant(1) or exponential(0.5)"
            raise TypeError(msg)
        if on_retry is not None and not callable(on_retry):
            msg = f"on_retry={on_retry!r} must be a function of a RetryAttempt"
            raise TypeError(msg)
        if budget is not None and not isinstance(budget, RetryBudget):
            msg = f"budget={budget!r} must be a RetryBudget"
            raise TypeError(msg)
        super().__init__(primitive)
        self._attempts = max_retries + 1
        self._backoff = backoff
        self._jitter = jitter
        self._retry_on = retry_on
        self._retries = matcher(retry_on, "retry_on")
        self._max_elapsed = max_elapsed
        self._on_retry = on_retry
        self._budget = budget

    async def execute(self, input_data: In, context: WorkflowContext) -> Out:
        """Execute the primitive until it succeeds or the retries are used up."""
        frame = context.enter(self, 1)
        started = 0.0 if self._max_elapsed is None else context.time()
        waits: Iterator[float] | None = None
        failures: list[str] = []
        while True:
            try:
                result: Out = await self._primitive.execute(input_data, frame)
            except Exception as error:
                note_failure(error, frame)
                failures.append(_shown(error))
                waits = iter(self._backoff) if waits is None else waits
                wait = self._wait_after(error, len(failures), waits, frame)
                following = context.enter(self, len(failures) + 1)
                # What a run had gone on after, before it was interrupted, it goes on after again.
                has_gone_on = _has_gone_on(frame, following)
                if wait is None or not (
                    has_gone_on or self._may_go_on(error, wait, started, frame)
                ):
                    if len(failures) > 1:
                        error.add_note(f"gave up after {len(failures)} attempts: {failures}")
                    raise
                if not has_gone_on:
                    await self._tell(RetryAttempt(len(failures), error, wait, frame.path), frame)
            else:
                if self._budget is not None:
                    self._budget.succeed()
                return result
            await frame.sleep(wait)
            frame = following

    def _spec(self) -> dict[str, Any]:
        return {
            "primitive": self._primitive,
            "max_retries": self._attempts - 1,
            "backoff": self._backoff,
            "jitter": self._jitter,
            "retry_on": self._retry_on,
            "max_elapsed": self._max_elapsed,
            "on_retry": self._on_retry,
            "budget": self._budget,
        }

    def _wait_after(
        self, error: Exception, attempts: int, waits: Iterator[float], frame: WorkflowContext
    ) -> float | None:
        if isinstance(error, NEVER_RETRIED) or not self._retries(error):
            return None
        if self._budget is not None:
            self._budget.fail()
        wait = next(waits, None)
        if wait is None or attempts > bounded_retries(self._attempts - 1):
            return None
        asked = retry_after(error, frame.now)
        if waiting_is_off():
            return 0
        if asked is not None:
            return asked
        return frame.random.uniform(0, wait) if self._jitter else wait

    def _may_go_on(
        self, error: Exception, wait: float, started: float, frame: WorkflowContext
    ) -> bool:
        if self._max_elapsed is not None and frame.time() + wait - started > self._max_elapsed:
            return False
        if self._budget is not None and not self._budget.allows_retries:
            error.add_note(f"not tried again, as too much fails: {self._budget!r}")
            return False
        return True

    async def _tell(self, attempt: RetryAttempt, frame: WorkflowContext) -> None:
        frame.report(
            "retry",
            attempt=attempt.attempt,
            wait_seconds=attempt.wait_seconds,
            error=type(attempt.error).__name__,
        )
        if self._on_retry is not None:
            told = self._on_retry(attempt)
            if isinstance(told, Awaitable):
                await told


def _has_gone_on(frame: WorkflowContext, following: WorkflowContext) -> bool:
    runtime = frame._runtime
    return following.has_begun or (
        runtime is not None and runtime.is_recorded(f"{frame.path}#sleep")
    )


def _shown(error: Exception) -> str:
    try:
        return repr(error)
    except Exception:  # noqa: BLE001 - what an error holds may no longer be there to be shown
        return f"<{type(error).__name__}, of which repr() failed>"
