"""Statements for many rows at once."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

# A statement for many rows lets go of the interpreter's lock once, and not once for each row: a
# busy event loop keeps it for up to five milliseconds each time.
_AT_ONCE = (256, 64, 16, 4, 1)


class ForRows:
    """A statement that is given the values of many rows.

    Args:
        text: The statement, in which `VALUES ?` stands for the values of all its rows.
        row: The values of one.
    """

    def __init__(self, text: str, row: str) -> None:
        self._texts = [
            (n, text.replace("VALUES ?", f"VALUES {', '.join([row] * n)}")) for n in _AT_ONCE
        ]

    def __call__(
        self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]
    ) -> list[tuple[Any, ...]]:
        """Execute it for these rows, in their order; what it returned."""
        returned: list[tuple[Any, ...]] = []
        start = 0
        for many, text in self._texts:
            while len(rows) - start >= many:
                values = tuple(chain.from_iterable(rows[start : start + many]))
                returned += connection.execute(text, values)
                start += many
        return returned
