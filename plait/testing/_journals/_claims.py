"""Who executes a run, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from plait.durable._stored import Claimed, QueueLimits, Wait
from plait.testing._journals._suite import Suite, on_event_loops
from plait.testing._journals._terms import claim, claimed, find, forever, new, record, start

if TYPE_CHECKING:
    from plait.durable import Journal
    from plait.testing._journals._suite import MakeJournal


@on_event_loops
class Claims(Suite):
    """Runs that are taken over."""

    async def test_what_a_living_runner_has_is_not_claimed(
        self, two: tuple[Journal, Journal]
    ) -> None:
        first, second = two
        await start(first)
        assert await claimed(second) == []
        found = await find(second, "run")
        assert (found.status, found.is_claimed) == ("running", False)

    async def test_what_a_closed_runner_left_is_claimed_with_its_records(
        self, two: tuple[Journal, Journal], make_journal: MakeJournal
    ) -> None:
        first, second = make_journal(), two[0]
        await first.open()
        await first.create([new("ended")])
        await first.finish((await find(first, "ended")).key, "completed", b"", [], 110.0)
        keys = [await start(first, f"run {n}") for n in range(3)]
        for n in range(6):
            await first.append(record(keys[n % 3], f"flow/{n}"))
        await start(first, "another", "another flow")
        await first.close()
        found = await claim(second)
        assert found.next_due is None
        assert [(run.start.run_id, run.status, run.is_claimed) for run, _ in found.runs] == [
            (f"run {n}", "running", True) for n in range(3)
        ]
        assert [[each.path for each in records] for _, records in found.runs] == [
            [f"flow/{n}", f"flow/{n + 3}"] for n in range(3)
        ]
        assert await claimed(second) == []
        assert await claimed(second, "flow", "another flow") == ["another"]

    async def test_no_more_are_claimed_than_asked_for(self, journal: Journal) -> None:
        for n in range(5):
            await start(journal, f"run {n}", due=101.0 + n)
        assert await claimed(journal, limit=2) == ["run 0", "run 1"]
        found = await claim(journal, limit=0)
        assert (found.runs, found.next_due) == ([], 103.0)
        assert await claimed(journal, limit=2) == ["run 2", "run 3"]
        assert await claimed(journal) == ["run 4"]

    async def test_what_is_interrupted_counts_as_well(
        self, two: tuple[Journal, Journal], make_journal: MakeJournal
    ) -> None:
        first = make_journal()
        await first.open()
        await first.create([new(f"run {n}") for n in range(3)])
        await first.close()
        found = await claim(two[0], limit=2)
        assert len(found.runs) == 2
        assert found.next_due == 200.0
        assert await claimed(two[0]) == ["run 2"]

    async def test_only_runs_of_the_workflows_are_claimed(self, journal: Journal) -> None:
        await start(journal, "1", "a", due=110.0)
        await start(journal, "2", "b", due=105.0)
        await start(journal, "3", "c", due=101.0)
        assert await claim(journal, "d") == Claimed([], None)
        assert await claim(journal) == Claimed([], None)
        assert await claimed(journal, "a", "b") == ["2", "1"]

    async def test_two_runners_never_claim_one_run(self, two: tuple[Journal, Journal]) -> None:
        await two[0].create([new(f"run {n}", due=101.0) for n in range(50)])
        found = []

        async def take(journal: Journal) -> None:
            while taken := await claimed(journal, limit=3):
                found.extend(taken)

        async with anyio.create_task_group() as tasks:
            for journal in two:
                tasks.start_soon(take, journal)
        assert sorted(found) == sorted(f"run {n}" for n in range(50))

    async def test_a_claimed_run_waits_for_nothing(self, journal: Journal) -> None:
        key = await start(journal)
        await journal.suspend(key, [Wait("flow/1", "signal:run:go", 110.0)], 105.0)
        ((run, _),) = (await claim(journal)).runs
        assert (run.status, run.waits) == ("running", ())


@on_event_loops
class Queues(Suite):
    """Queues and their limits."""

    async def test_a_run_in_a_queue_is_claimed_when_the_queue_has_room(
        self, journal: Journal
    ) -> None:
        ((stored, _), *_) = await journal.create([new(str(n), queue="mail") for n in range(3)])
        assert (stored.status, stored.is_claimed) == ("queued", False)
        one = [QueueLimits("mail", max_concurrent=1)]
        found = await claim(journal, queues=one)
        assert [run.start.run_id for run, _ in found.runs] == ["0"]
        assert found.next_due is None
        assert await claimed(journal, queues=one) == []
        await journal.finish(stored.key, "completed", b"", [], 210.0)
        assert await claimed(journal, queues=one) == ["1"]

    async def test_the_limit_holds_over_all_runners(self, two: tuple[Journal, Journal]) -> None:
        await two[0].create([new(str(n), queue="mail") for n in range(5)])
        limits = [QueueLimits("mail", max_concurrent=2)]
        assert await claimed(two[0], queues=limits, limit=1) == ["0"]
        assert await claimed(two[1], queues=limits) == ["1"]
        assert await claimed(two[0], queues=limits) == []

    async def test_a_queue_without_limits_lets_all_through(self, journal: Journal) -> None:
        await journal.create([new(str(n), queue="mail") for n in range(5)])
        assert await claimed(journal, queues=[QueueLimits("other", 0)]) == list("01234")

    async def test_the_highest_priority_goes_first_and_then_what_came_first(
        self, journal: Journal
    ) -> None:
        priorities = {"a": 0, "b": 5, "c": -1, "d": 5}
        for name, priority in priorities.items():
            await start(journal, name, queue="mail", priority=priority)
        assert await claimed(journal, limit=3) == ["b", "d", "a"]

    async def test_the_first_goes_first_whatever_its_workflow(self, journal: Journal) -> None:
        for n in range(6):
            await start(journal, str(n), f"flow {n % 2}", queue="mail")
        assert await claimed(journal, "flow 0", "flow 1", limit=3) == ["0", "1", "2"]
        assert await claimed(journal, "flow 1") == ["3", "5"]

    async def test_a_run_that_is_due_later_stands_in_line_once_it_is(
        self, journal: Journal
    ) -> None:
        await start(journal, "later", queue="mail", priority=1, due=210.0)
        await start(journal, "now", queue="mail")
        one = [QueueLimits("mail", max_concurrent=1)]
        found = await claim(journal, queues=one)
        assert [run.start.run_id for run, _ in found.runs] == ["now"]
        assert found.next_due == 210.0
        assert await claim(journal, queues=one, now=210.0) == Claimed([], None)
        assert await claimed(journal, now=210.0) == ["later"]

    async def test_a_run_that_waits_leaves_room_and_goes_first_when_it_is_woken(
        self, journal: Journal
    ) -> None:
        one = [QueueLimits("mail", max_concurrent=1)]
        await start(journal, "a", queue="mail")
        await start(journal, "b", queue="mail")
        await start(journal, "c", queue="mail", priority=9)
        ((first, _),) = (await claim(journal, queues=one)).runs
        assert first.start.run_id == "c"
        await journal.suspend(first.key, [forever("signal:c:go")], 210.0)
        ((second, _),) = (await claim(journal, queues=one)).runs
        assert second.start.run_id == "a"
        await journal.send("c", "go", b"", None, 220.0)
        assert await claimed(journal, queues=one, now=220.0) == []
        await journal.finish(second.key, "completed", b"", [], 230.0)
        assert await claimed(journal, queues=one, now=230.0) == ["c"]

    async def test_no_more_begin_than_the_rate_allows(self, journal: Journal) -> None:
        await journal.create([new(str(n), queue="mail") for n in range(5)])
        slow = [QueueLimits("mail", rate=(2, 60.0))]
        found = await claim(journal, queues=slow, now=200.0, limit=1)
        assert [run.start.run_id for run, _ in found.runs] == ["0"]
        assert found.next_due == 200.0
        found = await claim(journal, queues=slow, now=210.0)
        assert [run.start.run_id for run, _ in found.runs] == ["1"]
        assert found.next_due == 260.0
        assert await claim(journal, queues=slow, now=259.0) == Claimed([], 260.0)
        assert await claimed(journal, queues=slow, now=260.0) == ["2"]

    async def test_what_has_begun_does_not_count_against_the_rate(self, journal: Journal) -> None:
        slow = [QueueLimits("mail", rate=(1, 60.0))]
        await start(journal, "a", queue="mail")
        await start(journal, "b", queue="mail")
        ((run, _),) = (await claim(journal, queues=slow)).runs
        await journal.suspend(run.key, [Wait("flow", "", 201.0)], 200.0)
        assert await claimed(journal, queues=slow, now=202.0) == ["a"]

    async def test_a_rate_of_none_lets_nothing_begin(self, journal: Journal) -> None:
        await start(journal, queue="mail")
        never = [QueueLimits("mail", rate=(0, 60.0))]
        assert await claim(journal, queues=never) == Claimed([], 260.0)

    async def test_a_run_that_is_to_stop_needs_no_room(self, journal: Journal) -> None:
        await start(journal, "a", queue="mail")
        none = [QueueLimits("mail", max_concurrent=0)]
        assert await claimed(journal, queues=none) == []
        assert await journal.cancel("a", 210.0)
        ((run, _),) = (await claim(journal, queues=none, now=210.0)).runs
        assert run.is_cancelled

    async def test_a_claim_that_has_no_room_left_is_asked_for_again_at_once(
        self, journal: Journal
    ) -> None:
        await journal.create([new("a", due=110.0), new("b", queue="mail")])
        found = await claim(journal, limit=1)
        assert [run.start.run_id for run, _ in found.runs] == ["a"]
        assert found.next_due == 200.0
