"""Steps that write into the journal's own database."""

import sqlite3

import pytest
from journaling import new, paths, record, start

from plait.durable import JournalError

pytestmark = pytest.mark.anyio


async def test_an_effect_and_its_record_are_kept_together(journal):
    key = await start(journal)

    def pay(connection):
        connection.execute("CREATE TABLE payments (amount INTEGER)")
        connection.executemany("INSERT INTO payments VALUES (?)", [(1,), (2,)])
        return connection.execute("SELECT sum(amount) FROM payments").fetchone()[0]

    result = await journal.transact(pay, lambda total: record(key, "pay", b"%d" % total))
    assert result == 3
    assert await journal.records(key) == [record(key, "pay", b"3")]


async def test_what_fails_undoes_only_itself(journal):
    key = await start(journal)
    await journal.transact(lambda c: c.execute("CREATE TABLE t (n)"), lambda _: record(key))

    def fail(connection):
        connection.execute("INSERT INTO t VALUES (1)")
        raise LookupError("no such account")

    before = journal.append(record(key, "before"))
    failing = journal.transact(fail, lambda _: record(key, "never"))
    unrecorded = journal.transact(
        lambda c: c.execute("INSERT INTO t VALUES (2)").rowcount, lambda n: record(key)[n + 9]
    )
    after = journal.transact(
        lambda c: c.execute("INSERT INTO t VALUES (3)").rowcount,
        lambda _: record(key, "after"),
    )
    await before
    with pytest.raises(LookupError, match="no such account"):
        await failing
    with pytest.raises(IndexError):
        await unrecorded
    assert await after == 1
    left = await journal.transact(
        lambda c: c.execute("SELECT n FROM t").fetchall(), lambda _: record(key, "look")
    )
    assert left == [(3,)]
    assert await paths(journal, key) == ["flow", "before", "after", "look"]


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("COMMIT", "begins or ends a transaction"),
        ("ROLLBACK", "begins or ends a transaction"),
        ("BEGIN", "begins or ends a transaction"),
        ("ROLLBACK TO plait_step", "savepoint plait_step"),
        ("ATTACH ':memory:' AS other", "attaches a database"),
        ("DETACH main", "detaches a database"),
        ("PRAGMA user_version = 9", "uses a PRAGMA"),
        ("SELECT * FROM records", "touches 'records'"),
        ("DELETE FROM Runs", "touches 'runs'"),
        ("UPDATE runners SET is_gone = 1", "touches 'runners'"),
        ("DROP TABLE waits", "touches 'waits'"),
        ("CREATE TEMP TABLE runs (n)", "touches 'runs'"),
        ("CREATE INDEX mine ON signals (id)", "touches 'signals'"),
        ("ALTER TABLE events ADD COLUMN n", "touches 'events'"),
        (
            "CREATE TRIGGER mine AFTER INSERT ON runs BEGIN SELECT 1; END",
            "touches 'runs'",
        ),
    ],
)
async def test_a_step_neither_ends_the_transaction_nor_touches_the_journal(journal, statement, why):
    key = await start(journal)
    with pytest.raises(sqlite3.DatabaseError) as caught:
        await journal.transact(lambda c: c.execute(statement), lambda _: record(key, "never"))
    assert any(why in note for note in caught.value.__notes__)
    await journal.append(record(key, "after"))
    assert await paths(journal, key) == ["after"]


async def test_what_is_no_refusal_has_no_note(journal):
    key = await start(journal)
    with pytest.raises(sqlite3.OperationalError, match="no such table") as caught:
        await journal.transact(lambda c: c.execute("SELECT * FROM no"), lambda _: record(key))
    assert not hasattr(caught.value, "__notes__")


async def test_a_step_has_savepoints_of_its_own(journal):
    key = await start(journal)

    def work(connection):
        connection.execute("CREATE TABLE t (n)")
        connection.execute("SAVEPOINT mine")
        connection.execute("INSERT INTO t VALUES (1)")
        connection.execute("ROLLBACK TO mine")
        return connection.execute("SELECT count(*) FROM t").fetchone()[0]

    assert await journal.transact(work, lambda _: record(key)) == 0


async def test_what_a_step_sets_on_the_connection_ends_with_it(journal):
    key = await start(journal)

    def work(connection):
        connection.row_factory = sqlite3.Row
        connection.text_factory = bytes
        connection.isolation_level = "DEFERRED"
        return connection.execute("SELECT 1 AS one").fetchone()["one"]

    assert await journal.transact(work, lambda _: record(key)) == 1
    assert await paths(journal, key) == ["flow"]
    with pytest.raises(sqlite3.DatabaseError):
        await journal.transact(lambda c: c.commit(), lambda _: record(key))
    assert (await journal.find("run")).start == new()


@pytest.mark.parametrize("is_hidden", [False, True])
async def test_a_step_that_rolls_back_what_others_wrote_undoes_nothing_of_it(journal, is_hidden):
    key = await start(journal)
    make = "CREATE TABLE t (n UNIQUE)"
    await journal.transact(lambda c: c.execute(make), lambda _: record(key, "made"))

    def work(connection):
        connection.execute("INSERT INTO t VALUES (1)")
        try:
            connection.execute("INSERT OR ROLLBACK INTO t VALUES (1)")
        except sqlite3.IntegrityError:
            if not is_hidden:
                raise
            with pytest.raises(sqlite3.DatabaseError):
                connection.execute("INSERT INTO t VALUES (2)")

    before = journal.append(record(key, "before"))
    failing = journal.transact(work, lambda _: record(key, "never"))
    after = journal.append(record(key, "after"))
    await before
    with pytest.raises(
        JournalError if is_hidden else sqlite3.IntegrityError,
        match="rolled the transaction back" if is_hidden else "UNIQUE constraint",
    ):
        await failing
    await after
    assert await paths(journal, key) == ["made", "before", "after"]
    count = "SELECT count(*) FROM t"
    left = await journal.transact(
        lambda c: c.execute(count).fetchone()[0], lambda _: record(key, "look")
    )
    assert left == 0


async def test_a_step_that_stops_the_iteration_is_told_so(journal):
    key = await start(journal)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await journal.transact(lambda _: next(iter(())), lambda _: record(key))
