"""A run's nodes as a tree with a bar for the time of each, for a terminal."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.sdk.trace import ReadableSpan

State: TypeAlias = Literal["completed", "failed", "handled", "cancelled", "running", "waiting"]
"""Handled: it failed, and the run went on. The others are as their names say."""

_MARKS = {
    "completed": " ",
    "failed": "!",
    "handled": "?",
    "cancelled": "~",
    "running": ">",
    "waiting": ">",
}
_SEPARATORS = "/[#"
# A wait of imperative code is told by the number of the call before it.
_BEFORE_NAME = re.compile(r"/?(\d+(~\d+)?)?#|/")


@dataclass(frozen=True, slots=True)
class Timing:
    """When a node began and ended.

    Attributes:
        path: The node's path.
        started: When it began, in seconds on any clock.
        ended: When it ended on the same clock; None where it has not.
        state: How it ended, or how far it has come.
    """

    path: str
    started: float
    ended: float | None = None
    state: State = "completed"


@dataclass(frozen=True, slots=True)
class Row:
    """A node as a line of a timeline.

    Attributes:
        node: The node.
        name: The last part of its path, indented by how deep it lies.
        before: How many characters there are before its bar.
        length: How many the bar has.
        took: How long it took.
    """

    node: Timing
    name: str
    before: int
    length: int
    took: str


def timings_of(spans: Iterable[ReadableSpan]) -> list[Timing]:
    """When the nodes of runs began and ended, by their finished spans.

    Args:
        spans: Spans, such as an `InMemorySpanExporter` has; those that are no nodes are left out.
    """
    timings: list[Timing] = []
    for span in spans:
        attributes = span.attributes or {}
        if "plait.path" not in attributes or span.start_time is None:
            continue
        state: State = "cancelled" if "plait.cancelled" in attributes else "completed"
        timings.append(
            Timing(
                path=str(attributes["plait.path"]),
                started=span.start_time / 1e9,
                ended=None if span.end_time is None else span.end_time / 1e9,
                state=state if span.status.is_ok else "failed",
            )
        )
    return timings


def render_timeline(timings: Iterable[Timing], *, width: int = 40) -> str:
    """The nodes of a run as a tree, each with a bar where and how long it was executed.

    A failed node is marked "!" ("?" where the run went on all the same), a cancelled one "~", one
    that has not ended ">".

    Args:
        timings: The nodes of one run, in any order.
        width: How long the bar of the whole run is, in characters.

    Raises:
        ValueError: There is no node, or no room for a bar.

    Example:
        >>> from plait.observability import Timing, render_timeline
        >>> nodes = [
        ...     Timing("orders", 0.0, 2.0),
        ...     Timing("orders/1:reserve", 0.0, 0.5),
        ...     Timing("orders/2:charge", 0.5, 2.0, state="failed"),
        ... ]
        >>> print(render_timeline(nodes, width=20))
          orders      |####################| 2.00 s
            1:reserve |#####               | 500 ms
        !   2:charge  |     ###############| 1.50 s
    """
    rows = lay_out(timings, width)
    widest = max(len(row.name) for row in rows)
    return "\n".join(
        f"{_MARKS[row.node.state]} {row.name:<{widest}} "
        f"|{' ' * row.before}{'#' * row.length:<{width - row.before}}| {row.took}"
        for row in rows
    )


def lay_out(timings: Iterable[Timing], width: int, now: float | None = None) -> list[Row]:
    """Where the bar of each node stands.

    Args:
        timings: The nodes of one run, in any order.
        width: How long the bar of the whole run is, in characters.
        now: Up to when those that have not ended have come; the last time that is known by default.

    Raises:
        ValueError: There is no node, or no room for a bar.
    """
    nodes = sorted(timings, key=lambda node: (node.started, node.path.count("/"), node.path))
    if not nodes or width < 1:
        msg = f"a timeline needs at least one node and a width of 1, got {len(nodes)} and {width}"
        raise ValueError(msg)
    begin = nodes[0].started
    end = max(node.started if node.ended is None else node.ended for node in nodes)
    if now is not None and any(node.ended is None for node in nodes):
        end = max(end, now)
    scale = width / (end - begin) if end > begin else 0.0
    rows: list[Row] = []
    for node, parent, depth in _in_order(nodes):
        until = end if node.ended is None else node.ended
        first = min(int((node.started - begin) * scale), width - 1)
        last = max(first + 1, round((until - begin) * scale))
        took = node.state if node.ended is None else _took(node.ended - node.started)
        name = f"{'  ' * depth}{_name(node, parent)}"
        rows.append(Row(node, name, first, last - first, took))
    return rows


def _in_order(nodes: list[Timing]) -> list[tuple[Timing, str, int]]:
    """Each node below its parent, the earlier first: the node, its parent's path, its depth."""
    paths = {node.path for node in nodes}
    below: dict[str, list[Timing]] = {}
    for node in nodes:
        below.setdefault(_parent(node.path, paths), []).append(node)
    ordered: list[tuple[Timing, str, int]] = []
    # No recursion: a tree may be deeper than the stack.
    waiting = [(node, "", 0) for node in reversed(below[""])]
    while waiting:
        node, parent, depth = waiting.pop()
        ordered.append((node, parent, depth))
        children = below.pop(node.path, [])
        waiting += [(child, node.path, depth + 1) for child in reversed(children)]
    return ordered


def _parent(path: str, paths: set[str]) -> str:
    """The nearest node that a path is below; a node that was not finished may be missing."""
    for end in range(len(path) - 1, 0, -1):
        if path[end] in _SEPARATORS and path[:end] in paths:
            return path[:end]
    return ""


def _name(node: Timing, parent: str) -> str:
    before = _BEFORE_NAME.match(node.path, len(parent)) if parent else None
    return node.path[len(parent) :] if before is None else node.path[before.end() :]


_UNITS = (("days", 86400.0), ("h", 3600.0), ("min", 60.0))


def _took(seconds: float) -> str:
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
