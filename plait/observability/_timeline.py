"""A run's nodes as a tree with a bar for the time of each, for a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

State: TypeAlias = Literal["completed", "failed", "cancelled", "running"]

_MARKS = {"completed": " ", "failed": "!", "cancelled": "~", "running": ">"}


@dataclass(frozen=True, slots=True)
class Timing:
    """When a node began and ended.

    Attributes:
        path: The node's path.
        started: When it began, in seconds on any clock.
        ended: When it ended on the same clock; None where it has not.
        state: How it ended.
    """

    path: str
    started: float
    ended: float | None = None
    state: State = "completed"


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

    A failed node is marked "!", a cancelled one "~", one that is still executed ">".

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
    nodes = sorted(timings, key=lambda node: (node.started, node.path.count("/"), node.path))
    if not nodes or width < 1:
        msg = f"a timeline needs at least one node and a width of 1, got {len(nodes)} and {width}"
        raise ValueError(msg)
    begin = nodes[0].started
    end = max(node.started if node.ended is None else node.ended for node in nodes)
    scale = width / (end - begin) if end > begin else 0.0
    rows = [
        (node, f"{'  ' * depth}{_name(node, parent)}") for node, parent, depth in _in_order(nodes)
    ]
    widest = max(len(name) for _, name in rows)
    lines: list[str] = []
    for node, name in rows:
        until = end if node.ended is None else node.ended
        first = min(int((node.started - begin) * scale), width - 1)
        last = max(first + 1, round((until - begin) * scale))
        bar = " " * first + "#" * (last - first)
        took = "running" if node.ended is None else _took(node.ended - node.started)
        lines.append(f"{_MARKS[node.state]} {name:<{widest}} |{bar:<{width}}| {took}")
    return "\n".join(lines)


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
        if path[end] in "/[" and path[:end] in paths:
            return path[:end]
    return ""


def _name(node: Timing, parent: str) -> str:
    return node.path.removeprefix(parent).removeprefix("/")


def _took(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
