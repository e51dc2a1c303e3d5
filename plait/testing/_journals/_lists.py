"""Lists of runs, and what is removed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio

from plait.durable._stored import RunQuery
from plait.testing._journals._suite import Suite, on_event_loops
from plait.testing._journals._terms import claimed, find, forever, new, record, start

if TYPE_CHECKING:
    from plait.durable import Journal, RunStatus


@on_event_loops
class Lists(Suite):
    """Which runs there are."""

    async def listed(self, journal: Journal, **query: Any) -> list[str]:
        return [found.start.run_id for found in await journal.list(RunQuery(**query))]

    async def test_the_newest_is_the_first(self, journal: Journal) -> None:
        await journal.create([new(str(n)) for n in range(5)])
        assert await self.listed(journal) == list("43210")
        assert await self.listed(journal, limit=2) == list("43")
        key = (await find(journal, "3")).key
        assert await self.listed(journal, limit=2, before=key) == list("21")

    async def test_the_workflows_that_have_runs_under_way_are_known(self, journal: Journal) -> None:
        await start(journal, "a", "ended")
        await journal.finish((await find(journal, "a")).key, "completed", b"", [], 110.0)
        assert await journal.workflows() == []
        await start(journal, "b", "waiting")
        await journal.suspend((await find(journal, "b")).key, [forever("signal:b:go")], 110.0)
        await start(journal, "c", "queued", queue="mail")
        for n in range(200):
            await start(journal, str(n), "running")
        assert await journal.workflows() == ["queued", "running", "waiting"]

    async def test_a_list_is_of_what_is_asked_for(self, journal: Journal) -> None:
        facts = {"user": 7, "tags": ["a", "b"], "name": 'o"x.y', "none": None, "is": True}
        await start(journal, "a", "one", created=10.0, metadata=json.dumps(facts))
        await start(journal, "b", "two", created=20.0, parent="a", metadata='{"user": "7"}')
        await start(journal, "c", "two", created=30.0, parent="a", queue="mail")
        await start(journal, "d", "three", created=40.0, queue="mail")
        await journal.finish((await find(journal, "b")).key, "failed", b"", [], 50.0)

        async def listed(**query: Any) -> str:
            return "".join(await self.listed(journal, **query))

        assert await listed(workflow="two") == "cb"
        assert await listed(workflow="none") == ""
        assert await listed(statuses=["failed"]) == "b"
        assert await listed(statuses=["failed", "running"]) == "ba"
        assert await listed(statuses=["waiting"]) == ""
        assert await listed(workflow="two", statuses=["queued"]) == "c"
        assert await listed(workflow="two", limit=1) == "c"
        assert await listed(workflow="one", statuses=["queued"]) == ""
        assert await listed(created_after=20.0, created_before=40.0) == "cb"
        assert await listed(parent="a") == "cb"
        assert await listed(parent="a", workflow="two", statuses=["failed"]) == "b"
        assert await listed(parent="z") == ""
        assert await listed(queue="mail") == "dc"
        assert await listed(queue="mail", workflow="two") == "c"
        assert await listed(queue="mail", parent="a") == "c"
        assert await listed(metadata={"user": 7}) == "a"
        assert await listed(metadata={"user": "7"}) == "b"
        assert await listed(metadata={"user": 7, "tags": ["a", "b"]}) == "a"
        assert await listed(metadata={"user": 7, "tags": ["b"]}) == ""
        assert await listed(metadata={"tags": '["a","b"]'}) == ""
        assert await listed(metadata={"name": 'o"x.y'}, workflow="one") == "a"
        assert await listed(metadata={"none": None}) == "a"
        assert await listed(metadata={"other": None}) == ""
        assert await listed(metadata={"is": True}, statuses=["running"]) == "a"

    async def test_a_list_says_what_runs_wait_for(self, journal: Journal) -> None:
        key = await start(journal, "a")
        await start(journal, "b")
        await journal.suspend(key, [forever("signal:a:go"), forever("", "flow/2")], 110.0)
        b, a = await journal.list(RunQuery())
        assert [wait.path for wait in a.waits] == ["flow", "flow/2"]
        assert b.waits == ()


@on_event_loops
class Pruning(Suite):
    """What is removed."""

    async def test_what_has_ended_is_removed_by_its_age(self, journal: Journal) -> None:
        ends: list[RunStatus] = ["completed", "failed", "cancelled", "completed"]
        key = 0
        for n, ended in enumerate(ends):
            key = await start(journal, str(n))
            await journal.append(record(key))
            await journal.send(str(n), "go", b"", None, 110.0)
            await journal.set_event(record(key), "ready", 110.0)
            await journal.finish(key, ended, b"", [], 120.0 + n)
        await start(journal, "running")
        assert await journal.prune(120.0, (), 10) == 0
        assert await journal.prune(123.0, ["failed"], 10) == 1
        assert await journal.find("1") is None
        assert await journal.prune(123.0, ["running"], 10) == 0
        assert await journal.prune(1e9, (), 1) == 1
        assert await journal.find("0") is None
        assert await journal.prune(1e9, ["cancelled", "completed"], 10) == 2
        assert await journal.records(key) == []
        assert await journal.event("3", "ready") is None
        assert [run.start.run_id for run in await journal.list(RunQuery())] == ["running"]

    async def test_payloads_are_found_wherever_they_are_kept(self, journal: Journal) -> None:
        ((stored, _),) = await journal.create([new()._replace(payload=b"ref:input")])
        key = stored.key
        await journal.append(record(key, "flow/1", b"ref:record", data=b"ref:data"))
        await journal.append(record(key, "flow/2", b"other", data=None))
        await journal.set_event(record(key, "flow/3", b"ref:event"), "ready", 110.0)
        await journal.send("run", "go", b"ref:signal", None, 110.0)
        await journal.acquire("cart", "1", record(key, "flow/4"), 105.0)
        await journal.release("cart", "1", b"ref:entity", record(key, "flow/4#released"), 110.0)
        found = {b"ref:input", b"ref:record", b"ref:data", b"ref:event", b"ref:signal"}
        assert await journal.payloads(b"ref:") == found | {b"ref:entity"}
        await journal.finish(key, "completed", b"ref:outcome", [], 120.0)
        assert b"ref:outcome" in await journal.payloads(b"ref:")
        assert await journal.payloads(b"ref:o") == {b"ref:outcome"}
        await journal.prune(130.0, (), 10)
        assert await journal.payloads(b"ref:") == {b"ref:entity"}

    async def test_a_later_run_has_a_greater_key_all_the_same(self, journal: Journal) -> None:
        key = await start(journal)
        await journal.finish(key, "completed", b"", [], 110.0)
        await journal.prune(120.0, (), 10)
        assert await start(journal) > key

    async def test_a_run_that_is_gone_is_not_waited_for(self, journal: Journal) -> None:
        child = await start(journal, "child")
        await journal.finish(child, "completed", b"", [], 110.0)
        await journal.prune(120.0, (), 10)
        await journal.suspend(await start(journal), [forever("run:child")], 130.0)
        assert await claimed(journal) == ["run"]


@on_event_loops
class Ticks(Suite):
    """Up to when schedules have started runs."""

    async def test_a_tick_never_goes_back(self, journal: Journal) -> None:
        assert await journal.last_tick("daily") is None
        for at in (10.0, 30.0, 20.0):
            await journal.set_tick("daily", at)
        await journal.set_tick("hourly", 5.0)
        assert await journal.last_tick("daily") == 30.0


@on_event_loops
class Changes(Suite):
    """News of other runners."""

    async def test_nothing_changes_by_itself(self, journal: Journal) -> None:
        await start(journal)
        assert not await journal.changed(0)
        assert not await journal.changed(0.15)

    async def test_what_another_runner_writes_is_noticed_once(
        self, two: tuple[Journal, Journal]
    ) -> None:
        first, second = two
        while await first.changed(0):
            pass
        await start(second)
        assert await first.changed(60)
        assert not await first.changed(0)

    async def test_a_change_ends_the_wait(self, two: tuple[Journal, Journal]) -> None:
        first, second = two
        while await first.changed(0):
            pass
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(first.changed, 60)
                await start(second)
