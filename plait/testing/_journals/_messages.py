"""Signals, events, and entities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plait.durable import JournalError
from plait.testing._journals._suite import Suite, on_event_loops
from plait.testing._journals._terms import find, forever, record, start

if TYPE_CHECKING:
    from plait.durable import Journal


@on_event_loops
class Signals(Suite):
    """What runs are sent."""

    async def test_signals_are_received_in_order_and_once(self, journal: Journal) -> None:
        key = await start(journal)
        for payload in (b"1", b"2"):
            await journal.send("run", "go", payload, None, 110.0)
        await journal.send("run", "stop", b"3", None, 110.0)
        assert await journal.receive(key, "go", "flow/1") == b"1"
        assert await journal.receive(key, "go", "flow/2") == b"2"
        assert await journal.receive(key, "go", "flow/3") is None
        assert await journal.records(key) == [
            record(key, "flow/1", b"1"),
            record(key, "flow/2", b"2"),
        ]

    async def test_a_signal_with_an_id_is_kept_once(self, journal: Journal) -> None:
        key = await start(journal)
        await start(journal, "other")
        for payload in (b"1", b"2"):
            assert await journal.send("run", "go", payload, "id", 110.0) == "running"
        assert await journal.receive(key, "go", "flow/1") == b"1"
        await journal.send("run", "go", b"3", "id", 120.0)
        assert await journal.receive(key, "go", "flow/2") is None
        await journal.send("other", "go", b"4", "id", 120.0)
        other = (await find(journal, "other")).key
        assert await journal.receive(other, "go", "flow") == b"4"

    async def test_no_signal_goes_to_a_run_that_is_not_there_or_has_ended(
        self, journal: Journal
    ) -> None:
        assert await journal.send("run", "go", b"", None, 110.0) is None
        key = await start(journal)
        await journal.finish(key, "failed", b"", [], 120.0)
        assert await journal.send("run", "go", b"", None, 130.0) == "failed"
        await journal.reopen(key, 140.0)
        assert await journal.receive(key, "go", "flow") is None


@on_event_loops
class Events(Suite):
    """What runs publish."""

    async def test_an_event_is_what_was_set_last(self, journal: Journal) -> None:
        key = await start(journal)
        assert await journal.event("run", "ready") is None
        for n in (b"1", b"2"):
            await journal.set_event(record(key, "flow/1", n, data=b"x"), "ready", 110.0)
        assert await journal.event("run", "ready") == b"2"
        assert await journal.event("run", "done") is None
        assert await journal.event("other", "ready") is None
        assert [found.payload for found in await journal.records(key)] == [b"1", b"2"]

    async def test_only_a_run_sets_events(self, journal: Journal) -> None:
        with pytest.raises(JournalError):
            await journal.set_event(record(99), "ready", 110.0)


@on_event_loops
class Entities(Suite):
    """What one run at a time has."""

    async def test_one_run_has_an_entity_at_a_time(self, journal: Journal) -> None:
        first, second = await start(journal, "1"), await start(journal, "2")
        assert await journal.acquire("cart", "a", record(first, "flow/1", b"?")) == (b"",)
        assert await journal.acquire("cart", "a", record(second)) is None
        assert await journal.acquire("cart", "b", record(second)) == (b"",)
        assert await journal.acquire("cart", "a", record(first, "flow/2")) == (b"",)
        await journal.release("cart", "a", b"state", record(first, "flow/3", b"!"), 120.0)
        assert await journal.acquire("cart", "a", record(second, "flow/2")) == (b"state",)
        assert await journal.records(first) == [
            record(first, "flow/1", b""),
            record(first, "flow/2", b""),
            record(first, "flow/3", b"!"),
        ]
        assert (await journal.records(second))[-1] == record(second, "flow/2", b"state")

    async def test_an_entity_keeps_its_state_where_none_is_given(self, journal: Journal) -> None:
        key = await start(journal)
        await journal.acquire("cart", "a", record(key))
        await journal.release("cart", "a", b"1", record(key), 110.0)
        await journal.acquire("cart", "a", record(key))
        await journal.release("cart", "a", None, record(key), 110.0)
        assert await journal.acquire("cart", "a", record(key)) == (b"1",)

    async def test_what_a_run_does_not_have_it_cannot_let_go(self, journal: Journal) -> None:
        first, second = await start(journal, "1"), await start(journal, "2")
        await journal.acquire("cart", "a", record(first))
        for name in "ab":
            with pytest.raises(JournalError):
                await journal.release("cart", name, b"no", record(second, "flow/9"), 110.0)
        assert await journal.records(second) == []
        await journal.finish(first, "completed", b"", [], 120.0)
        assert await journal.acquire("cart", "a", record(second)) == (b"",)

    async def test_a_run_keeps_its_entities_while_it_waits(self, journal: Journal) -> None:
        first, second = await start(journal, "1"), await start(journal, "2")
        await journal.acquire("cart", "a", record(first))
        await journal.suspend(first, [forever("signal:1:go")], 110.0)
        assert await journal.acquire("cart", "a", record(second)) is None
