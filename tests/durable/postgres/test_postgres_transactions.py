"""Steps whose effect is in the database of the journal."""

import asyncio

import anyio
import psycopg
import pytest
from journaling import paths, record, start

from plait import RetryPrimitive
from plait.durable import DurableRunner, JournalError, PostgresJournal, TransactionStep
from plait.recovery import constant

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["async", "plain"])
def calling(request):
    """Makes a step's function of statements, of either kind."""

    def make(*statements):
        async def work(connection):
            for statement in statements:
                cursor = await connection.execute(statement)
            return await cursor.fetchall() if cursor.description else None

        def plain(connection):
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else None

        return work if request.param == "async" else plain

    return make


@pytest.fixture
def table(postgres, schema):
    """A table of the application's own, with a column n."""
    name = f"t_{schema}"
    postgres.ask(f"CREATE TABLE {name} (n integer UNIQUE)")
    return name


@pytest.fixture
def left(postgres, table):
    """What is in that table."""
    return lambda: sorted(n for (n,) in postgres.ask(f"SELECT n FROM {table}"))


async def test_an_effect_and_its_record_are_kept_together(journal, table, left, calling):
    key = await start(journal)
    pay = calling(f"INSERT INTO {table} VALUES (1), (2)", f"SELECT sum(n) FROM {table}")
    result = await journal.transact(pay, lambda rows: record(key, "pay", b"%d" % rows[0][0]))
    assert result == [(3,)]
    assert await journal.records(key) == [record(key, "pay", b"3")]
    assert left() == [1, 2]


async def test_what_fails_undoes_only_itself(journal, table, left, calling):
    key = await start(journal)
    before = journal.append(record(key, "before"))
    twice = calling(f"INSERT INTO {table} VALUES (1)", f"INSERT INTO {table} VALUES (1)")
    failing = journal.transact(twice, lambda _: record(key, "never"))
    after = journal.transact(calling(f"INSERT INTO {table} VALUES (3)"), lambda _: record(key))
    await before
    with pytest.raises(psycopg.errors.UniqueViolation):
        await failing
    await after
    with pytest.raises(ZeroDivisionError):
        await journal.transact(calling(f"INSERT INTO {table} VALUES (4)"), lambda _: 1 // 0)
    assert left() == [3]
    assert await paths(journal, key) == ["before", "flow"]


async def test_whatever_is_slow_keeps_to_the_order_of_the_records(journal, calling):
    key = await start(journal)
    slow = journal.transact(calling("SELECT pg_sleep(0.1)"), lambda _: record(key, "1"))
    await journal.append(record(key, "2"))
    assert await paths(journal, key) == ["2"]
    await slow
    assert await paths(journal, key) == ["1", "2"]


@pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK", "COMMIT; BEGIN"])
async def test_a_step_that_ends_the_transaction_is_told_so(journal, statement, calling):
    key = await start(journal)
    with pytest.raises(JournalError, match="ended its transaction"):
        await journal.transact(calling(statement), lambda _: record(key, "never"))
    await journal.append(record(key, "after"))
    assert await paths(journal, key) == ["after"]


async def test_the_driver_lets_nobody_commit(journal):
    key = await start(journal)
    for work in (lambda connection: connection.commit(), _commit):
        with pytest.raises(psycopg.ProgrammingError, match="commit"):
            await journal.transact(work, lambda _: record(key, "never"))
    assert await paths(journal, key) == []


async def _commit(connection):
    await connection.commit()


async def test_a_step_has_savepoints_of_its_own(journal, table, left, calling):
    key = await start(journal)
    insert = f"INSERT INTO {table} VALUES"
    work = calling("SAVEPOINT mine", f"{insert} (1)", "ROLLBACK TO mine", f"{insert} (2)")
    await journal.transact(work, lambda _: record(key))
    assert left() == [2]
    with pytest.raises(psycopg.errors.InvalidSavepointSpecification, match="yours"):
        await journal.transact(calling("ROLLBACK TO yours"), lambda _: record(key, "never"))


async def test_what_a_step_sets_on_the_connection_ends_with_it(new_journal, schema, calling):
    async with (
        DurableRunner(new_journal(connections=1)) as runner,
    ):
        journal = runner._journal
        key = await start(journal)
        setting = calling("SET search_path = nowhere", "SHOW search_path")
        assert await journal.transact(setting, lambda _: record(key, "1")) == [("nowhere",)]

        async def dictionaries(connection):
            connection.row_factory = psycopg.rows.dict_row

        await journal.transact(dictionaries, lambda _: record(key, "2"))
        shown = await journal.transact(calling("SHOW search_path"), lambda _: record(key, "3"))
        assert shown == [('"$user", public',)]
        assert await paths(journal, key) == ["1", "2", "3"]


async def test_a_step_that_stops_the_iteration_is_told_so(journal):
    key = await start(journal)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await journal.transact(lambda _: next(iter(())), lambda _: record(key))


async def test_a_record_that_cannot_be_kept_undoes_the_effect(journal, table, left, calling):
    key = await start(journal)
    with pytest.raises(JournalError, match="could not be written"):
        await journal.transact(
            calling(f"INSERT INTO {table} VALUES (1)"), lambda _: record(key, "zero \0")
        )
    assert left() == []


async def test_a_coroutine_is_cancelled_and_undone_and_a_thread_comes_to_its_end(
    journal, table, left
):
    key = await start(journal)
    is_inserted = anyio.Event()

    async def slow(connection):
        await connection.execute(f"INSERT INTO {table} VALUES (1)")
        is_inserted.set()
        await connection.execute("SELECT pg_sleep(60)")

    def plain(connection):
        connection.execute(f"INSERT INTO {table} VALUES (2)")
        anyio.from_thread.run_sync(is_inserted.set, token=token)
        connection.execute("SELECT pg_sleep(0.2)")

    token = anyio.lowlevel.current_token()
    for work in (slow, plain):
        is_inserted = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_await, journal.transact(work, lambda _: record(key)))
            await is_inserted.wait()
            tasks.cancel_scope.cancel()
    await journal.close()
    await journal.open()
    assert left() == [2]
    assert await paths(journal, key) == ["flow"]


