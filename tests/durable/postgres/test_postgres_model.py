"""Two runners on one journal in PostgreSQL, held against the model that all journals are."""

import uuid

import pytest
from hypothesis import settings
from journaling import record
from test_journal_model import JournalMachine, executing, numbers, rule, st

from plait.durable import PostgresJournal


@pytest.fixture(autouse=True)
def _server(postgres):
    PostgresMachine.server = postgres


class PostgresMachine(JournalMachine):
    server = None

    def __init__(self):
        self.schema = f"m{uuid.uuid4().hex}"
        super().__init__()

    def opened(self):
        async def opened():
            journal = PostgresJournal(self.server.address, schema=self.schema)
            await journal.open()
            return journal

        return self.portal.call(opened)

    @executing
    @rule(number=numbers, fails=st.booleans())
    def transact(self, number, fails):
        run, runner = self.own(number)

        async def work(connection):
            table = f"effects_{self.schema}"
            await connection.execute(f"CREATE TABLE IF NOT EXISTS {table} (run text)")
            await connection.execute(f"INSERT INTO {table} VALUES (%s)", (run.run_id,))
            if fails:
                raise LookupError(run.run_id)

        written = record(run.key, f"flow/{next(self.numbers)}", b"paid")
        try:
            self.ask(runner, "transact", work, lambda _: written)
        except LookupError:
            assert fails
        else:
            assert not fails
            run.records.append((written.path, written.kind, b"paid"))


TestPostgresModel = PostgresMachine.TestCase
TestPostgresModel.settings = settings(
    JournalMachine.TestCase.settings, max_examples=2, stateful_step_count=30
)
