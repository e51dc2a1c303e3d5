"""Runs that are carried on, or forked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plait.testing._journals._suite import Suite, on_event_loops
from plait.testing._journals._terms import DATA, ERROR, TIME, VALUE, find, new, paths, record, start

if TYPE_CHECKING:
    from plait.durable import Journal, RunStatus


@on_event_loops
class Reopening(Suite):
    """Runs that failed and go on."""

    @pytest.mark.parametrize("ended", ["failed", "cancelled"])
    async def test_a_run_goes_on_without_its_failures(
        self, journal: Journal, ended: RunStatus
    ) -> None:
        key = await start(journal)
        written = [
            record(key, "flow/1:a"),
            record(key, "flow/2:b", kind=ERROR),
            record(key, "flow/2:b#sleep", kind=TIME),
            record(key, "flow/2:b/timed#deadline", kind=TIME),
            record(key, "flow/2:b/1:done"),
            record(key, "flow/2:bb", kind=ERROR),
            record(key, "flow", kind=ERROR, data=b"data"),
        ]
        for each in written:
            await journal.append(each)
        await journal.cancel("run", 110.0)
        await journal.finish(key, ended, b"error", ["flow", "flow/2:b"], 120.0)
        assert await journal.reopen(key, 130.0)
        found = await find(journal, "run")
        assert (found.status, found.outcome, found.failures) == ("running", None, ())
        assert (found.is_claimed, found.is_cancelled, found.updated) == (True, False, 130.0)
        assert [(each.path, each.kind) for each in await journal.records(key)] == [
            ("flow/1:a", VALUE),
            ("flow/2:b#sleep", TIME),
            ("flow/2:b/1:done", VALUE),
            ("flow/2:bb", ERROR),
            ("flow", DATA),
        ]

    async def test_only_what_failed_is_reopened(self, journal: Journal) -> None:
        key = await start(journal)
        assert not await journal.reopen(key, 110.0)
        await journal.finish(key, "completed", b"", [], 120.0)
        assert not await journal.reopen(key, 130.0)
        assert not await journal.reopen(99, 130.0)


@on_event_loops
class Forks(Suite):
    """Copies of runs."""

    async def written(self, journal: Journal) -> int:
        key = await start(journal)
        for each in [
            record(key, "flow/1:a", b"1"),
            record(key, "flow/2:b/attempt 1", b"2", ERROR),
            record(key, "flow/2:b", b"3", ERROR),
            record(key, "flow", b"4", ERROR, data=b"data"),
            record(key, "flow/2:b#sleep", b"5", TIME),
            record(key, "flow/3:c", b"6"),
        ]:
            await journal.append(each)
        return key

    async def test_a_fork_has_all_that_was_recorded(self, journal: Journal) -> None:
        key = await self.written(journal)
        stored, is_new = await journal.fork(key, new("copy", created=300), None)
        assert is_new
        assert (stored.status, stored.start.run_id, stored.is_claimed) == ("running", "copy", True)
        copied = await journal.records(stored.key)
        assert [each._replace(run=key) for each in copied] == await journal.records(key)

    @pytest.mark.parametrize(
        ("before", "left"),
        [
            ("flow/1:a", []),
            ("flow/2:b", [("flow/1:a", VALUE)]),
            (
                "flow/3:c",
                [
                    ("flow/1:a", VALUE),
                    ("flow/2:b/attempt 1", ERROR),
                    ("flow/2:b", ERROR),
                    ("flow", DATA),
                    ("flow/2:b#sleep", TIME),
                ],
            ),
            (
                "flow/2:b/attempt 2",
                [
                    ("flow/1:a", VALUE),
                    ("flow/2:b/attempt 1", ERROR),
                    ("flow", DATA),
                    ("flow/2:b#sleep", TIME),
                    ("flow/3:c", VALUE),
                ],
            ),
        ],
    )
    async def test_a_fork_has_what_was_recorded_before_a_step(
        self, journal: Journal, before: str, left: list[tuple[str, int]]
    ) -> None:
        key = await self.written(journal)
        stored, _ = await journal.fork(key, new("copy"), before)
        assert [(each.path, each.kind) for each in await journal.records(stored.key)] == left

    async def test_a_fork_has_no_entity_that_the_other_run_has(self, journal: Journal) -> None:
        key = await start(journal)
        for name in "ab":
            taken = record(key, f"flow/#entity:list:{name}")
            assert await journal.acquire("list", name, taken, 110.0) is not None
        left = record(key, "flow/#entity:list:a#released")
        await journal.release("list", "a", b"state", left, 110.0)
        stored, _ = await journal.fork(key, new("copy"), None)
        had = ["flow/#entity:list:a", "flow/#entity:list:a#released"]
        assert await paths(journal, stored.key) == had
        assert len(await journal.records(key)) == 3

    async def test_a_run_is_forked_once(self, journal: Journal) -> None:
        key = await self.written(journal)
        await journal.fork(key, new("copy"), "flow/2:b")
        stored, is_new = await journal.fork(key, new("copy"), None)
        assert not is_new
        assert await paths(journal, stored.key) == ["flow/1:a"]
