"""Runs and their records."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import ANY

import anyio
import pytest

from plait.durable import Journal, JournalError
from plait.durable._opened import opened
from plait.durable._stored import Claimed, StoredRun
from plait.testing._journals._suite import Suite, on_event_loops
from plait.testing._journals._terms import (
    ERROR,
    TIME,
    claim,
    claimed,
    find,
    new,
    paths,
    record,
    settled,
    start,
    status,
)

if TYPE_CHECKING:
    from plait.testing._journals._suite import MakeJournal


@on_event_loops
class Runs(Suite):
    """What there is of a run."""

    async def test_it_is_a_journal(self, journal: Journal) -> None:
        assert isinstance(journal, Journal)

    async def test_a_journal_is_used_while_it_is_open(self, make_journal: MakeJournal) -> None:
        journal = make_journal()
        with pytest.raises(JournalError):
            await journal.find("run")
        async with opened(journal):
            key = await start(journal)
        with pytest.raises(JournalError):
            await journal.append(record(key))
        with pytest.raises(JournalError):
            await journal.find("run")

    async def test_of_several_that_create_a_run_at_once_one_has_made_it(
        self, two: tuple[Journal, Journal]
    ) -> None:
        news: list[bool] = []

        async def create(journal: Journal, number: int) -> None:
            ((stored, is_new),) = await journal.create([new(workflow=f"flow {number}")])
            news.append(is_new)
            assert stored.start.run_id == "run"

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(create, two[number % 2], number)
        assert sorted(news) == [False] * 9 + [True]
        assert await find(two[0]) == (await find(two[1]))._replace(is_claimed=ANY)

    async def test_many_that_create_runs_at_once_have_each_its_own(self, journal: Journal) -> None:
        made: dict[int, tuple[str, bool]] = {}

        async def create(number: int) -> None:
            # Every third one asks for a run that the one before it has asked for.
            run_id = str(number - (number % 3 == 2))
            ((stored, is_new),) = await journal.create([new(run_id, f"flow {number}")])
            assert stored.start.run_id == run_id
            made[number] = stored.start.workflow, is_new

        async with anyio.create_task_group() as tasks:
            for number in range(90):
                tasks.start_soon(create, number)
        for number in range(0, 90, 3):
            assert made[number] == (f"flow {number}", True)
            pair = [made[number + 1], made[number + 2]]
            assert sorted(is_new for _, is_new in pair) == [False, True]
            assert len({workflow for workflow, _ in pair}) == 1

    async def test_a_new_run_is_claimed_at_once(self, journal: Journal) -> None:
        what = new(metadata='{"user": 7}', priority=3, parent="other")
        ((stored, is_new),) = await journal.create([what])
        assert is_new
        assert stored == StoredRun(stored.key, what, "running", 100, None, (), is_claimed=True)
        assert await journal.find("run") == stored

    async def test_a_run_is_created_once(self, journal: Journal) -> None:
        ((first, _),) = await journal.create([new()])
        ((second, is_new),) = await journal.create([new(workflow="another", created=300)])
        assert not is_new
        assert second == first

    async def test_one_call_creates_many_in_their_order(self, journal: Journal) -> None:
        await start(journal, "2")
        made = await journal.create([new(name) for name in "1233"])
        assert [is_new for _, is_new in made] == [True, False, True, False]
        assert made[2][0].key > made[0][0].key > made[1][0].key
        assert made[3][0] == made[2][0]
        assert await journal.create([]) == []

    async def test_no_run_is_found_where_there_is_none(self, journal: Journal) -> None:
        assert await journal.find("run") is None

    async def test_an_id_that_cannot_be_stored_is_refused_and_stops_nothing(
        self, journal: Journal
    ) -> None:
        async def create_strange() -> None:
            with pytest.raises((ValueError, JournalError)):
                await journal.create([new("half a pair \ud800")])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(create_strange)
            tasks.start_soon(start, journal, "plain")
        assert await status(journal, "plain") == "running"

    async def test_a_run_that_is_due_later_is_queued(self, journal: Journal) -> None:
        ((stored, _),) = await journal.create([new(due=150.0)])
        assert (stored.status, stored.is_claimed) == ("queued", False)
        assert await claim(journal, now=149.0) == Claimed([], 150.0)
        ((run, records),) = (await claim(journal, now=150.0)).runs
        assert (run.status, run.is_claimed, run.updated, records) == ("running", True, 150.0, [])

    async def test_a_run_that_was_due_before_is_claimed_at_once(self, journal: Journal) -> None:
        ((stored, _),) = await journal.create([new(due=100.0)])
        assert stored.is_claimed

    async def test_a_run_ends(self, journal: Journal) -> None:
        key = await start(journal)
        await journal.finish(key, "failed", b"error", ["flow/1", "flow/2"], 120.0)
        found = await find(journal, "run")
        assert (found.status, found.outcome, found.updated) == ("failed", b"error", 120.0)
        assert found.failures == ("flow/1", "flow/2")
        assert not found.is_claimed
        assert await claimed(journal) == []

    async def test_a_run_ends_once(self, journal: Journal) -> None:
        key = await start(journal)
        await journal.finish(key, "completed", b"1", [], 120.0)
        with pytest.raises(JournalError):
            await journal.finish(key, "failed", b"2", [], 130.0)
        assert (await find(journal, "run")).outcome == b"1"

    async def test_of_many_that_end_runs_at_once_each_hears_of_its_own(
        self, journal: Journal
    ) -> None:
        created = await journal.create([new(str(number)) for number in range(30)])
        ended: dict[int, list[bytes]] = {stored.key: [] for stored, _ in created}
        refused: list[int] = []

        async def finish(key: int, outcome: bytes) -> None:
            try:
                await journal.finish(key, "completed", outcome, [], 120.0)
            except JournalError:
                refused.append(key)
            else:
                ended[key].append(outcome)

        async with anyio.create_task_group() as tasks:
            for key in ended:
                tasks.start_soon(finish, key, b"1")
                tasks.start_soon(finish, key, b"2")
        assert sorted(refused) == sorted(ended)
        for stored, _ in created:
            assert [(await find(journal, stored.start.run_id)).outcome] == ended[stored.key]

    async def test_progress_is_what_was_said_last(self, journal: Journal) -> None:
        key = await start(journal)
        assert (await find(journal, "run")).progress is None
        await journal.progress(key, b"1 of 3")
        await journal.progress(key, b"2 of 3")
        assert (await find(journal, "run")).progress == b"2 of 3"


@on_event_loops
class Records(Suite):
    """What runs have recorded."""

    async def test_records_are_in_the_order_they_were_handed_in(self, journal: Journal) -> None:
        key, other = await start(journal), await start(journal, "other")
        written = [
            record(key, "flow/1", b"1"),
            record(key, "flow/2", b"2", digest=b"digest", data=b"data"),
            record(key, "flow", b"3", ERROR),
        ]
        async with anyio.create_task_group() as tasks:
            for each in written:
                tasks.start_soon(settled, journal.append(each))
            tasks.start_soon(settled, journal.append(record(other, "else")))
        assert await journal.records(key) == written
        assert await paths(journal, other) == ["else"]
        assert await journal.records(99) == []

    async def test_records_come_back_byte_for_byte(self, journal: Journal) -> None:
        key = await start(journal)
        written = [
            record(key, "a/2:b[10]/attempt 2", b"", ERROR, data=b""),
            record(key, "a/3:'\"%_\\ü#sleep", bytes(range(256)), TIME, digest=bytes(range(256))),
            record(key, "a/4:big", b"x" * 1_000_000, seconds=0.125),
        ]
        for each in written:
            await journal.append(each)
        assert await journal.records(key) == written

    async def test_a_timeline_says_when_records_were_written(self, journal: Journal) -> None:
        key = await start(journal)
        for path in ("flow/1", "flow/2"):
            await journal.append(record(key, path))
        timeline = await journal.timeline(key)
        assert [each for each, _ in timeline] == await journal.records(key)
        times = [at for _, at in timeline]
        assert times == sorted(times)
        assert times[0] > 1e9
        assert await journal.timeline(99) == []

    async def test_a_runner_that_lives_has_nothing_to_confirm(self, journal: Journal) -> None:
        unsure = journal.confirm()
        assert unsure is None

    async def test_many_runs_write_at_once(self, journal: Journal) -> None:
        keys: list[int] = []

        async def write(number: int) -> None:
            key = await start(journal, f"run {number}")
            keys.append(key)
            for place in range(20):
                await journal.append(record(key, f"flow/{place}"))

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(write, number)
        for key in keys:
            assert await paths(journal, key) == [f"flow/{place}" for place in range(20)]

    async def test_what_was_handed_in_is_written_on_closing(self, reopen: MakeJournal) -> None:
        async with opened(reopen()) as journal:
            key = await start(journal)
            for place in range(100):
                _ = journal.append(record(key, f"flow/{place}"))
        async with opened(reopen()) as journal:
            assert len(await journal.records(key)) == 100

    async def test_a_record_is_written_though_nobody_waits_for_it(self, journal: Journal) -> None:
        key = await start(journal)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await journal.append(record(key, "left"))
        await journal.append(record(key, "after"))
        assert await paths(journal, key) == ["left", "after"]

    @pytest.mark.parametrize("many", [1, 3, 4, 63, 64, 65, 255, 256, 1000])
    async def test_many_records_are_written_together(self, journal: Journal, many: int) -> None:
        key = await start(journal)
        answers = [journal.append(record(key, f"flow/{n}")) for n in range(many)]
        for answer in answers:
            await answer
        assert await paths(journal, key) == [f"flow/{n}" for n in range(many)]

    async def test_whatever_writes_records_keeps_to_the_order(self, journal: Journal) -> None:
        key = await start(journal)
        await journal.send("run", "go", b"1", None, 110.0)
        answers = [
            journal.append(record(key, "1")),
            journal.fold(record(key, "2")),
            journal.append(record(key, "3")),
            journal.transact(lambda _: 4, lambda n: record(key, str(n))),
            journal.append(record(key, "5")),
        ]
        for answer in answers:
            await answer
        assert await paths(journal, key) == ["1", "2", "3", "4", "5"]

    async def test_a_folded_record_stands_for_all_below_it(self, journal: Journal) -> None:
        key, other = await start(journal), await start(journal, "other")
        below = ["map[0]", "map[0]/1:leaf", "map/1", "map/attempt 1#sleep"]
        beside = ["map#deadline", "mapped", "map 2", "ma", "other/map/1"]
        for path in below + beside:
            await journal.append(record(key, path))
            await journal.append(record(other, path))
        await journal.fold(record(key, "map", b"sum"))
        assert await paths(journal, key) == [*beside, "map"]
        assert await paths(journal, other) == below + beside

    async def test_a_transaction_is_kept_with_its_record(self, journal: Journal) -> None:
        key = await start(journal)
        assert await journal.transact(lambda _: 3, lambda n: record(key, "pay", b"%d" % n)) == 3
        assert await journal.records(key) == [record(key, "pay", b"3")]

    async def test_a_transaction_that_fails_leaves_nothing(self, journal: Journal) -> None:
        key = await start(journal)

        def fail(_: object) -> None:
            raise LookupError("no such account")

        before = journal.append(record(key, "before"))
        failing = journal.transact(fail, lambda _: record(key, "never"))
        unrecorded = journal.transact(lambda _: 7, lambda n: [record(key)][n])
        after = journal.append(record(key, "after"))
        await before
        with pytest.raises(LookupError, match="no such account"):
            await failing
        with pytest.raises(IndexError):
            await unrecorded
        await after
        assert await paths(journal, key) == ["before", "after"]
