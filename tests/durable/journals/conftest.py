"""The journals that every conformance test runs over: to add one, add a parameter."""

import pytest

from plait.durable import MemoryJournal, SqliteJournal
from plait.durable._opened import opened


@pytest.fixture(params=["sqlite", "memory"])
def storage(request):
    """Which journal it is."""
    return request.param


@pytest.fixture
def new_journal(storage, file):
    """Makes a journal that is not open; each one that is made has the same storage."""
    if storage == "memory":
        return MemoryJournal
    return lambda: SqliteJournal(file)


@pytest.fixture
async def journal(new_journal):
    """A journal that is open and empty."""
    async with opened(new_journal()) as journal:
        yield journal


@pytest.fixture
async def two(storage, new_journal):
    """Two journals that are open on the same storage, as two runners have them."""
    if storage == "memory":
        pytest.skip("nothing else can open what is in memory")
    async with opened(new_journal()) as first, opened(new_journal()) as second:
        yield first, second
