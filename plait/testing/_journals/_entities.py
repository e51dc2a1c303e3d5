"""Entities, and the lines for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plait.durable import JournalError
from plait.durable._stored import QueueLimits
from plait.durable._turns import TURN_SECONDS, Turn
from plait.testing._journals._suite import Suite, on_event_loops
from plait.testing._journals._terms import claim, claimed, find, forever, record, start

if TYPE_CHECKING:
    from plait.durable import Journal

_CART = ("cart:1", "a:b")
_TOPIC = "entity:cart:1:a:b"


async def _acquire(journal: Journal, run: int, path: str = "flow", now: float = 110.0) -> bool:
    return await journal.acquire(*_CART, record(run, path), now) is not None


async def _release(journal: Journal, run: int, now: float = 120.0) -> Turn | None:
    return await journal.release(*_CART, None, record(run, "flow/9"), now)


async def _line(journal: Journal, *names: str) -> list[int]:
    """Runs of which the first has the entity, and the others wait for it in this order."""
    keys = [await start(journal, name) for name in names]
    for key in keys:
        assert await _acquire(journal, key) == (key == keys[0])
    return keys


async def _turns(journal: Journal, now: float) -> list[Turn]:
    return list((await claim(journal, now=now)).turns)


@on_event_loops
class Entities(Suite):
    """What one at a time has."""

    async def test_one_run_has_an_entity_at_a_time(self, journal: Journal) -> None:
        first, second = await start(journal, "1"), await start(journal, "2")
        assert await journal.acquire("cart", "a", record(first, "flow/1", b"?"), 110.0) == (b"",)
        assert await journal.acquire("cart", "a", record(second), 110.0) is None
        assert await journal.acquire("cart", "b", record(second), 110.0) == (b"",)
        await journal.release("cart", "a", b"state", record(first, "flow/3", b"!"), 120.0)
        assert await journal.acquire("cart", "a", record(second), 120.0) == (b"state",)
        assert await journal.records(first) == [
            record(first, "flow/1", b""),
            record(first, "flow/3", b"!"),
        ]
        assert (await journal.records(second))[-1] == record(second, "flow", b"state")

    async def test_an_entity_keeps_its_state_where_none_is_given(self, journal: Journal) -> None:
        key = await start(journal)
        await journal.acquire("cart", "a", record(key), 110.0)
        await journal.release("cart", "a", b"1", record(key), 110.0)
        await journal.acquire("cart", "a", record(key), 110.0)
        await journal.release("cart", "a", None, record(key), 110.0)
        assert await journal.acquire("cart", "a", record(key), 110.0) == (b"1",)

    async def test_what_a_run_does_not_have_it_cannot_let_go(self, journal: Journal) -> None:
        first, second = await start(journal, "1"), await start(journal, "2")
        await journal.acquire("cart", "a", record(first), 110.0)
        for name in "ab":
            with pytest.raises(JournalError):
                await journal.release("cart", name, b"no", record(second, "flow/9"), 110.0)
        assert await journal.records(second) == []
        await journal.finish(first, "completed", b"", [], 120.0)
        assert await journal.acquire("cart", "a", record(second), 120.0) == (b"",)

    async def test_a_run_keeps_its_entities_while_it_waits(self, journal: Journal) -> None:
        first, second = await start(journal, "1"), await start(journal, "2")
        assert await _acquire(journal, first)
        await journal.suspend(first, [forever("signal:1:go")], 110.0)
        assert not await _acquire(journal, second)

    async def test_to_a_run_that_has_it_another_wait_of_its_own_is_as_any(
        self, journal: Journal
    ) -> None:
        key = await start(journal)
        assert await _acquire(journal, key, "flow/1")
        assert not await _acquire(journal, key, "flow/2")
        assert await _release(journal, key) == Turn(key, "flow/2")
        assert await _acquire(journal, key, "flow/2", 120.0)


@on_event_loops
class Lines(Suite):
    """Who is next."""

    async def test_who_has_waited_longest_is_next(self, journal: Journal) -> None:
        first, second, third = await _line(journal, "1", "2", "3")
        # Asking again is no way to the front, nor to the end.
        for key in (third, second):
            assert not await _acquire(journal, key)
        for key, next_one in ((first, second), (second, third)):
            assert await _release(journal, key) == Turn(next_one, "flow")
            assert not await _acquire(journal, first, "flow/again", 120.0)
            assert await _acquire(journal, next_one, now=120.0)
        assert await _release(journal, third) == Turn(first, "flow/again")

    async def test_nobody_is_next_where_nobody_waits(self, journal: Journal) -> None:
        (key,) = await _line(journal, "1")
        assert await _release(journal, key) is None
        assert await _turns(journal, 120.0) == []

    async def test_keys_and_kinds_have_lines_of_their_own(self, journal: Journal) -> None:
        first, second = await start(journal, "1"), await start(journal, "2")
        for place in (("a", "b:c"), ("a:b", "c")):
            assert await journal.acquire(*place, record(first), 110.0)
        assert await journal.acquire("a", "b:c", record(second), 110.0) is None
        assert await journal.release("a:b", "c", None, record(first), 120.0) is None
        assert await journal.release("a", "b:c", None, record(first), 120.0) == (second, "flow")

    async def test_the_next_one_is_woken_and_the_others_are_not(self, journal: Journal) -> None:
        keys = await _line(journal, "1", "2", "3")
        for key in keys[1:]:
            await journal.suspend(key, [forever(_TOPIC)], 115.0)
        assert await claimed(journal, now=116.0) == []
        await _release(journal, keys[0])
        assert await claimed(journal, now=119.0) == []
        found = await claim(journal, now=120.0)
        assert [run.start.run_id for run, _ in found.runs] == ["2"]
        assert await _acquire(journal, keys[1], now=120.5)
        await journal.finish(keys[1], "failed", b"", [], 130.0)
        assert await claimed(journal, now=130.0) == ["3"]

    async def test_the_place_in_a_line_outlives_a_wait_out_of_memory(
        self, journal: Journal
    ) -> None:
        first, second, third = await _line(journal, "1", "2", "3")
        await journal.suspend(second, [forever(_TOPIC), forever("signal:2:go")], 115.0)
        await journal.send("2", "go", b"", None, 116.0)
        assert await claimed(journal, now=116.0) == ["2"]
        assert await _release(journal, first) == Turn(second, "flow")
        assert not await _acquire(journal, third, now=120.0)
        assert await _acquire(journal, second, now=120.0)

    async def test_whose_turn_it_is_by_then_does_not_wait(self, journal: Journal) -> None:
        first, second, third = await _line(journal, "1", "2", "3")
        await _release(journal, first)
        for key in (second, third):
            await journal.suspend(key, [forever(_TOPIC)], 121.0)
        assert await claimed(journal, now=121.0) == ["2"]

    async def test_who_does_not_stand_in_line_looks_for_itself(self, journal: Journal) -> None:
        key, other = await start(journal, "1"), await start(journal, "2")
        assert await _acquire(journal, other)
        await journal.suspend(key, [forever(_TOPIC)], 115.0)
        assert await claimed(journal, now=115.0) == ["1"]

    async def test_a_runner_is_told_of_the_turns_of_its_runs(
        self, two: tuple[Journal, Journal]
    ) -> None:
        first = await start(two[0], "1")
        second = await start(two[1], "2")
        assert await _acquire(two[0], first)
        assert not await _acquire(two[1], second)
        assert await _turns(two[1], 115.0) == []
        assert await _release(two[0], first) == Turn(second, "flow")
        assert await _turns(two[0], 120.0) == []
        assert await _turns(two[1], 120.0) == [Turn(second, "flow")]
        assert await _acquire(two[1], second, now=120.0)
        assert await _turns(two[1], 120.0) == []

    async def test_who_does_not_come_is_passed_over_and_keeps_its_place(
        self, journal: Journal
    ) -> None:
        keys = await _line(journal, "1", "2", "3", "4")
        first, second, third, fourth = keys
        await _release(journal, first)
        just_before, over = 120.0 + TURN_SECONDS * 0.9, 120.0 + TURN_SECONDS * 1.1
        assert await _turns(journal, just_before) == [Turn(second, "flow")]
        assert not await _acquire(journal, third, now=just_before)
        assert Turn(third, "flow") in await _turns(journal, over)
        assert await _acquire(journal, third, now=over)
        # It is told, as long as it does not ask, that it was its turn.
        assert await _turns(journal, over) == [Turn(second, "flow")]
        assert not await _acquire(journal, second, now=over)
        assert await _release(journal, third, over) == Turn(second, "flow")
        assert not await _acquire(journal, fourth, now=over)
        assert await _acquire(journal, second, now=over)

    async def test_who_was_passed_over_is_not_waited_for_again(self, journal: Journal) -> None:
        first, second, third, fourth = await _line(journal, "1", "2", "3", "4")
        await _release(journal, first)
        over = 121.0 + TURN_SECONDS
        await claim(journal, now=over)
        assert await _acquire(journal, third, now=over)
        assert await _release(journal, third, over) == Turn(fourth, "flow")
        await journal.suspend(second, [forever(_TOPIC)], over)
        assert await claimed(journal, now=over) == ["2"]

    async def test_where_all_were_passed_over_whoever_asks_gets_it(self, journal: Journal) -> None:
        first, second, third = await _line(journal, "1", "2", "3")
        await _release(journal, first)
        over = 121.0 + TURN_SECONDS
        assert set(await _turns(journal, over)) == {Turn(second, "flow"), Turn(third, "flow")}
        over += TURN_SECONDS
        assert await _acquire(journal, first, "flow/again", over)
        assert not await _acquire(journal, third, now=over)

    async def test_one_that_comes_late_gets_what_is_free(self, journal: Journal) -> None:
        first, second = await _line(journal, "1", "2")
        await _release(journal, first)
        assert await _acquire(journal, second, now=121.0 + TURN_SECONDS)

    async def test_one_that_comes_late_has_who_waits_longer_told(self, journal: Journal) -> None:
        first, second, third = await _line(journal, "1", "2", "3")
        await _release(journal, first)
        over = 121.0 + TURN_SECONDS
        assert not await _acquire(journal, third, now=120.0)
        assert not await _acquire(journal, first, "flow/again", over)
        assert await _acquire(journal, third, now=over)
        assert not await _acquire(journal, second, now=over)

    async def test_a_clock_that_was_set_back_keeps_nobody_waiting(self, journal: Journal) -> None:
        first, _, third = await _line(journal, "1", "2", "3")
        await _release(journal, first, 1e6)
        assert Turn(third, "flow") in await _turns(journal, 120.0)
        assert await _acquire(journal, third, now=120.0)

    async def test_one_whose_runner_has_gone_is_passed_over(
        self, two: tuple[Journal, Journal]
    ) -> None:
        gone = await start(two[0], "gone", "elsewhere")
        first, second = await start(two[1], "1"), await start(two[1], "2")
        assert await _acquire(two[1], first)
        assert not await _acquire(two[0], gone)
        assert not await _acquire(two[1], second)
        assert await _release(two[1], first) == Turn(gone, "flow")
        await two[0].close()
        try:
            over = 121.0 + TURN_SECONDS
            assert await _turns(two[1], over) == [Turn(second, "flow")]
            assert await _acquire(two[1], second, now=over)
            found = await claim(two[1], "elsewhere", now=over)
            assert list(found.turns) == [Turn(gone, "flow")]
        finally:
            await two[0].open()

    async def test_one_that_waits_for_room_is_passed_over(self, journal: Journal) -> None:
        full = [QueueLimits("mail", max_concurrent=0)]
        first, second = await start(journal, "1"), await start(journal, "2")
        await start(journal, "queued", queue="mail")
        ((queued, _),) = (await claim(journal)).runs
        assert await _acquire(journal, first)
        for key in (queued.key, second):
            assert not await _acquire(journal, key)
        await journal.suspend(queued.key, [forever(_TOPIC)], 115.0)
        assert await _release(journal, first) == Turn(queued.key, "flow")
        over = 121.0 + TURN_SECONDS
        found = await claim(journal, queues=full, now=over)
        assert (list(found.runs), list(found.turns)) == ([], [Turn(second, "flow")])

    async def test_who_gives_up_leaves_the_line(self, journal: Journal) -> None:
        first, second, third = await _line(journal, "1", "2", "3")
        assert await journal.withdraw(*_CART, Turn(second, "flow"), 115.0) is None
        assert await _release(journal, first) == Turn(third, "flow")
        assert await journal.withdraw(*_CART, Turn(third, "flow"), 120.0) is None
        assert await _acquire(journal, second, now=120.0)

    async def test_who_gives_up_when_it_is_its_turn_leaves_it_to_the_next(
        self, journal: Journal
    ) -> None:
        first, second, third = await _line(journal, "1", "2", "3")
        await _release(journal, first)
        next_one = await journal.withdraw(*_CART, Turn(second, "flow"), 120.0)
        assert next_one == Turn(third, "flow")
        assert await _acquire(journal, third, now=120.0)

    async def test_who_gives_up_what_it_has_by_then_leaves_it_to_the_next(
        self, journal: Journal
    ) -> None:
        first, second = await _line(journal, "1", "2")
        for other in (Turn(first, "flow/other"), Turn(second, "flow/other")):
            assert await journal.withdraw(*_CART, other, 115.0) is None
        assert not await _acquire(journal, second)
        next_one = await journal.withdraw(*_CART, Turn(first, "flow"), 115.0)
        assert next_one == Turn(second, "flow")
        assert await journal.withdraw(*_CART, Turn(first, "flow"), 115.0) is None
        assert await _acquire(journal, second, now=115.0)

    async def test_a_run_that_has_ended_stands_in_no_line(self, journal: Journal) -> None:
        first, second, third = await _line(journal, "1", "2", "3")
        assert not await _acquire(journal, second, "flow/too")
        await _release(journal, first)
        await journal.finish(second, "failed", b"", [], 120.0)
        assert await _turns(journal, 120.0) == [Turn(third, "flow")]
        await journal.finish(third, "completed", b"", [], 120.0)
        assert await _acquire(journal, (await find(journal, "1")).key, "flow/again", 120.0)
