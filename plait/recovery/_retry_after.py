"""When an error itself says to try again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_HEADER = "Retry-After"


def retry_after(error: Exception, now: Callable[[], datetime]) -> float | None:
    """How many seconds an error asks to wait for; None where it does not say.

    Args:
        error: One with a `retry_after` (seconds or a timedelta), or with the `Retry-After` header
            of RFC 9110 on its `response`, as httpx and requests have it, or on itself, as aiohttp
            and urllib do.
        now: The time, which is asked only where the header is a date.
    """
    asked = getattr(error, "retry_after", None)
    if isinstance(asked, timedelta):
        asked = asked.total_seconds()
    if isinstance(asked, int | float):
        return max(0, asked)
    for source in (getattr(error, "response", None), error):
        seconds = _in_header(getattr(source, "headers", None), now)
        if seconds is not None:
            return seconds
    return None


def _in_header(headers: Any, now: Callable[[], datetime]) -> float | None:
    try:
        text = headers.get(_HEADER) or headers.get(_HEADER.lower())
        if text.isascii() and text.isdigit():
            return float(text)
        date = parsedate_to_datetime(text)
    except (AttributeError, TypeError, ValueError):
        # No headers, not that one, or one that says neither.
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - now()).total_seconds())
