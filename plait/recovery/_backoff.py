"""How long to wait before each retry: schedules that compose."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass


class Backoff(ABC):
    """A schedule of waits, in seconds: one for each retry, endless or not.

    Where a schedule ends, so do the retries. Schedules are values: equal ones compare equal.

    Example:
        >>> from plait.recovery import constant, exponential
        >>> list(constant(1).up_to(2).then(exponential(5).capped(12)).up_to(5))
        [1, 1, 5, 10, 12]
    """

    @abstractmethod
    def __iter__(self) -> Iterator[float]:
        """The waits, from the first."""

    def capped(self, max_delay: float) -> Backoff:
        """The same schedule with no wait longer than `max_delay` seconds."""
        _check(max_delay, "max_delay")
        return _Capped(self, max_delay)

    def up_to(self, retries: int) -> Backoff:
        """The first `retries` waits of the schedule."""
        _check(retries, "retries")
        return _UpTo(self, retries)

    def then(self, other: Backoff) -> Backoff:
        """This schedule to its end, then the other."""
        return _Then(self, other)


def constant(seconds: float) -> Backoff:
    """The same wait before every retry.

    Args:
        seconds: The wait.

    Raises:
        ValueError: It is negative.
    """
    _check(seconds, "seconds")
    return _Exponential(seconds, 1)


def exponential(base: float, *, factor: float = 2, max_delay: float | None = None) -> Backoff:
    """Waits that grow by a factor each time.

    Args:
        base: The first wait, in seconds.
        factor: What each wait is multiplied by for the next.
        max_delay: The longest wait, in seconds.

    Raises:
        ValueError: One of them is negative, or the factor below 1.

    Example:
        >>> from plait.recovery import exponential
        >>> list(exponential(0.5, max_delay=3).up_to(4))
        [0.5, 1.0, 2.0, 3]
    """
    _check(base, "base")
    if not factor >= 1:
        msg = f"factor={factor!r} must be at least 1"
        raise ValueError(msg)
    backoff = _Exponential(base, factor)
    return backoff if max_delay is None else backoff.capped(max_delay)


def linear(step: float, *, max_delay: float | None = None) -> Backoff:
    """Waits that grow by the same amount each time.

    Args:
        step: The first wait, and what each is longer than the one before, in seconds.
        max_delay: The longest wait, in seconds.

    Raises:
        ValueError: One of them is negative.

    Example:
        >>> from plait.recovery import linear
        >>> list(linear(2, max_delay=5).up_to(4))
        [2, 4, 5, 5]
    """
    _check(step, "step")
    backoff = _Linear(step)
    return backoff if max_delay is None else backoff.capped(max_delay)


def waits(*seconds: float) -> Backoff:
    """These waits, one after the other; then there are no more retries.

    Args:
        seconds: The waits.

    Raises:
        ValueError: One of them is negative.

    Example:
        >>> from plait.recovery import constant, waits
        >>> list(waits(0, 0.1, 5).then(constant(60)).up_to(5))
        [0, 0.1, 5, 60, 60]
    """
    for wait in seconds:
        _check(wait, "seconds")
    return _Waits(seconds)


@dataclass(frozen=True)
class _Waits(Backoff):
    seconds: tuple[float, ...]

    def __iter__(self) -> Iterator[float]:
        return iter(self.seconds)


@dataclass(frozen=True)
class _Linear(Backoff):
    step: float

    def __iter__(self) -> Iterator[float]:
        return (self.step * number for number in itertools.count(1))


@dataclass(frozen=True)
class _Exponential(Backoff):
    base: float
    factor: float

    def __iter__(self) -> Iterator[float]:
        wait = self.base
        while True:
            yield wait
            wait *= self.factor


@dataclass(frozen=True)
class _Capped(Backoff):
    inner: Backoff
    max_delay: float

    def __iter__(self) -> Iterator[float]:
        return (min(wait, self.max_delay) for wait in self.inner)


@dataclass(frozen=True)
class _UpTo(Backoff):
    inner: Backoff
    retries: int

    def __iter__(self) -> Iterator[float]:
        return itertools.islice(self.inner, self.retries)


@dataclass(frozen=True)
class _Then(Backoff):
    first: Backoff
    second: Backoff

    def __iter__(self) -> Iterator[float]:
        return itertools.chain(self.first, self.second)


def _check(number: float, option: str) -> None:
    if not number >= 0:
        msg = f"{option}={number!r} must not be negative"
        raise ValueError(msg)
