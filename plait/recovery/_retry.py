"""Trying again."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from plait.primitives._base import In, Out
from plait.primitives._errors import PermanentError, note_failure
from plait.primitives._wrapper import Wrapper
from plait.recovery._backoff import Backoff, exponential
from plait.recovery._match import ErrorMatch, matcher

if TYPE_CHECKING:
    from collections.abc import Iterator

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


class RetryPrimitive(Wrapper[In, Out]):
    """Executes a primitive again while it fails, up to `max_retries` times more.

    The waits have full jitter (a random share of the scheduled wait, as in "Exponential Backoff
    And Jitter", AWS Architecture Blog, 2015), so that callers that failed together do not come
    back together. An error with a `retry_after` of its own, in seconds, decides the next wait.

    Args:
        primitive: What is executed.
        max_retries: How often it is tried again.
        backoff: The waits between attempts; where the schedule ends, so do the retries.
        jitter: Whether each wait is a random share of the scheduled one.
        retry_on: Exception classes, or a function of the exception. `PermanentError` and mistakes
            in the program, such as `TypeError` and `NameError`, are never retried.
        max_elapsed: No attempt starts later than this many seconds after the first.

    Raises:
        ValueError: A number is negative.
        TypeError: `retry_on` or `backoff` is of another kind, or the primitive cannot be composed.

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
        super().__init__(primitive)
        self._attempts = max_retries + 1
        self._backoff = backoff
        self._jitter = jitter
        self._retry_on = retry_on
        self._retries = matcher(retry_on, "retry_on")
        self._max_elapsed = max_elapsed

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
                failures.append(repr(error))
                waits = iter(self._backoff) if waits is None else waits
                wait = self._wait_after(error, len(failures), waits, frame)
                if wait is None or self._is_over(context.time() + wait - started):
                    if len(failures) > 1:
                        error.add_note(f"gave up after {len(failures)} attempts: {failures}")
                    raise
            else:
                return result
            await frame.sleep(wait)
            frame = context.enter(self, len(failures) + 1)

    def _spec(self) -> dict[str, Any]:
        return {
            "primitive": self._primitive,
            "max_retries": self._attempts - 1,
            "backoff": self._backoff,
            "jitter": self._jitter,
            "retry_on": self._retry_on,
            "max_elapsed": self._max_elapsed,
        }

    def _wait_after(
        self, error: Exception, attempts: int, waits: Iterator[float], frame: WorkflowContext
    ) -> float | None:
        if attempts >= self._attempts or isinstance(error, NEVER_RETRIED):
            return None
        wait = next(waits, None)
        if wait is None or not self._retries(error):
            return None
        asked = getattr(error, "retry_after", None)
        if isinstance(asked, timedelta):
            asked = asked.total_seconds()
        if isinstance(asked, int | float):
            return max(0, asked)
        return frame.random.uniform(0, wait) if self._jitter else wait

    def _is_over(self, elapsed: float) -> bool:
        return self._max_elapsed is not None and elapsed > self._max_elapsed
