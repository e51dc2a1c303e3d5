"""So many in a time, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, overload

from plait.performance._limited import Limited
from plait.performance._lines import Line
from plait.performance._loops import PerLoop
from plait.primitives._base import In, Out
from plait.primitives._errors import RejectedError, noting

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from plait.performance._lines import Lines
    from plait.primitives._base import Operand
    from plait.primitives._context import WorkflowContext

# Seconds that a clock may be out when it wakes us; so little does not add up, see `_take`.
_EARLY = 1e-6
_FEW_KEYS = 1024


class RateLimit:
    """A limit on how many calls start in a time, for several primitives to share.

    It is the generic cell rate algorithm (ITU-T I.371): a call may start once the calls before it
    have used up their share of the time, `per / rate` seconds each. One number is kept for each
    key, and forgotten once its time is over.

    The limit counts for the process. Calls wait in a line for each event loop.

    Args:
        rate: How many calls may start in `per` seconds.
        per: The time, in seconds.
        burst: How many may start at once after a pause. In any `per` seconds no more than
            `rate + burst - 1` calls start; with 1 they are spread evenly.
        name: What errors and events call it.

    Raises:
        ValueError: A number is out of its range.

    Example:
        >>> from plait import RateLimitPrimitive
        >>> from plait.performance import RateLimit
        >>> api = RateLimit(100, per=60, burst=10, name="api")
        >>> search = RateLimitPrimitive(str.lower, api)
        >>> detail = RateLimitPrimitive(str.upper, api)
    """

    def __init__(
        self, rate: float, per: float, *, burst: int = 1, name: str = "rate limit"
    ) -> None:
        for option, number in (("rate", rate), ("per", per)):
            if not 0 < number < float("inf"):
                msg = f"{option}={number!r} must be positive, and finite"
                raise ValueError(msg)
        if burst < 1:
            msg = f"burst={burst!r} must be at least 1"
            raise ValueError(msg)
        self.name = name
        self._text = f"{rate:g} in {per:g} s"
        self._interval = per / rate
        self._tolerance = (burst - 1) * self._interval
        # When the share of the calls that have started is used up ("theoretical arrival time").
        self._used_until: dict[Hashable, float] = {}
        self._many = _FEW_KEYS
        self._lines: Lines = PerLoop()
        self._waiting = 0

    def __len__(self) -> int:
        """How many keys it keeps a number of."""
        return len(self._used_until)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_waiting": 0}

    def __repr__(self) -> str:
        return f"<RateLimit {self.name!r}: {self._text}>"

    async def enter(self, key: Hashable, max_wait: float | None, context: WorkflowContext) -> None:
        """Wait until a call may start."""
        now = context.time()
        wait = self._wait_of(key, now)
        if wait <= _EARLY and not self._waiting:
            self._take(key, now)
            return
        lines = self._lines.get_or(dict)
        line = lines.get(key)
        if line is None:
            if wait <= _EARLY:
                self._take(key, now)
                return
            line = lines[key] = Line(key)
        # Those before may be cancelled, then it is less.
        wait += len(line.waiting) * self._interval
        if max_wait is not None and wait > max_wait + _EARLY:
            self._leave_empty(key, lines)
            msg = (
                f"{context.label!r} was rejected: it would wait {wait:.3g} s for the {self.name}, "
                f"{self._text}, and may wait {max_wait:g} s"
            )
            context.report("rejected", limit=self.name)
            raise RejectedError(msg, self.name, wait - max_wait)
        context.report("limited", limit=self.name, wait_seconds=max(0.0, wait))
        await self._wait(key, line, lines, context.unrecorded())

    async def _wait(
        self, key: Hashable, line: Line, lines: dict[Hashable, Line], context: WorkflowContext
    ) -> None:
        turn = context.event()
        line.waiting[turn] = None
        self._waiting += 1
        try:
            if line.first() is not turn:
                await turn.wait()
            # Only the first one watches the clock; another loop's first may come before it.
            while (wait := self._wait_of(key, context.time())) > _EARLY:
                await context.sleep(wait)
            self._take(key, context.time())
        finally:
            self._waiting -= 1
            del line.waiting[turn]
            if line.waiting:
                line.first().set()
            self._leave_empty(key, lines)

    def _leave_empty(self, key: Hashable, lines: dict[Hashable, Line]) -> None:
        if not lines[key].waiting:
            del lines[key]

    def _wait_of(self, key: Hashable, now: float) -> float:
        """How long until the next call of a key may start, if no other waits."""
        return self._known(key, now) - self._tolerance - now

    def _take(self, key: Hashable, now: float) -> None:
        # From when the last share ends, not from now: to start early does not shorten the next.
        self._used_until[key] = self._known(key, now) + self._interval
        if len(self._used_until) > self._many:
            keys = list(self._used_until)
            self._used_until = {
                key: until for key in keys if (until := self._known(key, now)) > now
            }
            self._many = max(_FEW_KEYS, 2 * len(self._used_until))

    def _known(self, key: Hashable, now: float) -> float:
        """When what has started is used up; not before now, as a pause saves nothing up."""
        until = self._used_until.get(key, now)
        # No call starts sooner than allowed: what is later is left from a clock that was another.
        latest = now + self._tolerance + self._interval + _EARLY
        return until if now < until <= latest else now


class RateLimitPrimitive(Limited[In, Out]):
    """Executes a primitive at most so often in a time; further calls wait, first come first.

    A call that is cancelled while it waits leaves the line and uses nothing up. In a durable run
    a finished call is not made again and does not count, and the wait, which is this process's
    business, is not recorded.

    Args:
        primitive: What is executed.
        rate: How many calls may start in `per` seconds; or a `RateLimit`, which other primitives
            may have as well.
        per: The time, in seconds.
        max_wait: How many seconds a call waits. One that would wait longer is rejected at once,
            and the error's `retry_after` says when it would not be; None for as long as it takes.
        burst: How many may start at once after a pause; see `RateLimit`.
        key: Makes a key of the input; each key then has a limit of its own, such as each tenant.

    Raises:
        ValueError: A number is out of its range.
        TypeError: The primitive cannot be composed, or an option is of another kind or missing.

    Example:
        >>> from plait import RateLimitPrimitive, RejectedError
        >>> fetch = RateLimitPrimitive(len, 10, per=60, max_wait=1)
        >>> fetch.run_sync("/")
        1
        >>> try:
        ...     fetch.run_sync("/")
        ... except RejectedError as error:
        ...     print(round(error.retry_after))
        5
    """

    _kind: ClassVar[str] = "rate_limit"

    @overload
    def __init__(
        self,
        primitive: Operand[In, Out],
        rate: float,
        per: float,
        *,
        max_wait: float | None = None,
        burst: int | None = None,
        key: Callable[[Any], Hashable] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        primitive: Operand[In, Out],
        rate: RateLimit,
        *,
        max_wait: float | None = None,
        key: Callable[[Any], Hashable] | None = None,
    ) -> None: ...
    def __init__(
        self,
        primitive: Operand[In, Out],
        rate: float | RateLimit,
        per: float | None = None,
        *,
        max_wait: float | None = None,
        burst: int | None = None,
        key: Callable[[Any], Hashable] | None = None,
    ) -> None:
        super().__init__(primitive, max_wait, key)
        if isinstance(rate, RateLimit):
            if per is not None or burst is not None:
                msg = f"per and burst belong to the limit that is shared: {rate!r}"
                raise TypeError(msg)
            self._limit = rate
        elif per is None:
            msg = f"rate={rate!r} needs per=, the seconds in which that many calls may start"
            raise TypeError(msg)
        else:
            name = f"rate limit of {self.label}"
            self._limit = RateLimit(rate, per, burst=1 if burst is None else burst, name=name)

    async def execute(self, input_data: In, context: WorkflowContext) -> Out:
        """Execute the primitive once it is its turn."""
        key = None if self._key is None else self._key(input_data)
        await self._limit.enter(key, self._max_wait, context)
        frame = context.enter(self, 0)
        return await noting(self._primitive.execute(input_data, frame), frame)
