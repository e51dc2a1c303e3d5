"""A run's nodes as the lines of its timeline: where each bar lies, and what is said beside it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from plait.primitives import Failure, Success
from plait.server._models import error_view
from plait.server._scale import Cut, Scale, Tick, duration, is_group, is_wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plait.durable._timeline import Node
    from plait.server._models import ErrorView
    from plait.server._values import Redaction

_DEEPEST = 12
_FIRST, _LAST, _SPARED, _MOST = 10, 25, 10, 1000
"""How many of many nodes are shown, how many are worth a line that leaves them out, and in all."""
_NOTABLE = ("failed", "running", "waiting")


class Row(NamedTuple):
    """A line of a run's timeline.

    Attributes:
        label: The node's label; how many nodes are left out, where it stands for those.
        path: Its path.
        state: What became of it; empty for nodes that are left out.
        depth: How far it is indented.
        at: Where its bar begins, of 100; None where it has none.
        width: How long its bar is.
        took: How long it took, as text.
        title: When it began, in words.
        is_group: Whether there are nodes below it.
        is_wait: Whether it only lets time pass, or waits for others.
        result: What it returned, as it may be shown.
        has_result: Whether it returned anything.
        error: Why it failed, where it did.
    """

    label: str
    path: str = ""
    state: str = ""
    depth: int = 0
    at: float | None = None
    width: float = 0.0
    took: str = ""
    title: str = ""
    is_group: bool = False
    is_wait: bool = False
    result: Any = None
    has_result: bool = False
    error: ErrorView | None = None


@dataclass(eq=False)
class Timeline:
    """A run's timeline.

    Attributes:
        rows: Its lines.
        ticks: Its axis.
        cuts: What is not drawn as long as it was.
    """

    rows: list[Row]
    ticks: list[Tick]
    cuts: list[Cut]


def timeline_of(root: Node, redaction: Redaction, now: datetime) -> Timeline:
    """The timeline of a run.

    Args:
        root: The run's nodes.
        redaction: What is not shown.
        now: Where the bars of what is under way end.
    """
    scale = Scale(root, now.timestamp())
    rows: list[Row] = []
    for node, depth, left_out in _shown(root, 0):
        if len(rows) == _MOST:
            rows.append(Row("more than can be shown here"))
            break
        if left_out:
            rows.append(Row(f"{left_out:,} more", depth=min(depth, _DEEPEST)))
        else:
            rows.append(_row(node, depth, scale, redaction))
    return Timeline(rows, list(scale.ticks()), scale.cuts)


def _shown(node: Node, depth: int) -> Iterator[tuple[Node, int, int]]:
    """A node and those below it, with their depths; how many are left out, in place of those."""
    # No recursion: a tree may be deeper than the stack.
    left = [(node, depth, 0)]
    while left:
        current, depth, left_out = left.pop()
        yield current, depth, left_out
        if not left_out:
            below = [(it, depth + 1, out) for it, out in _few(current.children)]
            left += reversed(below)


def _few(nodes: list[Node]) -> Iterator[tuple[Node, int]]:
    """The first and last of many nodes, and those that somebody looks for."""
    hidden = 0
    last = len(nodes) - _LAST
    is_long = last - _FIRST >= _SPARED
    for index, node in enumerate(nodes):
        is_shown = not is_long or not _FIRST <= index < last or node.state in _NOTABLE
        if is_shown and hidden:
            yield node, hidden
            hidden = 0
        if is_shown:
            yield node, 0
        else:
            hidden += 1


def _row(node: Node, depth: int, scale: Scale, redaction: Redaction) -> Row:
    at, width, took, title = None, 0.0, "", "not begun"
    if node.began is not None:
        until = scale.until(node)
        at = round(scale.place(node.began), 2)
        width = round(scale.place(until) - scale.place(node.began), 2)
        took = duration(max(0.0, until - node.began))
        when = datetime.fromtimestamp(node.began, UTC)
        after = duration(max(0.0, scale.offset(node.began)))
        title = f"{when:%H:%M:%S} UTC, {after} after the start"
    result = error = None
    has_result = False
    match node.outcome:
        case Success(value):
            has_result = True
            is_time = isinstance(value, datetime) and is_wait(node)
            result = value if is_time else redaction.of_value(value)
        case Failure(raised):
            error = error_view(raised, redaction)
        case _:
            pass
    return Row(
        label=node.label,
        path=node.path,
        state=node.state,
        depth=min(depth, _DEEPEST),
        at=at,
        width=width,
        took=took,
        title=title,
        is_group=is_group(node),
        is_wait=is_wait(node) or _only_waits(node),
        result=result,
        has_result=has_result,
        error=error,
    )


def _only_waits(node: Node) -> bool:
    return node.order is None and bool(node.children) and not is_group(node)
