import pytest

from plait.testing import JournalConformance


class TestJournals(JournalConformance):
    """What every journal does, whatever it stores runs in: `conftest.py` says which there are."""

    @pytest.fixture
    def make_journal(self, new_journal):
        return new_journal

    @pytest.fixture
    def is_shared(self, storage):
        return storage != "memory"
