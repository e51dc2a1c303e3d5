"""A run's timeline in the dashboard: a bar for each node and attempt, at its real time."""

import re
from datetime import UTC, datetime

import pytest
import shop

from plait import (
    ConditionalPrimitive,
    FallbackPrimitive,
    MapPrimitive,
    ParallelPrimitive,
    RetryPrimitive,
    RouterPrimitive,
    step,
)
from plait.durable import DurableRunner
from plait.durable._timeline import Node, tree_of
from plait.primitives import Failure, Success
from plait.recovery import constant
from plait.server import Redaction
from plait.server._rows import timeline_of
from plait.server._scale import duration
from plait.server._shape import states_of


def node(path, began, ended, *children, state="done", order=1, outcome=None):
    label = re.split(r"[/#]", path)[-1]
    return Node(path, label, state, order, outcome, list(children), began, ended)


def drawn(root, now=100.0):
    return timeline_of(root, Redaction(), datetime.fromtimestamp(now, UTC))


def bars(timeline):
    return {row.label: (row.at, row.width) for row in timeline.rows}


def test_bars_lie_where_their_times_do():
    root = node("run", 0, 10, node("run/1:a", 0, 2.5), node("run/2:b", 2.5, 10, state="failed"))
    timeline = drawn(root)
    assert bars(timeline) == {"run": (0, 100), "1:a": (0, 25), "2:b": (25, 75)}
    assert [row.took for row in timeline.rows] == ["10 s", "2.5 s", "7.5 s"]
    assert timeline.rows[2].title == "00:00:02 UTC, 2.5 s after the start"
    assert [tick.text for tick in timeline.ticks] == ["0", "2 s", "4 s", "6 s", "8 s", "10 s"]
    assert timeline.cuts == []


def test_what_is_under_way_ends_now_and_what_has_not_begun_has_no_bar():
    root = node(
        "run", 0, None, node("run/1:a", 10, None, state="running"), node("run/2:b", None, None)
    )
    timeline = drawn(root, now=20)
    assert bars(timeline) == {"run": (0, 100), "1:a": (50, 50), "2:b": (None, 0)}
    assert timeline.rows[2].title == "not begun"


def test_a_long_wait_is_drawn_shorter_than_it_was():
    wait = node("run/2:approval", 2, 3602, node("run/2:approval#signal:ok", 2, 3602), order=None)
    root = node("run", 0, 3604, node("run/1:a", 0, 2), wait, node("run/3:b", 3602, 3604))
    timeline = drawn(root)
    (cut,) = timeline.cuts
    assert (cut.text, cut.has_room) == ("1 h", True)
    # All that was executed, 4 s, and the wait as a fifth of that.
    assert bars(timeline)["1:a"] == (0, pytest.approx(100 * 2 / 4.8, abs=0.01))
    assert bars(timeline)["2:approval"] == pytest.approx((41.67, 16.67), abs=0.01)
    assert bars(timeline)["3:b"] == pytest.approx((58.33, 41.67), abs=0.01)
    assert [tick.text for tick in timeline.ticks] == ["0", "1 h"]
    pauses = {row.label for row in timeline.rows if row.is_wait}
    assert pauses == {"2:approval", "signal:ok"}


def test_an_attempt_that_sleeps_until_the_next_is_not_idle_while_it_is_executed():
    attempt = node("run/attempt 1", 0, 3, node("run/attempt 1#sleep", 3, 4), state="handled")
    parallel = node("run/attempt 2", 2, 5)
    assert drawn(node("run", 0, 5, attempt, parallel)).cuts == []


def test_a_wait_that_has_not_begun_is_no_break_in_what_is_executed():
    begun, to_come = node("run#sleep", 1, 9), node("run#signal:ok", None, None, state="waiting")
    one, both = (drawn(node("run", 0, 10, *waits)) for waits in ([begun], [begun, to_come]))
    assert [cut.text for cut in both.cuts] == [cut.text for cut in one.cuts] == ["8 s"]


def test_where_nothing_was_executed_nothing_is_cut():
    sleeping = node("run", 0, None, node("run#sleep", 0, None, state="waiting"), state="waiting")
    timeline = drawn(sleeping, now=50)
    assert bars(timeline)["sleep"] == (0, 100)
    begun = drawn(node("run", None, None), now=50)
    assert ([tick.text for tick in begun.ticks], bars(begun)) == (["0"], {"run": (None, 0)})


