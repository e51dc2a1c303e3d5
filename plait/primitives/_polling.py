"""Tells timers that only look whether something has happened elsewhere from those that mean a time.

A clock that jumps stops at the latter: a run that waits for a day is not looked at 864,000 times.
"""

from __future__ import annotations

from contextvars import ContextVar

is_polling: ContextVar[bool] = ContextVar("plait_is_polling", default=False)
"""Whether the timers that are set from now on are of that kind."""
