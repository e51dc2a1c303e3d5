"""The state of a circuit breaker: when calls are let through. No event loop is involved."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from plait.primitives._errors import PlaitError
from plait.recovery._backoff import Backoff, constant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BreakerState: TypeAlias = Literal["closed", "open", "half_open", "isolated"]
"""What a circuit breaker is: "isolated" is held open by hand."""

_BUCKETS = 10
_logger = logging.getLogger("plait")


class CircuitOpenError(PlaitError):
    """A circuit breaker let nothing through: what it guards has failed too often of late.

    Args:
        name: The breaker's name.
        retry_after: In how many seconds it lets something through again, which a
            `RetryPrimitive` waits for; None where that is not known.
    """

    def __init__(self, name: str, retry_after: float | None = None) -> None:
        super().__init__(name, retry_after)
        self.name = name
        self.retry_after = retry_after

    def __str__(self) -> str:
        if self.retry_after is None:
            return f"circuit breaker {self.name!r} lets nothing through"
        return f"circuit breaker {self.name!r} is open for another {self.retry_after:.3g} s"


@dataclass(frozen=True, slots=True)
class BreakerChange:
    """A circuit breaker that went from one state to another.

    Attributes:
        breaker: Its name.
        before: The state it was in.
        after: The state it is in now.
    """

    breaker: str
    before: BreakerState
    after: BreakerState


class CircuitBreaker:
    """Stops calling what fails: closed, open, half open (Nygard, "Release It!", 2007).

    Closed, it lets everything through, and opens after `failure_threshold` failures in a row; or,
    with `failure_rate`, once that share of the calls of the last `window` seconds has failed (the
    time-based window of resilience4j, in ten parts). Open, it lets nothing through for
    `recovery_timeout`. Then, half open, it lets in `half_open_max` calls at a time: a failure opens
    it again, `success_threshold` successes close it. A call that is cancelled says nothing either
    way, and one that started before the last change comes too late to count.

    One breaker given to several primitives is one state for all of them; it may be used from
    several threads.

    Args:
        name: What it guards, for errors and observers.
        failure_threshold: How many failures in a row open it.
        recovery_timeout: How long it stays open, in seconds; or a backoff, whose next wait it
            takes each time that it opens again without having been closed.
        success_threshold: How many successes close it when it is half open.
        half_open_max: How many calls are let in at once when it is half open.
        failure_rate: The share of failures, over 0 and up to 1, that opens it, in place of failures
            in a row.
        window: Over how many seconds that share is taken.
        minimum_calls: How many calls there must be in them before it counts.
        on_change: Is called with each `BreakerChange`. What it raises is logged.

    Raises:
        ValueError: A number is out of its range.
        TypeError: `on_change` is no function.

    Example:
        >>> from plait.recovery import CircuitBreaker
        >>> breaker = CircuitBreaker("payments", failure_threshold=2, recovery_timeout=30)
        >>> for now in (0, 1):
        ...     breaker.enter(now).fail(now)
        >>> breaker.state
        'open'
        >>> breaker.enter(11)
        Traceback (most recent call last):
        ...
        plait.CircuitOpenError: circuit breaker 'payments' is open for another 20 s
        >>> breaker.enter(31).succeed(32)
        >>> breaker.enter(32).succeed(33)
        >>> breaker.state
        'closed'
    """

    def __init__(
        self,
        name: str,
        *,
        failure_threshold: int = 5,
        recovery_timeout: float | Backoff = 30,
        success_threshold: int = 2,
        half_open_max: int = 1,
        failure_rate: float | None = None,
        window: float = 60,
        minimum_calls: int = 10,
        on_change: Callable[[BreakerChange], object] | None = None,
    ) -> None:
        counts = {
            "failure_threshold": failure_threshold,
            "success_threshold": success_threshold,
            "half_open_max": half_open_max,
            "minimum_calls": minimum_calls,
        }
        for option, count in counts.items():
            if not count >= 1:
                msg = f"{option}={count!r} of circuit breaker {name!r} must be at least 1"
                raise ValueError(msg)
        if failure_rate is not None and not 0 < failure_rate <= 1:
            msg = f"failure_rate={failure_rate!r} of circuit breaker {name!r} must be in (0, 1]"
            raise ValueError(msg)
        for option, seconds in (("window", window), ("recovery_timeout", recovery_timeout)):
            if not isinstance(seconds, Backoff) and not 0 < seconds < math.inf:
                msg = f"{option}={seconds!r} of circuit breaker {name!r} must be positive"
                raise ValueError(msg)
        if on_change is not None and not callable(on_change):
            msg = f"on_change={on_change!r} of circuit breaker {name!r} must be a function"
            raise TypeError(msg)
        self.name = name
        self._options: dict[str, Any] = {
            **counts,
            "recovery_timeout": recovery_timeout,
            "failure_rate": failure_rate,
            "window": window,
            "on_change": on_change,
        }
        self._failure_threshold = failure_threshold
        timeout = recovery_timeout
        self._recovery = timeout if isinstance(timeout, Backoff) else constant(timeout)
        self._success_threshold = success_threshold
        self._half_open_max = half_open_max
        self._failure_rate = failure_rate
        self._window = _Window(window)
        self._minimum_calls = minimum_calls
        self._on_change = on_change
        self._lock = threading.Lock()
        self._state: BreakerState = "closed"
        self._changes = 0
        self._failures = self._successes = self._inside = 0
        self._until = 0.0
        self._waits: Iterator[float] = iter(())
        self._wait = 0.0

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name!r} {self._state}>"

    def __reduce__(self) -> tuple[object, ...]:
        # In another process it starts with a state of its own.
        return partial(CircuitBreaker, self.name, **self._options), ()

    @property
    def state(self) -> BreakerState:
        """Its state. One that is open stays so until a call finds that its time is over."""
        return self._state

    def enter(self, now: float) -> Permit:
        """Ask to make a call; what became of it is told to the permit.

        Args:
            now: The time, in seconds on a clock that only goes forward.

        Raises:
            CircuitOpenError: It is not to be made.
        """
        change = None
        with self._lock:
            if self._state == "open" and now >= self._until:
                change = self._become("half_open")
            if self._state == "closed":
                return Permit(self, self._changes)
            if self._state != "half_open":
                is_open = self._state == "open"
                raise CircuitOpenError(self.name, self._until - now if is_open else None)
            if self._inside >= self._half_open_max:
                raise CircuitOpenError(self.name)
            self._inside += 1
            permit = Permit(self, self._changes)
        self._tell(change)
        return permit

    def reset(self) -> None:
        """Close it, whatever its state, and forget what it has counted."""
        with self._lock:
            change = self._become("closed")
        self._tell(change)

    def isolate(self) -> None:
        """Let nothing through until `reset` is called."""
        with self._lock:
            change = self._become("isolated")
        self._tell(change)

    def _succeeded(self, permit: Permit, now: float) -> None:
        change = None
        with self._lock:
            if self._leaves(permit):
                if self._state == "closed":
                    self._failures = 0
                    if self._failure_rate is not None:
                        self._window.add(now, failed=False)
                else:
                    self._successes += 1
                    if self._successes >= self._success_threshold:
                        change = self._become("closed")
        self._tell(change)

    def _failed(self, permit: Permit, now: float) -> None:
        change = None
        with self._lock:
            if self._leaves(permit) and self._is_to_open(now):
                self._until = now + self._next_wait()
                change = self._become("open")
        self._tell(change)

    def _is_to_open(self, now: float) -> bool:
        if self._state == "half_open":
            return True
        if self._failure_rate is None:
            self._failures += 1
            return self._failures >= self._failure_threshold
        self._window.add(now, failed=True)
        calls, failures = self._window.counts(now)
        return calls >= self._minimum_calls and failures / calls >= self._failure_rate

    def _leaves(self, permit: Permit) -> bool:
        """Whether a call that has ended still says something about this state."""
        is_of_now = permit.changes == self._changes
        if is_of_now and self._state == "half_open":
            self._inside -= 1
        return is_of_now

    def _next_wait(self) -> float:
        if self._state == "closed":
            self._waits = iter(self._recovery)
        # A schedule that has ended goes on with its last wait.
        self._wait = next(self._waits, self._wait)
        return self._wait

    def _become(self, state: BreakerState) -> BreakerChange | None:
        before, self._state = self._state, state
        self._changes += 1
        self._failures = self._successes = self._inside = 0
        self._window.clear()
        return BreakerChange(self.name, before, state) if state != before else None

    def _tell(self, change: BreakerChange | None) -> None:
        if change is None or self._on_change is None:
            return
        try:
            self._on_change(change)
        except Exception:
            _logger.exception("on_change of circuit breaker %r failed", self.name)


class Permit:
    """Leave to make one call; its end is told once.

    Args:
        breaker: Who gave it.
        changes: How often that had changed its state by then.
    """

    __slots__ = ("_breaker", "_is_used", "changes")

    def __init__(self, breaker: CircuitBreaker, changes: int) -> None:
        self._breaker = breaker
        self.changes = changes
        self._is_used = False

    def succeed(self, now: float) -> None:
        """Tell that the call succeeded."""
        if self._use():
            self._breaker._succeeded(self, now)

    def fail(self, now: float) -> None:
        """Tell that the call failed."""
        if self._use():
            self._breaker._failed(self, now)

    def release(self) -> None:
        """Tell that the call was cancelled, and says nothing either way."""
        if self._use():
            with self._breaker._lock:
                self._breaker._leaves(self)

    def _use(self) -> bool:
        is_first, self._is_used = not self._is_used, True
        return is_first


class _Window:
    """Counts calls and failures of the last seconds, in a few parts."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._parts: deque[list[float]] = deque()

    def add(self, now: float, *, failed: bool) -> None:
        start = now - now % (self._seconds / _BUCKETS)
        if not self._parts or self._parts[-1][0] < start:
            self._parts.append([start, 0, 0])
        self._parts[-1][1] += 1
        self._parts[-1][2] += failed
        self._forget(now)

    def counts(self, now: float) -> tuple[float, float]:
        self._forget(now)
        return sum(part[1] for part in self._parts), sum(part[2] for part in self._parts)

    def clear(self) -> None:
        self._parts.clear()

    def _forget(self, now: float) -> None:
        while self._parts and self._parts[0][0] <= now - self._seconds:
            self._parts.popleft()