async def _await(answer):
    await answer


@pytest.mark.parametrize("moment", ["begin", "work", "record", "no commit", "commit"])
async def test_a_connection_that_is_lost_repeats_the_step_or_does_not(
    new_journal, postgres, table, left, moment, monkeypatch
):
    """Whenever it is lost: the effect is there once, and its record."""
    calls = kills = 0
    execute = psycopg.AsyncConnection.execute

    async def work(connection):
        nonlocal calls
        calls += 1
        await execute(connection, f"INSERT INTO {table} VALUES ({calls})")
        if moment == "work" and calls == 1:
            kill(connection)
            await execute(connection, "SELECT 1")
        return connection

    def kill(connection):
        nonlocal kills
        kills += 1
        postgres.ask("SELECT pg_terminate_backend(%s, 5000)", connection.info.backend_pid)

    def kept(connection):
        if moment == "record" and calls == 1:
            kill(connection)
        return record(key)

    async def committing(connection, query, *values, **more):
        if not kills and (query, moment) in {("RESET ALL", "begin"), ("COMMIT", "no commit")}:
            kill(connection)
        answer = await execute(connection, query, *values, **more)
        if query == "COMMIT" and moment == "commit" and calls == 1:
            kill(connection)
            await execute(connection, "SELECT 1")
        return answer

    async with DurableRunner(new_journal()) as runner:
        journal = runner._journal
        key = await start(journal)
        monkeypatch.setattr(psycopg.AsyncConnection, "execute", committing)
        await journal.transact(work, kept)
        monkeypatch.undo()
        assert await paths(journal, key) == ["flow"]
    assert kills == 1
    assert calls == (1 if moment in {"begin", "commit"} else 2)
    assert left() == [calls]


async def test_a_connection_that_was_closed_meanwhile_is_not_lent(journal, calling):
    key = await start(journal)
    await journal.transact(calling("SELECT 1"), lambda _: record(key, "1"))
    (idle,) = journal._session.lender._pool._idle
    await idle.close()
    await journal.transact(calling("SELECT 1"), lambda _: record(key, "2"))
    assert await paths(journal, key) == ["1", "2"]


async def test_what_a_commit_finds_wrong_is_the_steps_own_failure(
    journal, postgres, table, left, calling
):
    postgres.ask(f"ALTER TABLE {table} ADD UNIQUE (n) DEFERRABLE INITIALLY DEFERRED")
    postgres.ask(f"ALTER TABLE {table} DROP CONSTRAINT {table}_n_key")
    key = await start(journal)
    twice = calling(f"INSERT INTO {table} VALUES (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        await journal.transact(twice, lambda _: record(key))
    assert left() == []
    assert await paths(journal, key) == []


async def test_a_step_that_loses_each_connection_fails_in_the_end(new_journal, postgres):
    async def lose(connection):
        postgres.ask("SELECT pg_terminate_backend(%s, 5000)", connection.info.backend_pid)
        await connection.execute("SELECT 1")

    async with DurableRunner(new_journal(outage_seconds=0.3)) as runner:
        key = await start(runner._journal)
        with pytest.raises(JournalError, match="terminating connection"):
            await runner._journal.transact(lose, lambda _: record(key))


async def test_a_transaction_step_is_done_once_with_its_run(postgres, new_journal, table, left):
    attempts = []

    @TransactionStep
    async def book(seat, database):
        attempts.append(seat)
        await database.execute(f"INSERT INTO {table} VALUES (%s)", (seat,))
        if len(attempts) == 1:
            raise ConnectionError
        return f"seat {seat}"

    @TransactionStep
    def count(_, database):
        return database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]

    workflow = (RetryPrimitive(book, backoff=constant(0)) >> count).named("booking")
    async with DurableRunner(new_journal()) as runner:
        assert await runner.run(workflow, 12, run_id="booking") == 1
    async with DurableRunner(new_journal(), workflows=[workflow]) as runner:
        assert await (await runner.get("booking")).result() == 1
    assert attempts == [12, 12]
    assert left() == [12]


async def test_many_steps_have_few_connections(postgres, new_journal, table, left, schema):
    @TransactionStep
    async def book(seat, database):
        await database.execute(f"INSERT INTO {table} VALUES (%s)", (seat,))
        return seat

    async with DurableRunner(new_journal(connections=2)) as runner:
        await asyncio.gather(*(runner.run(book, n) for n in range(50)))
    assert left() == list(range(50))


def test_it_says_that_it_awaits():
    assert PostgresJournal.transacts_async
