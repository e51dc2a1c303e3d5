"""A server that is restarted, killed, cut off or away: nothing is lost, nothing is there twice."""

import asyncio
import os
import random
import signal
import time

import anyio
import psycopg
import pytest
from helping import until
from journaling import claimed, new, paths, record, start, status

from plait import SequentialPrimitive, step
from plait.durable import DurableRunner, JournalError
from plait.durable._opened import opened
from plait.durable._postgres._database import Database

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

AWAY_SECONDS = float(os.environ.get("PLAIT_AWAY_SECONDS", "0.2"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
async def test_runs_go_on_when_the_server_is_back(new_journal, postgres, schema, how):
    executed = []

    @step
    async def count(number):
        executed.append(number)
        await asyncio.sleep(0.01)
        return number + 1

    workflow = SequentialPrimitive([count] * 20).named("twenty")
    async with DurableRunner(new_journal()) as runner:
        async with asyncio.TaskGroup() as tasks:
            runs = [tasks.create_task(runner.run(workflow, 0)) for _ in range(20)]
            records = f"SELECT count(*) FROM {schema}.records"
            for least in (40, 160):
                await until(lambda least=least: postgres.ask(records)[0][0] >= least)
                with postgres.away(how):
                    await anyio.sleep(AWAY_SECONDS)
        assert [run.result() for run in runs] == [20] * 20
    assert len(executed) == 400  # in one process, that of no server has any step done twice
    assert postgres.ask(f"SELECT count(*), count(DISTINCT (run, path)) FROM {schema}.records") == [
        (400, 400)
    ]


async def test_nothing_is_lost_or_repeated_whatever_connections_are_cut(
    new_journal, postgres, schema
):
    async with opened(new_journal()) as journal:
        key = await start(journal)
        is_done = False

        async def cut():
            while not is_done:
                await anyio.to_thread.run_sync(
                    postgres.ask,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'plait'",
                )
                await anyio.sleep(random.uniform(0.02, 0.2))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cut)
            for n in range(60):
                answers = [journal.append(record(key, f"{n} {m}")) for m in range(3)]
                run_id = f"run {n}"
                ((stored, is_new),) = await journal.create([new(run_id)])
                assert is_new
                assert await journal.send(run_id, "go", b"%d" % n, None, 110.0) == "running"
                assert await journal.receive(stored.key, "go", "flow") == b"%d" % n
                assert await journal.receive(stored.key, "go", "flow") is None
                for answer in answers:
                    await answer
                assert await status(journal, run_id) == "running"
            is_done = True
        assert await paths(journal, key) == [f"{n} {m}" for n in range(60) for m in range(3)]


@pytest.mark.parametrize("is_committed", [True, False])
async def test_an_answer_that_is_lost_with_the_commit(
    new_journal, postgres, monkeypatch, is_committed
):
    """The server says what became of it: nothing is written twice, no answer is another one."""
    execute, commits = psycopg.AsyncConnection.execute, []

    async def committing(connection, query, *values, **more):
        if query != "COMMIT" or commits:
            return await execute(connection, query, *values, **more)
        commits.append(query)
        if is_committed:
            await execute(connection, query)
        postgres.ask("SELECT pg_terminate_backend(%s, 5000)", connection.info.backend_pid)
        return await execute(connection, "SELECT 1")

    async with opened(new_journal()) as journal:
        monkeypatch.setattr(psycopg.AsyncConnection, "execute", committing)
        ((stored, is_new),) = await journal.create([new()])
        assert is_new
        assert commits
        assert stored.key == (1 if is_committed else 2)  # one that is undone has taken its key
        assert (await journal.find("run")).key == stored.key


async def test_a_commit_under_way_is_waited_for(new_journal, postgres, schema, monkeypatch):
    """The old connection is cut, and the server still busy with what it was told."""
    from plait.durable._postgres import _writer

    first, cut = _writer.first, []

    async def lost_once(connection, *asked):
        if not cut:
            cut.append(connection.info.backend_pid)
            postgres.ask("SELECT pg_terminate_backend(%s, 5000)", *cut)
        return await first(connection, *asked)

    async with opened(new_journal()) as journal:
        with psycopg.connect(postgres.address) as other:
            ((number,),) = other.execute("SELECT pg_current_xact_id()::text").fetchall()
            database = journal._session._database
            asking = asyncio.create_task(_writer.was_committed(database, number))
            await anyio.sleep(0.1)
            assert not asking.done()
            other.commit()
            assert await asking
        monkeypatch.setattr(_writer, "first", lost_once)
        assert await _writer.was_committed(database, number)
        assert cut
        assert not await _writer.was_committed(database, "999999999999")


async def test_an_outage_that_lasts_too_long_is_told(new_journal, postgres):
    journal = new_journal(outage_seconds=0.3)
    await journal.open()
    key = await start(journal)
    with postgres.away():
        began = time.monotonic()
        for ask in (
            lambda: journal.append(record(key)),
            lambda: journal.find("run"),
            lambda: journal.transact(lambda c: c.execute("SELECT 1"), lambda _: record(key)),
        ):
            with pytest.raises(JournalError, match="could not be written or read: connection"):
                await ask()
        assert time.monotonic() - began < 5
        assert not await journal.changed(0)
    await journal.append(record(key, "later"))
    assert await paths(journal, key) == ["later"]
    await journal.close()


async def test_closing_waits_for_no_server(new_journal, postgres):
    journal = new_journal()
    await journal.open()
    key = await start(journal)
    with postgres.away():
        answer = journal.append(record(key))
        await anyio.sleep(0.1)
        with anyio.fail_after(5):
            await journal.close()
        with pytest.raises(JournalError, match="could not be written"):
            await answer
    async with opened(new_journal(lease_seconds=1)) as other:
        assert await claimed(other) == []


async def test_a_cancellation_that_the_driver_loses_keeps_nobody_from_closing(
    new_journal, monkeypatch
):
    notifies = psycopg.AsyncConnection.notifies
    lost = []

    async def losing(connection, **more):
        try:
            async for notification in notifies(connection, **more):
                yield notification
        except asyncio.CancelledError as cancelled:
            lost.append(cancelled)

    journal = new_journal()
    with monkeypatch.context() as patch:
        patch.setattr(psycopg.AsyncConnection, "notifies", losing)
        await journal.open()
        await anyio.sleep(0.1)
        with anyio.move_on_after(20) as waiting:
            await journal.close()
    assert lost
    assert not waiting.cancelled_caught, "it was never closed"


async def test_what_was_said_while_nobody_could_hear_is_looked_for(new_journal, postgres):
    async with opened(new_journal()) as first, opened(new_journal()) as second:
        while await first.changed(0):
            pass
        listener = first._session.listener._connection.info.backend_pid
        postgres.ask("SELECT pg_terminate_backend(%s, 5000)", listener)
        await start(second)
        assert await first.changed(10)


async def test_a_notification_that_is_lost_is_made_up_for(new_journal, monkeypatch):
    from plait.durable._postgres import _listener

    monkeypatch.setattr(_listener, "_POLL_SECONDS", 0.2)
    async with opened(new_journal()) as journal:
        assert await journal.changed(5)
        assert not await journal.changed(0.05)
        assert await journal.changed(5)


async def test_a_deadlock_is_no_failure(new_journal, postgres, schema):
    async with opened(new_journal()) as journal:
        await journal.create([new("a"), new("b")])
        with psycopg.connect(postgres.address) as other:
            lock = f"SELECT 1 FROM {schema}.runs WHERE run_id = %s FOR UPDATE"
            other.execute("SET deadlock_timeout = '1min'")
            other.execute(lock, ["b"])
            both = asyncio.gather(
                *(journal.send(run_id, "go", b"", None, 110.0) for run_id in "ab")
            )
            await anyio.sleep(0.2)
            waiting = asyncio.create_task(asyncio.to_thread(other.execute, lock, ["a"]))
            await waiting  # the server makes the journal's transaction give way
            other.commit()
            assert await both == ["running", "running"]
    assert postgres.ask(f"SELECT count(*) FROM {schema}.signals") == [(2,)]


async def test_a_server_that_only_reads_is_waited_for(new_journal, postgres, schema):
    """As one is that has failed over, until the address leads to the other."""
    async with opened(new_journal()) as journal:
        key = await start(journal)
        setting = "ALTER DATABASE postgres SET default_transaction_read_only"
        postgres.ask(f"{setting} = on")
        try:
            journal._session.writer._connection.pgconn.finish()
            answer = journal.append(record(key))
            await anyio.sleep(0.2)
            assert not answer.done()
        finally:
            postgres.ask(
                "SET default_transaction_read_only = off; ALTER DATABASE postgres RESET ALL"
            )
        await answer
        assert await paths(journal, key) == ["flow"]


async def test_an_error_of_ours_is_told_as_it_is(postgres):
    error = JournalError("as it is")
    assert Database(postgres.address, "plait", 1).explain(error) is error
