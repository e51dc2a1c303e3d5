"""Journals in a PostgreSQL server; psycopg runs on asyncio only."""

import sys
import uuid
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "journals"))

from plait.durable import PostgresJournal
from plait.durable._opened import opened


@pytest.fixture(scope="module", params=["asyncio"])
def anyio_backend(request):
    return request.param


@pytest.fixture
def schema():
    """The schema of a journal that is not there yet."""
    return f"s{uuid.uuid4().hex}"


@pytest.fixture
def new_journal(postgres, schema):
    """Makes a journal that is not open; each one that is made has the same storage."""

    def make(**more):
        return PostgresJournal(postgres.address, schema=schema, **more)

    return make


@pytest.fixture
async def journal(new_journal):
    """A journal that is open and empty."""
    async with opened(new_journal()) as journal:
        yield journal
