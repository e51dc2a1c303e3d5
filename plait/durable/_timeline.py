"""What a run has done so far, as the tree of its nodes: for those who look at it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from plait.durable._journal import ENDED, Kind
from plait.durable._readable import readable
from plait.primitives import Failure, Outcome, Success

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from plait.durable._client import RunClient
    from plait.durable._codec import Codec
    from plait.durable._journal import Record, RunStatus, StoredRun

NodeState: TypeAlias = Literal["done", "failed", "handled", "cancelled", "running", "waiting"]
"""Handled: it failed, and the run went on. The others are as their names say."""

_UNTIL = "#until"
"""Until when a signal is waited for: of the wait, and no node by itself."""
_SEGMENT = re.compile(r"/?#.*|/[^/\[#]*|\[[^\]]*\]")


@dataclass(slots=True)
class Node:
    """A node of a run, as far as the journal knows of it.

    Attributes:
        path: Its path.
        label: The last part of its path.
        state: What became of it.
        order: Which record of the run is its own, from 1; None where none is.
        outcome: What it returned or raised, where that is recorded.
        children: The nodes below it, in the order in which they are first recorded.
    """

    path: str
    label: str
    state: NodeState = "done"
    order: int | None = None
    outcome: Outcome[Any] | None = None
    children: list[Node] = field(default_factory=list)

    def walk(self) -> Iterator[Node]:
        """This node and all below it, each before its children."""
        yield self
        for child in self.children:
            yield from child.walk()


async def tree_of(client: RunClient, run_id: str) -> Node:
    """The nodes of a run.

    Args:
        client: What looks at the journal; a `DurableRunner` is one.
        run_id: The run.

    Raises:
        RunNotFoundError: There is no such run.
        JournalError: The journal, or a blob, cannot be read.
    """
    stored = await client._find(run_id)
    records = await client._journal.records(stored.key)
    whole = [
        record._replace(payload=await client._blobs.get(record.payload, record.path))
        for record in records
    ]
    return tree(stored, whole, client._codec)


def tree(stored: StoredRun, records: Sequence[Record], codec: Codec) -> Node:
    """The nodes that a run's records tell of."""
    name = stored.start.workflow.partition("@")[0]
    root = Node(name, name)
    nodes = {name: root}
    for order, record in enumerate(records, 1):
        if record.path.endswith(_UNTIL) or record.kind == Kind.DATA:
            continue
        node = _node_at(record.path, nodes, root)
        node.order, node.state = order, _state(record, stored.status)
        node.outcome = _outcome(record, codec)
    for wait in stored.waits:
        _node_at(wait.path, nodes, root).state = "waiting"
    _infer(root, stored.status, is_last=True)
    root.state = _STATES[stored.status]
    return root


def parents(path: str) -> list[str]:
    """The paths of the nodes above a node, from the root on, and its own.

    Example:
        >>> parents("orders/2:ship[3]/label")
        ['orders', 'orders/2:ship', 'orders/2:ship[3]', 'orders/2:ship[3]/label']
    """
    cuts = [match.end() for match in _SEGMENT.finditer(path)]
    first = _SEGMENT.search(path)
    return [path[: first.start()] if first else path, *(path[:cut] for cut in cuts)]


_STATES: dict[RunStatus, NodeState] = {
    "queued": "waiting",
    "running": "running",
    "waiting": "waiting",
    "completed": "done",
    "failed": "failed",
    "cancelled": "cancelled",
}


def _node_at(path: str, nodes: dict[str, Node], root: Node) -> Node:
    """The node of a path, made with those above it where there is none yet."""
    node, known, cut = nodes.get(path), root, len(root.path)
    if node is not None:
        return node
    for segment in _SEGMENT.finditer(path, cut):
        above = path[: segment.end()]
        node = nodes.get(above)
        if node is None:
            node = nodes[above] = Node(above, segment[0].lstrip("/#"))
            known.children.append(node)
        known = node
    return known


def _state(record: Record, status: RunStatus) -> NodeState:
    match record.kind:
        case Kind.ERROR if record.payload:
            return "handled" if status == "completed" else "failed"
        case Kind.CALL:
            return "cancelled" if status in ENDED else "running"
        case Kind.CANCELLED:
            return "cancelled"
        case _:
            return "done"


def _outcome(record: Record, codec: Codec) -> Outcome[Any] | None:
    if not record.payload or record.kind in (Kind.CALL, Kind.CANCELLED):
        return None
    if record.kind == Kind.TIME:
        return Success(datetime.fromtimestamp(float(record.payload), UTC))
    try:
        value = readable(record.payload, codec)
    except ValueError as error:
        return Failure(error)
    return Failure(value) if isinstance(value, Exception) else Success(value)


def _infer(node: Node, status: RunStatus, *, is_last: bool) -> None:
    """Say of the nodes that have no record of their own what those below them tell."""
    for child in node.children:
        _infer(child, status, is_last=is_last and child is node.children[-1])
    if node.order is not None or node.state != "done" or not node.children:
        return
    states = {child.state for child in node.children}
    if "waiting" in states or "running" in states:
        node.state = "waiting" if "waiting" in states else "running"
    elif status not in ENDED and is_last:
        node.state = "running"
    elif status in ("failed", "cancelled") and is_last and node.children[-1].state != "done":
        node.state = node.children[-1].state
