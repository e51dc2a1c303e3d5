"""Turning the waits between attempts off, for tests."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


@dataclass(frozen=True, slots=True)
class _Off:
    max_retries: int | None


_switches: list[_Off] = []


@contextmanager
def no_waiting(*, max_retries: int | None = None) -> Generator[None]:
    """Have every `RetryPrimitive` of this process try again at once while the block runs.

    For tests, as stamina's `set_testing`: attempts are made and counted as ever, without waits.

    Args:
        max_retries: Bounds also how often something is tried again.

    Raises:
        ValueError: It is negative.

    Example:
        >>> from plait import MockPrimitive, RetryPrimitive
        >>> from plait.recovery import no_waiting
        >>> flaky = MockPrimitive(side_effect=[ConnectionError, ConnectionError, "done"])
        >>> with no_waiting():
        ...     RetryPrimitive(flaky).run_sync(None)
        'done'
    """
    if max_retries is not None and max_retries < 0:
        msg = f"max_retries={max_retries!r} must not be negative"
        raise ValueError(msg)
    # Of the process, and not of a task's context: test runners set fixtures up in another one.
    switch = _Off(max_retries)
    _switches.append(switch)
    try:
        yield
    finally:
        _switches.remove(switch)


def waiting_is_off() -> bool:
    """Whether retries do not wait."""
    return bool(_switches)


def bounded_retries(max_retries: int) -> int:
    """How often something is tried again, as far as tests allow."""
    bounds = [switch.max_retries for switch in _switches if switch.max_retries is not None]
    return min([max_retries, *bounds])
