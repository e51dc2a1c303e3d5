"""Statements for many rows at once."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Sequence

# A statement for many rows lets go of the interpreter's lock once, and not once for each row: a
# busy event loop keeps it for up to five milliseconds each time.
_AT_ONCE = (256, 64, 16, 4, 1)


class ForRows:
    """A statement that is given the values of many rows.

    For bytes and None, sqlite3 looks for adapters each time, which costs as much as writing them:
    a `bytearray` is taken as it is, and so is "" in a column that says it stands for NULL there.

    Args:
        text: The statement, in which `VALUES ?` stands for the values of all its rows.
        columns: How many values a row has.
        nullable: Which of these, from 0, are NULL where "" is given.
    """

    def __init__(self, text: str, columns: int, nullable: Collection[int] = ()) -> None:
        values = ("nullif(?, '')" if n in nullable else "?" for n in range(columns))
        row = f"({', '.join(values)})"
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