def test_of_many_nodes_the_first_and_last_are_shown_and_those_that_failed():
    many = [
        node(f"run/{n}:x", n, n + 1, state="failed" if n == 70 else "done") for n in range(1, 101)
    ]
    rows = drawn(node("run", 0, 101, *many)).rows
    labels = [row.label for row in rows]
    assert labels[:3] == ["run", "1:x", "2:x"]
    assert labels[11:14] == ["59 more", "70:x", "5 more"]
    assert labels[-1] == "100:x"
    assert len([it for it in drawn(node("run", 0, 9, *many[:44])).rows if not it.state]) == 0
    wide = [
        node(f"run/{n}:w", n, n + 1, *(node(f"run/{n}:w/{k}:x", n, n) for k in range(35)))
        for n in range(40)
    ]
    assert drawn(node("run", 0, 101, *wide)).rows[-1].label == "more than can be shown here"


def test_what_came_of_a_node_is_told_without_what_is_hidden():
    told = node("run", 0, 1, outcome=Success({"user": "ada", "password": "x"}))
    assert drawn(told).rows[0].result == {"user": "ada", "password": "[hidden]"}
    until = datetime(2026, 1, 1, tzinfo=UTC)
    slept = node("run", 0, 1, node("run#sleep", 0, 1, outcome=Success(until)))
    assert drawn(slept).rows[1].result is until
    failed = node("run", 0, 1, outcome=Failure(ValueError("no")), state="failed")
    assert drawn(failed).rows[0].error.message == "no"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.25, "250 ms"),
        (1, "1 s"),
        (2.46, "2.5 s"),
        (42.4, "42 s"),
        (59.8, "1 min"),
        (93, "1 min 33 s"),
        (3600, "1 h"),
        (3725, "1 h 2 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_lengths_of_time_are_told_for_people(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "ticks"),
    [
        (0.004, ["0", "1 ms", "2 ms", "3 ms", "4 ms"]),
        (45, ["0", "10 s", "20 s", "30 s", "45 s"]),
        (240, ["0", "1 min", "2 min", "3 min", "4 min"]),
        (5 * 3600, ["0", "1 h", "2 h", "3 h", "4 h", "5 h"]),
        (20 * 86_400, ["0", "4 d", "8 d", "12 d", "16 d", "20 d"]),
    ],
)
def test_the_axis_counts_in_round_numbers(seconds, ticks):
    timeline = drawn(node("run", 0, seconds, node("run/1:a", 0, seconds)))
    assert [tick.text for tick in timeline.ticks] == ticks


@step
async def small(number: int) -> int:
    return number


@step
async def odd(number: int) -> int:
    raise ValueError(number)


def route(number, _):
    return "a" if number < 9 else "b"


FLOW = (
    small
    >> ParallelPrimitive(
        (small, FallbackPrimitive(RetryPrimitive(odd, 1, backoff=constant(0)), [small]))
    )
    >> step(sum)
    >> ConditionalPrimitive(lambda number, _: number > 1, small, odd)
    >> RouterPrimitive({"a": small, "b": odd}, route)
    >> ParallelPrimitive({"x": small, "y": step(str)})
    >> step(list)
    >> MapPrimitive(step(str.upper))
)


@pytest.mark.anyio
async def test_the_shape_shows_what_became_of_each_part(tmp_path):
    flow = FLOW.named("flow")
    async with DurableRunner(f"sqlite:///{tmp_path}/runs.db", workflows=[flow]) as runner:
        await runner.run(flow, 2, run_id="r")
        states = states_of(flow, await tree_of(runner, "r"))
    assert states[()] == "done"
    assert (states[1, 0], states[1, 1, 0, 0], states[1, 1, 1]) == ("done", "handled", "done")
    taken = [place for place, state in states.items() if state == "done"]
    assert (3, 1) in taken
    assert (3, 2) not in states
    assert (4, 1) in taken
    assert {(5, 0), (5, 1), (7, 0)} <= set(taken)
    assert states_of(shop.double, node("run", 0, 1, node("run/9:gone", 0, 1)))[()] == "done"


@pytest.mark.anyio
async def test_a_page_draws_a_bar_for_each_node_and_attempt(serving):
    async with serving() as site:
        await site.runner.run(shop.accounts, "ada", run_id="a")
        page = (await site.client.get("/runs/a")).text
        rows = re.findall(r'<tr class="(\w+)[^"]*">.*?</tr>', page, re.DOTALL)
        assert page.count('class="fill"') == len(rows)
        assert {"done", "handled"} == set(rows)
        assert "style=" not in page
        told = (await site.client.get("/api/runs/a/nodes")).json()
        first = told["children"][0]
        assert first["began_at"] <= first["ended_at"]
        assert first["children"][1]["attempt"] == 2
