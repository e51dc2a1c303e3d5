"""The journal that is kept in memory, for tests."""

from __future__ import annotations

from plait.durable._sqlite import SqliteJournal


class MemoryJournal(SqliteJournal):
    """A journal that is gone once it is closed: the SQLite journal, without a file.

    Example:
        >>> from plait.durable import DurableRunner, MemoryJournal
        >>> runner = DurableRunner(MemoryJournal())
    """

    def __init__(self) -> None:
        super().__init__(":memory:")
