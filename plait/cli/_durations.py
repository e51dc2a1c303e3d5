"""Lengths of time as people write them."""

from __future__ import annotations

import re

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_FORM = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def seconds_in(text: str) -> float:
    """How many seconds `90s`, `15m`, `12h`, `30d` or `2w` are.

    Raises:
        ValueError: It is of another form.

    Example:
        >>> seconds_in("15m")
        900.0
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        msg = f"{text!r} is no length of time; one is 90s, 15m, 12h, 30d or 2w"
        raise ValueError(msg)
    return float(match[1]) * _UNITS[match[2]]
