"""Short ways to say what the tests of journals hand in: those of the suite for everybody."""

from plait.testing._journals._terms import (
    DATA,
    ERROR,
    TIME,
    VALUE,
    claim,
    claimed,
    new,
    paths,
    record,
    start,
    status,
)

__all__ = [
    "DATA",
    "ERROR",
    "TIME",
    "VALUE",
    "claim",
    "claimed",
    "new",
    "paths",
    "record",
    "start",
    "status",
]
