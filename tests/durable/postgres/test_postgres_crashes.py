"""The crash matrix (see `crash/test_matrix.py`) on PostgreSQL: a sample, or all of it.

PLAIT_POSTGRES_CRASHES says how many moments of each scenario are tried, or "all"; where it is not
there, one moment of a few scenarios is.
"""

import os
import sys
import uuid
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

import psycopg
import pytest

sys.path.append(str(Path(__file__).parents[1] / "crash"))

from forks import Forks
from scenarios import SCENARIOS
from test_matrix import RECORDED, Case, crash_everywhere

_AT_ONCE = 4
"""Most of the time is that until a lease is over."""

_SAMPLE = ("child_awaited", "map", "signal_late", "transactions")
_CHOSEN = os.environ.get("PLAIT_POSTGRES_CRASHES", "")


@pytest.fixture(scope="module")
def processes():
    free = SimpleQueue()
    with ExitStack() as stack:
        for _ in range(_AT_ONCE):
            free.put(stack.enter_context(Forks()))
        yield free


@pytest.mark.parametrize("name", SCENARIOS if _CHOSEN else _SAMPLE)
def test_a_killed_process_is_carried_on_to_the_same_end(name, processes, postgres, tmp_path):
    def made(name, backend, folder, forks):
        schema = f"c{uuid.uuid4().hex}"
        # A name without a schema is of a table beside the journal's: each case has its own.
        address = f"{postgres.address}&options=-csearch_path%3D{schema}"
        return PostgresCase(
            name, backend, folder, forks, address=address, schema=schema, lease_seconds=0.6
        )

    wrong = crash_everywhere(name, "asyncio", processes, tmp_path, _CHOSEN or "1", made)
    assert not wrong, "\n".join(wrong)


class PostgresCase(Case):
    """A case whose journal is a schema of a PostgreSQL database."""

    def _recorded(self):
        try:
            with psycopg.connect(self._arguments["address"]) as connection:
                return connection.execute(RECORDED).fetchall()
        except psycopg.errors.UndefinedTable:
            return []  # killed before there were tables
