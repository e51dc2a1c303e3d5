"""What every journal has to do: tests for whoever writes one."""

from __future__ import annotations

from plait.testing._journals._again import Forks, Reopening
from plait.testing._journals._claims import Claims, Queues
from plait.testing._journals._entities import Entities, Lines
from plait.testing._journals._lists import Changes, Lists, Pruning, Ticks
from plait.testing._journals._messages import Events, Signals
from plait.testing._journals._needs import Needs
from plait.testing._journals._runners import Runners
from plait.testing._journals._runs import Records, Runs
from plait.testing._journals._waits import Cancelling, Waits


class JournalConformance(
    Runs,
    Records,
    Claims,
    Queues,
    Needs,
    Waits,
    Cancelling,
    Signals,
    Events,
    Entities,
    Lines,
    Reopening,
    Forks,
    Lists,
    Pruning,
    Ticks,
    Changes,
    Runners,
):
    """A suite of tests that every journal passes; a subclass in a test file gives it one.

    The tests need no plugin for async tests. They run on each event loop that the fixture
    `backend` names, which a subclass may replace. Where only one journal object can be open on a
    storage, its fixture `is_shared` returns False: what is about several runners is skipped.

    Example:
        >>> import pytest
        >>> from plait.durable import SqliteJournal
        >>> from plait.testing import JournalConformance
        >>> class TestSqliteJournal(JournalConformance):
        ...     @pytest.fixture
        ...     def make_journal(self, tmp_path):
        ...         # Each call makes another journal object on the storage of this test.
        ...         return lambda: SqliteJournal(tmp_path / "runs.db")
    """
