"""What a run has done so far, as the tree of its nodes: for those who look at it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from plait.durable._history import RACED, mark_in, mark_of
from plait.durable._readable import readable
from plait.durable._stored import ENDED, Kind
from plait.primitives import Failure, Outcome, Success

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from plait.durable._client import RunClient
    from plait.durable._codec import Codec
    from plait.durable._stored import Record, RunStatus, StoredRun

NodeState: TypeAlias = Literal["done", "failed", "handled", "cancelled", "running", "waiting"]
"""Handled: it failed, and the run went on. The others are as their names say."""

_OF_THE_NODE = re.compile(r".*(?=#until|#begun)")
"""Until when a signal is waited for, when a step that must not run twice began: no node itself."""
_SEGMENT = re.compile(r"(/(\d+(~\d+)?)?)?#.*|/[^/\[#]*|\[[^\]]*\]")
_LABEL = re.compile(r"(/(\d+(~\d+)?)?)?#|/")
_ATTEMPT = re.compile(r".*/attempt (\d+)(?=/|\[|#|$)")
_TRACE = "#trace"
_WAIT = re.compile(r".*#(sleep|signal|event of|run|entity)\b")
_SLEEP = re.compile(r".*#sleep( \d+)?")
_AFTER = re.compile(r"(.*/\d+)(~\d+)?#")
_CALL = re.compile(r"(.*/\d+):[^/\[#]*")


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
        began: When it was last begun, in seconds since the epoch; None where that is not known. Of
            the root, when the run was started.
        ended: When it ended; None where it has not, or where that is not known.
    """

    path: str
    label: str
    state: NodeState = "done"
    order: int | None = None
    outcome: Outcome[Any] | None = None
    children: list[Node] = field(default_factory=list)
    began: float | None = None
    ended: float | None = None

    @property
    def attempt(self) -> int | None:
        """Which attempt of the retry nearest to it, it belongs to, from 1; None outside of any."""
        match = _ATTEMPT.match(self.path)
        return None if match is None else int(match[1])

    def walk(self) -> Iterator[Node]:
        """This node and all below it, each before its children."""
        yield self
        for child in self.children:
            yield from child.walk()

    def recorded(self) -> list[Node]:
        """Those of this node and all below it that have records, in the order of those."""
        known = [(node.order, node) for node in self.walk() if node.order is not None]
        return [node for _, node in sorted(known, key=lambda pair: pair[0])]


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
    timeline = await client._journal.timeline(stored.key)
    whole = [
        (record._replace(payload=await client._blobs.get(record.payload, record.path)), at)
        for record, at in timeline
    ]
    return tree(stored, whole, client._codec, client._timestamp())


async def traces_of(client: RunClient, run_id: str) -> list[str]:
    """The ids of the traces that a run was executed in, the last one last, where it was traced.

    Args:
        client: What looks at the journal.
        run_id: The run.

    Raises:
        RunNotFoundError: There is no such run.
        JournalError: The journal cannot be read.
    """
    stored = await client._find(run_id)
    records = await client._journal.records(stored.key)
    kept = [record.payload.decode() for record in records if record.path == _TRACE]
    # What is kept is a traceparent of W3C's Trace Context.
    return [traceparent.split("-")[1] for traceparent in kept]


def tree(
    stored: StoredRun, timeline: Sequence[tuple[Record, float]], codec: Codec, now: float
) -> Node:
    """The nodes that a run's records, each with when it was written, tell of."""
    if stored.status in ENDED:
        now = stored.updated
    name = stored.start.workflow.partition("@")[0]
    root = Node(name, name)
    nodes = {name: root}
    before = stored.start.created
    passed = _passed(timeline)
    for order, (record, written) in enumerate(timeline, 1):
        # What begins so is a fact about the run.
        if record.kind == Kind.DATA or record.path.startswith("#") or record.digest == RACED:
            continue
        # A storage may tell the time less exactly than the runner.
        at = max(written, stored.start.created)
        if of := _OF_THE_NODE.match(record.path):
            node = _node_at(of[0], nodes, root)
            node.state = _under_way(of[0], stored.status, passed)
            node.began, node.ended = at, None
            continue
        node = _node_at(record.path, nodes, root)
        node.order, node.state = order, _state(record, stored.status, passed)
        node.outcome = _outcome(record, codec)
        _note_times(node, record, at, before, stored.start.created)
        if record.kind == Kind.TIME and _SLEEP.fullmatch(record.path):
            until = float(record.payload)
            is_over = until <= now or stored.status in ENDED
            node.ended = max(at, min(until, now)) if is_over else None
            node.state = "done" if is_over else "waiting"
        before = at
    for wait in stored.waits:
        node = _node_at(wait.path, nodes, root)
        node.state, node.ended = "waiting", None
        node.began = stored.updated if node.began is None else node.began
    _infer(root, stored.status, is_last=True)
    root.state = _STATES[stored.status]
    root.began = stored.start.created
    root.ended = stored.updated if stored.status in ENDED else None
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
            node = nodes[above] = Node(above, _LABEL.sub("", segment[0], 1))
            known.children.append(node)
        known = node
    return known


def _state(record: Record, status: RunStatus, passed: Collection[bytes | str]) -> NodeState:
    match record.kind:
        case Kind.ERROR if record.payload:
            return "handled" if status == "completed" else "failed"
        case Kind.CALL:
            return _under_way(record.path, status, passed)
        case Kind.CANCELLED:
            return "cancelled"
        case _:
            return "done"


def _under_way(path: str, status: RunStatus, passed: Collection[bytes | str]) -> NodeState:
    """What has become of a node of which is recorded that it began; nothing is of its result."""
    call = _CALL.fullmatch(path)
    if status == "completed" or mark_of(path) in passed or (call and call[1] in passed):
        return "done"
    if status in ENDED:
        return "cancelled"
    return "waiting" if _WAIT.match(path) else "running"


def _passed(timeline: Sequence[tuple[Record, float]]) -> set[bytes | str]:
    """The calls after which their task did something else: their marks, and their places."""
    passed: set[bytes | str] = set()
    for record, _ in timeline:
        passed.add(mark_in(record.digest))
        if after := _AFTER.match(record.path):
            passed.add(after[1])
    return passed


def _note_times(node: Node, record: Record, at: float, before: float, created: float) -> None:
    """Say when a node began and ended, by a record of it and when the one before was written."""
    if record.kind == Kind.CALL:
        node.began, node.ended = at, None
        return
    node.ended = at
    if record.seconds is not None:
        node.began = max(at - record.seconds, created)
    elif node.began is None:
        # What waits for others began when what is recorded before had ended, as a rule.
        is_wait = record.kind != Kind.TIME and _WAIT.match(record.path)
        node.began = before if is_wait else at


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
    _infer_state(node, status, is_last=is_last)
    began = [it.began for it in (node, *node.children) if it.began is not None]
    node.began = min(began, default=None)
    if node.ended is None and node.state not in ("running", "waiting"):
        node.ended = max((it.ended for it in node.children if it.ended is not None), default=None)


def _infer_state(node: Node, status: RunStatus, *, is_last: bool) -> None:
    if node.order is not None or node.state != "done" or not node.children:
        return
    states = {child.state for child in node.children}
    if "waiting" in states or "running" in states:
        node.state = "waiting" if "waiting" in states else "running"
    elif status not in ENDED and is_last:
        node.state = "running"
    elif status in ("failed", "cancelled") and is_last and node.children[-1].state != "done":
        node.state = node.children[-1].state
