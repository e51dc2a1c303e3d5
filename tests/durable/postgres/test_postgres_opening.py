"""What can be wrong with an address, and with what is found there."""

import importlib
import sys
import traceback
import uuid

import anyio
import psycopg
import pytest
from journaling import claimed, record, start, status

from plait import step
from plait.durable import DurableRunner, JournalError, PostgresJournal
from plait.durable._opened import opened
from plait.durable._postgres import _arrays, _schema
from plait.durable._stored import Wait

pytestmark = pytest.mark.anyio


async def test_a_runner_takes_an_address(postgres):
    @step
    async def double(number):
        return number * 2

    run_id = uuid.uuid4().hex
    async with DurableRunner(postgres.address) as runner:
        assert await runner.run(double, 21, run_id=run_id) == 42
    ((run,),) = postgres.ask("SELECT status FROM plait.runs WHERE run_id = %s", run_id)
    assert run == "completed"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("/postgres?", "/nowhere?"), 'database "nowhere" does not exist'),
        (("postgres@", "nobody:secret@"), 'role "nobody" does not exist'),
        (("home", "nothing"), "No such file or directory"),
    ],
)
async def test_an_address_at_which_nothing_answers_is_told_at_once(postgres, change, why):
    address = postgres.address.replace(*change)
    with pytest.raises(
        JournalError, match=rf"(?s)the journal at .* cannot be used: .*{why}"
    ) as caught:
        await PostgresJournal(address).open()
    assert "secret" not in str(caught.value)


async def test_a_role_that_may_do_nothing_is_told_so(postgres, schema):
    postgres.ask(f"CREATE ROLE {schema} LOGIN")
    address = postgres.address.replace("postgres@", f"{schema}@")
    with pytest.raises(JournalError, match=r"permission denied .*\(let this role create"):
        await PostgresJournal(address, schema=schema).open()


async def test_a_wrong_password_is_told_and_not_shown(postgres):
    postgres.ask("CREATE ROLE guarded LOGIN PASSWORD 'right one'")
    address = postgres.address.replace("postgres@", "guarded:secret@")
    with pytest.raises(
        JournalError, match='password authentication failed for user "guarded"'
    ) as e:
        await PostgresJournal(address).open()
    assert "secret" not in "".join(traceback.format_exception(e.value))


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://user:secret@host/data?no=such",
        "postgresql://user:secret word@host/data",
        "postgresql://user:secret%zz@host/data",
        "postgresql://user:secret/more@host/data",
        "postgresql://user:1/secret@host/data",
        "postgresql://user:secret@secret@host/data",
        "postgresql://[secret",
    ],
)
def test_what_is_no_address_is_refused_and_not_shown(address):
    with pytest.raises(ValueError, match=r"address of the journal is none that .* %40") as caught:
        DurableRunner(address)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["mysql://user:secret/@host/data", "host=here user=me password=secret"]
)
def test_an_address_of_another_kind_is_refused_and_no_password_shown(address):
    with pytest.raises(ValueError, match='another "postgresql://user@host/database"') as caught:
        DurableRunner(address)
    assert "secret" not in str(caught.value)


async def test_an_address_may_name_the_schema(postgres, schema):
    async with opened(PostgresJournal(f"{postgres.address}&schema={schema}")) as journal:
        await start(journal)
    async with opened(PostgresJournal(postgres.address, schema=schema)) as journal:
        assert await status(journal) == "running"
    with pytest.raises(ValueError, match="schema='No Name' must be of small letters"):
        PostgresJournal("postgresql://host/data?schema=No Name&application_name=orders")


@pytest.mark.parametrize("name", ["two words", 'a"b', "Capital", "1st", "x" * 49])
def test_a_schema_has_a_plain_name(name):
    with pytest.raises(ValueError, match="must be of small letters"):
        PostgresJournal("postgresql://host/data", schema=name)


@pytest.mark.parametrize(
    "wrong", [{"lease_seconds": 0}, {"outage_seconds": -1}, {"connections": 0}]
)
def test_numbers_are_positive(wrong):
    with pytest.raises(ValueError, match="must be positive"):
        PostgresJournal("postgresql://host/data", **wrong)


