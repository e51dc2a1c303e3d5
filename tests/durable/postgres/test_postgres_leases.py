"""Who lives, by the clock of the database; who does not is taken over from, and fenced."""

import asyncio
import functools
import signal
import time

import anyio
import pytest
from helping import alive, until, working
from journaling import claimed, new, paths, record, start

from plait.durable import JournalError, LeaseLostError
from plait.durable._opened import opened
from plait.durable._postgres import _leases
from plait.durable._stored import QueueLimits

pytestmark = pytest.mark.anyio


@pytest.fixture
def no_beat(monkeypatch):
    """Runners that take a lease and are stuck from then on."""

    renew = _leases.renew

    async def renew_when_asked(connection, runner):
        return "listener" not in asyncio.current_task().get_name() and await renew(
            connection, runner
        )

    monkeypatch.setattr(_leases, "renew", renew_when_asked)


async def until_claimed(journal):
    return await until(lambda: claimed(journal))


@pytest.mark.usefixtures("no_beat")
async def test_a_runner_that_is_stuck_is_taken_over_and_writes_no_more(new_journal):
    async with (
        opened(new_journal(lease_seconds=1)) as first,
        opened(new_journal()) as second,
    ):
        key = await start(first)
        await first.append(record(key, "before"))
        assert await claimed(second) == []
        began = time.monotonic()
        assert await until_claimed(second) == ["run"]
        assert time.monotonic() - began > 0.5
        assert not (await first.find("run")).is_claimed
        calls = [
            lambda: first.append(record(key)),
            lambda: first.create([new("other")]),
            lambda: first.finish(key, "completed", b"", [], 110.0),
            lambda: first.send("run", "go", b"", None, 110.0),
            lambda: first.transact(lambda c: c.execute("SELECT 1"), lambda _: record(key)),
            lambda: first.claim(["flow"], [], 110.0, 10),
        ]
        for call in calls:
            with pytest.raises(JournalError, match=r"taken over from this one, since .* for 1 s"):
                await call()
        await second.append(record(key, "after"))
        assert await paths(second, key) == ["before", "after"]


@pytest.mark.usefixtures("no_beat")
async def test_a_runner_whose_lease_may_be_over_asks_before_it_executes(new_journal):
    async with opened(new_journal(lease_seconds=1)) as first, opened(new_journal()) as second:
        await start(first)
        listener = first._session.listener
        listener.lease_until = 0
        await first.confirm()  # nobody has taken over
        assert listener.lease_until
        assert await until_claimed(second) == ["run"]
        listener.lease_until = 0
        with pytest.raises(JournalError, match="taken over from this one"):
            await first.confirm()


async def test_a_runner_that_is_fenced_learns_it_as_it_renews_its_lease(
    new_journal, postgres, schema
):
    async with opened(new_journal(lease_seconds=0.3)) as journal:
        postgres.ask(f"UPDATE {schema}.runners SET is_gone = TRUE")
        await until(lambda: not journal._session.listener.has_lease)
        with pytest.raises(JournalError, match="taken over from this one"):
            await journal.confirm()


async def test_a_runner_that_was_taken_over_from_goes_on_with_a_new_lease(
    new_journal, postgres, schema
):
    async with opened(new_journal()) as journal, opened(new_journal()) as other:
        key = await start(journal)
        await journal.append(record(key, "1"))
        await journal.renew()  # it has its lease still
        await journal.append(record(key, "2"))
        postgres.ask(f"UPDATE {schema}.runners SET is_gone = TRUE WHERE id = 1")
        assert await claimed(other) == ["run"]
        with pytest.raises(LeaseLostError):
            await journal.append(record(key, "3"))
        await other.append(record(key, "4"))
        await journal.renew()
        assert journal.confirm() is None
        more = await start(journal, "more")
        await journal.append(record(more, "5"))
        assert await paths(journal, more) == ["5"]
        assert await paths(journal, key) == ["1", "2", "4"]
        assert not (await journal.find("run")).is_claimed
        assert (await journal.find("more")).is_claimed
        await journal.finish(more, "completed", b"", [], 110.0)


async def test_a_runner_that_renews_its_lease_lives(new_journal):
    async with (
        opened(new_journal(lease_seconds=0.6)) as first,
        opened(new_journal()) as second,
    ):
        await start(first)
        for _ in range(12):
            await anyio.sleep(0.1)
            assert await claimed(second) == []


