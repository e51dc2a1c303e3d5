"""A run's nodes as a tree with a bar for the time of each."""

import anyio
import pytest

from plait import MockPrimitive, step
from plait.observability import Timing, render_timeline, timings_of

pytestmark = pytest.mark.anyio


def test_nodes_are_below_their_parents_with_a_bar_each():
    nodes = [
        Timing("orders/2:lines[1]", 3, 4.0),
        Timing("orders/2:lines[0]", 2, 3),
        Timing("orders", 0, 4),
        Timing("orders/1:charge", 0, 2, "failed"),
        Timing("orders/1:charge/attempt 1", 0, 0.0004, "failed"),
        Timing("orders/1:charge/attempt 2", 1, None, "running"),
        Timing("orders/2:lines", 2, 4, "cancelled"),
    ]
    assert render_timeline(nodes, width=8).splitlines() == [
        "  orders        |########| 4.00 s",
        "!   1:charge    |####    | 2.00 s",
        "!     attempt 1 |#       | 400 us",
        ">     attempt 2 |  ######| running",
        "~   2:lines     |    ####| 2.00 s",
        "      [0]       |    ##  | 1.00 s",
        "      [1]       |      ##| 1.00 s",
    ]


def test_a_node_whose_parent_is_missing_is_below_the_nearest_one():
    nodes = [Timing("w", 0, 1), Timing("w/2:lines[3]/1:pack", 0, 0.5), Timing("other", 0, 1)]
    names = [line.split("|")[0].rstrip() for line in render_timeline(nodes).splitlines()]
    assert names == ["  other", "  w", "    2:lines[3]/1:pack"]


def test_nodes_of_no_length_have_a_mark_each():
    assert render_timeline([Timing("w", 1, 1)], width=4) == "  w |#   | 0 us"


@pytest.mark.parametrize(
    ("seconds", "took"), [(59, "59.00 s"), (90, "1.5 min"), (5400, "1.5 h"), (129600, "1.5 days")]
)
def test_long_times_are_in_units_that_people_count_in(seconds, took):
    assert render_timeline([Timing("w", 0, seconds)], width=4) == f"  w |####| {took}"


@pytest.mark.parametrize(("nodes", "width"), [([], 40), ([Timing("w", 0, 1)], 0)])
def test_nothing_to_show_and_no_room_to_show_it_are_refused(nodes, width):
    with pytest.raises(ValueError, match="at least one node and a width of 1"):
        render_timeline(nodes, width=width)


async def test_the_times_are_those_of_spans(spans, provider):
    @step
    async def forever(_):
        with provider.get_tracer("database").start_as_current_span("SELECT"):
            await anyio.sleep_forever()

    with pytest.raises(OSError, match="down"):
        await (forever | MockPrimitive("broken", side_effect=OSError("down"))).named("w")(1)
    timings = {timing.path: timing for timing in timings_of(spans())}
    assert {path: timing.state for path, timing in timings.items()} == {
        "w": "failed",
        "w/1:forever": "cancelled",
        "w/2:broken": "failed",
    }
    assert timings["w"].started <= timings["w/1:forever"].started <= timings["w/1:forever"].ended
    assert len(render_timeline(timings.values()).splitlines()) == 3
