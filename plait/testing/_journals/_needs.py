"""Runs that wait for a runner which has what their steps need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait.durable._stored import QueueLimits, Wait
from plait.testing._journals._suite import Suite, on_event_loops
from plait.testing._journals._terms import claim, claimed, find, forever, start

if TYPE_CHECKING:
    from plait.durable import Journal


async def _in_need(journal: Journal, run_id: str, *topics: str, workflow: str = "flow") -> None:
    """Have a run wait for a runner with tags."""
    key = await start(journal, run_id, workflow)
    await journal.suspend(key, [forever(topic) for topic in topics], 110.0)


@on_event_loops
class Needs(Suite):
    """Tags that a runner has, and that a run waits for."""

    async def test_a_run_goes_to_a_runner_that_has_what_it_needs(self, journal: Journal) -> None:
        await _in_need(journal, "a", "needs:gpu")
        assert await claimed(journal) == []
        assert await claimed(journal, has=["gp", "gpus", "gpu,large"]) == []
        assert (await find(journal, "a")).waits == (forever("needs:gpu"),)
        assert await claimed(journal, has=["large", "gpu"]) == ["a"]
        assert (await find(journal, "a")).waits == ()
        assert await claimed(journal, has=["gpu"]) == []

    async def test_all_the_tags_are_needed(self, journal: Journal) -> None:
        await _in_need(journal, "a", "needs:gpu,large")
        assert await claimed(journal, has=["gpu"]) == []
        assert await claimed(journal, has=["large"]) == []
        assert await claimed(journal, has=["large", "gpu", "ssd"]) == ["a"]

    async def test_any_of_what_several_branches_need_will_do(self, journal: Journal) -> None:
        for run_id in "ab":
            await _in_need(journal, run_id, "needs:gpu", "needs:tpu")
        assert await claimed(journal, has=["tpu"], limit=1) == ["a"]
        assert await claimed(journal, has=["gpu", "tpu"]) == ["b"]

    async def test_it_goes_to_anybody_when_another_of_its_waits_ends(
        self, journal: Journal
    ) -> None:
        await _in_need(journal, "a", "needs:gpu", "signal:a:go")
        await journal.send("a", "go", b"1", None, 120.0)
        assert await claimed(journal) == ["a"]
        key = await start(journal, "b")
        await journal.suspend(key, [forever("needs:gpu"), Wait("flow", "", 150.0)], 110.0)
        assert (await claim(journal, now=140.0)).next_due == 150.0
        assert await claimed(journal, now=150.0) == ["b"]

    async def test_it_goes_to_anybody_when_it_is_cancelled(self, journal: Journal) -> None:
        await _in_need(journal, "a", "needs:gpu")
        await journal.cancel("a", 120.0)
        assert await claimed(journal) == ["a"]

    async def test_only_runs_of_the_workflows_are_claimed_for_what_they_need(
        self, journal: Journal
    ) -> None:
        await _in_need(journal, "a", "needs:gpu", workflow="other")
        assert await claimed(journal, has=["gpu"]) == []
        assert await claimed(journal, "other", has=["gpu"]) == ["a"]

    async def test_no_more_of_them_are_claimed_than_asked_for(self, journal: Journal) -> None:
        for run_id in "abc":
            await _in_need(journal, run_id, "needs:gpu")
        found = await claim(journal, has=["gpu"], limit=2)
        assert ([run.start.run_id for run, _ in found.runs], found.next_due) == (["a", "b"], 200.0)
        assert await claimed(journal, has=["gpu"]) == ["c"]

    async def test_a_queue_has_to_have_room_for_it(self, journal: Journal) -> None:
        one = [QueueLimits("mail", max_concurrent=1)]
        await start(journal, "a", queue="mail")
        await start(journal, "b", queue="mail")
        ((first, _),) = (await claim(journal, queues=one)).runs
        await journal.suspend(first.key, [forever("needs:gpu")], 110.0)
        ((second, _),) = (await claim(journal, queues=one)).runs
        assert (first.start.run_id, second.start.run_id) == ("a", "b")
        assert await claimed(journal, queues=one, has=["gpu"]) == []
        await journal.finish(second.key, "completed", b"", [], 120.0)
        assert await claimed(journal, queues=one) == []
        assert await claimed(journal, queues=one, has=["gpu"]) == ["a"]