@pytest.mark.usefixtures("no_beat")
async def test_who_is_just_writing_is_not_taken_over(new_journal, postgres, schema):
    async with opened(new_journal(lease_seconds=0.2)) as first, opened(new_journal()) as second:
        key = await start(first)
        await anyio.sleep(0.5)
        with_lock = anyio.Event()

        async def write(connection):
            await connection.execute(f"SET LOCAL search_path TO {schema}")
            await connection.execute(_leases.MINE, (first._session.runner,))
            with_lock.set()
            await connection.execute("SELECT pg_sleep(0.3)")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_await, first.transact(write, lambda _: record(key)))
            await with_lock.wait()
            assert await claimed(second) == []
        assert await until_claimed(second) == ["run"]
        assert await paths(second, key) == ["flow"]


async def _await(answer):
    await answer


@pytest.mark.usefixtures("no_beat")
async def test_after_a_restart_of_the_server_everybody_has_time_to_show_life(new_journal, postgres):
    async with opened(new_journal(lease_seconds=1.5)) as first:
        await start(first)
        with postgres.away():
            await anyio.sleep(1.6)
        async with opened(new_journal()) as second:
            began = time.monotonic()
            assert await claimed(second) == []
            assert await until_claimed(second) == ["run"]
            assert time.monotonic() - began > 0.5


@pytest.mark.usefixtures("no_beat")
async def test_who_was_cut_off_takes_nothing_over_at_once(new_journal, postgres):
    async with (
        opened(new_journal(lease_seconds=0.1)) as first,
        opened(new_journal(lease_seconds=1)) as second,
    ):
        await start(first)
        postgres.ask(
            "SELECT pg_terminate_backend(%s)",
            second._session.listener._connection.info.backend_pid,
        )
        await until(lambda: not second._session.listener.has_watched)
        await anyio.sleep(0.3)
        assert await claimed(second) == []
        assert await until_claimed(second) == ["run"]


async def test_what_a_gone_runner_left_may_be_taken_in_parts(new_journal):
    async with opened(new_journal()) as first:
        await first.create([new(str(n)) for n in range(3)])
    async with opened(new_journal()) as second, opened(new_journal()) as third:
        found = await second.claim(["flow"], [], 200.0, 2)
        assert len(found.runs) == 2
        assert found.next_due == 200.0
        assert await claimed(third) == ["2"]


async def test_runners_that_left_nothing_are_forgotten(new_journal, postgres, schema):
    for _ in range(3):
        async with opened(new_journal()):
            pass
    async with opened(new_journal()) as journal:
        assert await claimed(journal) == []
        assert postgres.ask(f"SELECT id FROM {schema}.runners") == [(4,)]


async def test_a_limit_holds_while_many_claim_at_once(new_journal):
    async with (
        opened(new_journal()) as one,
        opened(new_journal()) as two,
        opened(new_journal()) as three,
    ):
        await one.create([new(str(n), queue="mail") for n in range(50)])
        limits = [QueueLimits("mail", max_concurrent=7)]
        found = []

        async def take(journal):
            for _ in range(5):
                found.extend(await claimed(journal, queues=limits, limit=2))

        async with anyio.create_task_group() as tasks:
            for journal in (one, two, three):
                tasks.start_soon(take, journal)
        assert len(found) == len(set(found)) == 7


async def test_a_worker_that_was_paused_past_its_lease_is_fenced(
    new_journal, postgres, schema, tmp_path
):
    with working(postgres.address, schema, tmp_path / "effects", "--one") as worker:
        async with opened(new_journal()) as journal:
            recorded = f"SELECT count(*) > 2 FROM {schema}.records"
            await until(lambda: postgres.ask(recorded)[0][0])
            worker.send_signal(signal.SIGSTOP)
            claim = functools.partial(journal.claim, ["ten steps"], [], time.time(), 10)
            ((run, records),) = (await until(claim, lambda found: found.runs)).runs
            await journal.append(record(run.key, "taken over"))
            executed = len((tmp_path / "effects").read_text().splitlines())
            worker.send_signal(signal.SIGCONT)
            await until(lambda: alive(postgres, schema) == 2)  # it has a new lease
            assert await paths(journal, run.key) == [r.path for r in records] + ["taken over"]
            # It may have been stopped where it was sure of its lease, and had not begun yet.
            again = len((tmp_path / "effects").read_text().splitlines()) - executed
            assert again <= 1
