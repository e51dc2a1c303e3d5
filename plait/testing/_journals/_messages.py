"""Signals and events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plait.durable import JournalError
from plait.testing._journals._suite import Suite, on_event_loops
from plait.testing._journals._terms import find, record, start

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