def test_without_the_driver_it_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("plait.durable._postgres.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    journal = importlib.import_module("plait.durable._postgres._journal")
    with pytest.raises(ImportError, match=r'pip install "plait\[postgres\]"'):
        journal.PostgresJournal("postgresql://host/data")


def test_another_event_loop_is_refused(postgres):
    async def main():
        await PostgresJournal(postgres.address).open()

    with pytest.raises(JournalError, match="psycopg, runs on no other event loop"):
        anyio.run(main, backend="trio")


async def test_a_schema_of_another_application_is_refused(postgres, new_journal, schema):
    postgres.ask(f"CREATE SCHEMA {schema}")
    postgres.ask(f"CREATE TABLE {schema}.runs (n integer)")
    with pytest.raises(JournalError, match=f"schema '{schema}' .* tables of another application"):
        await new_journal().open()


async def test_a_journal_of_a_newer_version_is_refused(postgres, new_journal, schema):
    async with opened(new_journal()):
        pass
    postgres.ask(f"UPDATE {schema}.journal_version SET version = 99")
    with pytest.raises(JournalError, match="version 99, written by a newer plait"):
        await new_journal().open()


async def test_many_may_make_a_journal_at_the_same_time(new_journal):
    journals = [new_journal() for _ in range(8)]
    async with anyio.create_task_group() as tasks:
        for journal in journals:
            tasks.start_soon(journal.open)
    assert await journals[0].find("run") is None
    for journal in journals:
        await journal.close()


async def test_an_older_journal_is_migrated_once(postgres, new_journal, schema, monkeypatch):
    async with opened(new_journal()) as journal:
        await start(journal, due=1e9)
    newer = _schema.VERSION + 1
    monkeypatch.setitem(
        _schema._MIGRATIONS, _schema.VERSION, "ALTER TABLE runs ADD COLUMN more text"
    )
    monkeypatch.setattr(_schema, "VERSION", newer)
    async with opened(new_journal()) as journal, opened(new_journal()):
        assert await status(journal) == "queued"
    found = postgres.ask(f"SELECT version, more FROM {schema}.journal_version, {schema}.runs")
    assert found == [(newer, None)]


async def test_who_waited_for_an_entity_in_an_older_journal_stands_in_line(
    postgres, new_journal, schema
):
    place = ("cart:1", "a:b")
    async with opened(new_journal()) as journal:
        keys = [await start(journal, name) for name in ("1", "2", "3")]
        await journal.acquire(*place, record(keys[0]), 110.0)
        for key, now in zip(keys[1:], (130.0, 120.0), strict=True):
            await journal.acquire(*place, record(key), 115.0)
            await journal.suspend(key, [Wait("flow", "entity:cart:1:a:b", None)], now)
    postgres.ask(f"DROP TABLE {schema}.turns")
    postgres.ask(f"ALTER TABLE {schema}.entities DROP COLUMN path")
    postgres.ask(f"UPDATE {schema}.journal_version SET version = 1")
    async with opened(new_journal()) as journal:
        await claimed(journal)
        told = await journal.release(*place, None, record(keys[0]), 140.0)
        assert told == (keys[2], "flow")
        assert await claimed(journal, now=140.0) == ["3"]


async def test_a_migration_that_fails_has_not_begun(postgres, new_journal, schema, monkeypatch):
    async with opened(new_journal()):
        pass
    with monkeypatch.context() as patch:
        broken = "ALTER TABLE runs ADD COLUMN more text; SELECT * FROM missing"
        patch.setitem(_schema._MIGRATIONS, _schema.VERSION, broken)
        patch.setattr(_schema, "VERSION", _schema.VERSION + 1)
        with pytest.raises(JournalError, match='relation "missing" does not exist'):
            await new_journal().open()
    async with opened(new_journal()) as journal:
        assert await journal.find("run") is None


async def test_a_journal_may_be_opened_again(new_journal):
    journal = new_journal()
    for _ in range(2):
        async with opened(journal):
            assert await claimed(journal) == []


async def test_no_connection_is_left_when_it_cannot_be_opened(new_journal, monkeypatch):
    connect = _connect_times(monkeypatch, 1)
    with pytest.raises(JournalError, match="enough"):
        await new_journal().open()
    assert all(connection.closed for connection in connect)


def _connect_times(monkeypatch, many):
    """Let only so many connections be made; returns them."""
    made, connect = [], psycopg.AsyncConnection.connect

    async def connect_some(*arguments, **more):
        if len(made) == many:
            raise psycopg.OperationalError("that is enough")
        made.append(await connect(*arguments, **more))
        return made[-1]

    monkeypatch.setattr(psycopg.AsyncConnection, "connect", connect_some)
    return made


async def test_a_connection_that_cannot_be_used_is_closed(new_journal, monkeypatch):
    made = _connect_times(monkeypatch, 9)

    def fail(connection):
        raise RuntimeError("no")

    monkeypatch.setattr(_arrays, "register", fail)
    with pytest.raises(JournalError, match="cannot be used: no"):
        await new_journal().open()
    assert [connection.closed for connection in made] == [True]


async def test_what_cannot_be_asked_is_told(journal):
    with pytest.raises(JournalError, match=r"could not be written or read: .* NUL"):
        await journal.find("zero \0")


async def test_what_cannot_be_kept_keeps_nothing_else_from_it(journal):
    key = await start(journal)
    answers = [journal.append(record(key, path)) for path in ("1", "zero \0", "2")]
    with pytest.raises(JournalError, match="could not be written or read"):
        await answers[1]
    await answers[0]
    await answers[2]
    with pytest.raises(JournalError, match="64 bits"):
        await start(journal, "large", priority=2**70)
