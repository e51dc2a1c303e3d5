"""A journal that is open for as long as a block lasts, and in which no runner executes anything."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from plait.durable._journal import Journal

JournalT = TypeVar("JournalT", bound="Journal")


@asynccontextmanager
async def opened(journal: JournalT) -> AsyncGenerator[JournalT, None]:
    """Open a journal, and close it in the end, which no cancellation keeps it from.

    Args:
        journal: One that is not open.
    """
    await journal.open()
    try:
        yield journal
    finally:
        with anyio.CancelScope(shield=True):
            await journal.close()
