"""Runs that wait, and what wakes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import anyio
import pytest

from plait.durable import JournalError
from plait.durable._stored import Claimed, QueueLimits, Wait
from plait.testing._journals._suite import Suite, on_event_loops
from plait.testing._journals._terms import claim, claimed, find, forever, record, start

if TYPE_CHECKING:
    from plait.durable import Journal


Wake: TypeAlias = Callable[["Journal"], Awaitable[None]]


async def _by_event(journal: Journal) -> None:
    key = (await find(journal, "other:1")).key
    await journal.set_event(record(key, "flow/1"), "ready:now", 120.0)


async def _by_end(journal: Journal) -> None:
    key = (await find(journal, "other:1")).key
    await journal.finish(key, "failed", b"", [], 120.0)


_WAYS = pytest.mark.parametrize(
    ("topic", "wake"),
    [
        ("event:other:1:ready:now", _by_event),
        ("run:other:1", _by_end),
    ],
)


@on_event_loops
class Waits(Suite):
    """Runs that have left memory."""

    async def test_a_run_that_waits_belongs_to_no_runner(self, journal: Journal) -> None:
        key = await start(journal)
        waits = (Wait("flow/1", "signal:run:go", 150.0), Wait("flow/2", "", 140.0))
        await journal.suspend(key, waits, 110.0)
        found = await find(journal, "run")
        assert (found.status, found.updated, found.is_claimed) == ("waiting", 110.0, False)
        assert found.waits == waits
        assert await claim(journal, now=139.0) == Claimed([], 140.0)
        assert await claimed(journal, now=140.0) == ["run"]

    async def test_whoever_asks_first_executes_what_was_woken(
        self, two: tuple[Journal, Journal]
    ) -> None:
        key = await start(two[0])
        await two[0].suspend(key, [Wait("flow", "", 110.0)], 105.0)
        assert await claimed(two[1]) == ["run"]
        assert await claimed(two[0]) == []

    async def test_runs_that_end_at_once_wake_each_those_that_wait_for_it(
        self, journal: Journal
    ) -> None:
        ending = [await start(journal, f"ends {number}") for number in range(20)]
        for number, key in enumerate(ending):
            assert await journal.acquire("cart", str(number), record(key), 110.0)
            for topic in (f"run:ends {number}", f"entity:cart:{number}"):
                waiting = await start(journal, topic)
                if topic.startswith("entity:"):
                    assert not await journal.acquire("cart", str(number), record(waiting), 110.0)
                await journal.suspend(waiting, [forever(topic)], 110.0)
        either = await start(journal, "either")
        waits = [forever("run:ends 7"), forever("run:ends 3")]
        await journal.suspend(either, waits, 110.0)
        async with anyio.create_task_group() as tasks:
            for number, key in enumerate(ending):
                tasks.start_soon(journal.finish, key, "completed", b"", [], 120.0 + number)
        assert set(await claimed(journal, now=123.0)) == {"either"} | {
            topic for n in range(4) for topic in (f"run:ends {n}", f"entity:cart:{n}")
        }
        assert len(await claimed(journal, now=140.0)) == 2 * 16

    async def test_a_run_that_nothing_wakes_waits(self, journal: Journal) -> None:
        key = await start(journal)
        await journal.suspend(key, [forever("signal:run:go")], 110.0)
        assert await claim(journal, now=1e9) == Claimed([], None)

    async def test_only_a_run_that_is_executed_can_wait(self, journal: Journal) -> None:
        key = await start(journal)
        await journal.suspend(key, [], 110.0)
        with pytest.raises(JournalError):
            await journal.suspend(key, [], 110.0)
        with pytest.raises(JournalError):
            await journal.suspend(99, [], 110.0)

    @_WAYS
    async def test_news_wake_those_that_wait_for_them(
        self, journal: Journal, topic: str, wake: Wake
    ) -> None:
        await start(journal, "other:1", "elsewhere")
        for name, what in {"a": topic, "b": topic, "c": f"{topic}!", "d": "", "e": "odd"}.items():
            await journal.suspend(await start(journal, name), [forever(what)], 110.0)
        if topic.startswith("run:"):
            # Another run, which is not there, is no wait.
            assert await claimed(journal) == ["c"]
        assert await claimed(journal) == []
        await wake(journal)
        assert await claimed(journal, now=119.0) == []
        assert await claimed(journal, now=120.0) == ["a", "b"]

    @_WAYS
    async def test_news_that_were_there_before_are_not_waited_for(
        self, journal: Journal, topic: str, wake: Wake
    ) -> None:
        await start(journal, "other:1", "elsewhere")
        await wake(journal)
        await journal.suspend(await start(journal), [forever("x"), forever(topic)], 130.0)
        assert await claimed(journal, now=130.0) == ["run"]

    async def test_a_signal_wakes_the_run_that_it_is_for(self, journal: Journal) -> None:
        for name in ("run", "other"):
            await journal.suspend(await start(journal, name), [forever(f"signal:{name}:go")], 105.0)
        assert await journal.send("run", "stop", b"", None, 110.0) == "waiting"
        assert await claimed(journal) == []
        assert await journal.send("run", "go", b"", None, 110.0) == "waiting"
        assert await claimed(journal, now=109.0) == []
        assert await claimed(journal, now=110.0) == ["run"]

    async def test_a_signal_that_is_there_already_is_not_waited_for(self, journal: Journal) -> None:
        key = await start(journal)
        assert await journal.send("run", "go", b"", None, 105.0) == "running"
        await journal.suspend(key, [forever("signal:run:go")], 110.0)
        assert await claimed(journal, now=110.0) == ["run"]

    async def test_a_signal_that_was_received_is_waited_for_again(self, journal: Journal) -> None:
        key = await start(journal)
        await journal.send("run", "go", b"", "id", 105.0)
        assert await journal.receive(key, "go", "flow/1") == b""
        await journal.suspend(key, [forever("signal:run:go")], 110.0)
        assert await claimed(journal) == []

    async def test_a_wake_never_delays_what_is_due_before(self, journal: Journal) -> None:
        key = await start(journal)
        await journal.suspend(key, [Wait("flow", "signal:run:go", 105.0)], 101.0)
        await journal.send("run", "go", b"", None, 150.0)
        assert await claimed(journal, now=105.0) == ["run"]

    async def test_a_run_that_waits_in_line_is_not_woken_again(self, journal: Journal) -> None:
        none = [QueueLimits("mail", max_concurrent=0)]
        await start(journal, queue="mail")
        ((run, _),) = (await claim(journal)).runs
        await journal.suspend(run.key, [forever("signal:run:go")], 205.0)
        await journal.send("run", "go", b"", None, 210.0)
        assert await claim(journal, queues=none, now=210.0) == Claimed([], None)
        await journal.send("run", "go", b"", None, 220.0)
        assert await claim(journal, queues=none, now=220.0) == Claimed([], None)
        assert await claimed(journal, now=220.0) == ["run"]


@on_event_loops
class Cancelling(Suite):
    """Runs that are asked to stop."""

    async def test_a_run_that_is_executed_is_asked_to_stop(
        self, two: tuple[Journal, Journal]
    ) -> None:
        first, second = two
        await start(first)
        await start(first, "other")
        assert await second.cancel("run", 110.0)
        assert await first.cancelled() == ["run"]
        assert await second.cancelled() == []
        assert (await find(first, "run")).is_cancelled
        assert await claimed(first) == []

    async def test_a_run_that_has_ended_is_not_cancelled(self, journal: Journal) -> None:
        key = await start(journal)
        await journal.finish(key, "cancelled", b"", [], 110.0)
        assert not await journal.cancel("run", 120.0)
        assert not await journal.cancel("none", 120.0)
        assert await journal.cancelled() == []

    async def test_a_waiting_run_is_woken(self, journal: Journal) -> None:
        key = await start(journal)
        await journal.suspend(key, [forever("signal:run:go")], 110.0)
        assert await journal.cancel("run", 120.0)
        ((run, _),) = (await claim(journal, now=120.0)).runs
        assert run.is_cancelled
        assert await journal.cancelled() == ["run"]

    async def test_a_queued_run_is_woken(self, journal: Journal) -> None:
        await start(journal, due=1e9)
        assert await journal.cancel("run", 120.0)
        assert await claimed(journal, now=120.0) == ["run"]

    async def test_a_run_that_was_asked_to_stop_meanwhile_does_not_wait(
        self, journal: Journal
    ) -> None:
        key = await start(journal)
        await journal.cancel("run", 105.0)
        await journal.suspend(key, [forever("signal:run:go")], 110.0)
        assert await claimed(journal, now=110.0) == ["run"]
