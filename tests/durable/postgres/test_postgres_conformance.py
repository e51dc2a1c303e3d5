"""What every journal does, on PostgreSQL."""

import pytest

from plait.testing import JournalConformance


class TestPostgresJournal(JournalConformance):
    @pytest.fixture
    def make_journal(self, new_journal):
        return new_journal

    @pytest.fixture
    def backend(self):
        """Psycopg runs on asyncio only."""
        return "asyncio"
