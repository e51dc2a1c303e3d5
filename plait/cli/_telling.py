"""Runs and their nodes: in words for a person, as data for another program."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rich.text import Text
from rich.tree import Tree

from plait.cli._watching import SYMBOLS
from plait.durable._readable import as_json, readable, written
from plait.primitives import Failure, Success

if TYPE_CHECKING:
    from plait.cli._output import Output
    from plait.durable import RunInfo
    from plait.durable._client import RunClient
    from plait.durable._info import Waiting
    from plait.durable._timeline import Node

STYLES = {
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "waiting": "yellow",
    "running": "cyan",
    "queued": "dim",
}
"""How a run's status is shown."""
_LONGEST = 100


def fields_of(info: RunInfo) -> dict[str, Any]:
    """A run as data."""
    return {
        "run_id": info.run_id,
        "workflow": info.workflow,
        "status": info.status,
        "created_at": info.created_at,
        "updated_at": info.updated_at,
        "metadata": dict(info.metadata),
        "queue": info.queue,
        "parent": info.parent,
        "is_cancelled": info.is_cancelled,
        "waits": [
            {"path": w.path, "signal": w.signal, "until": w.until, "needs": sorted(w.needs)}
            for w in info.waits
        ],
    }


def status_of(info: RunInfo) -> Text:
    """A run's status in its colour."""
    return Text(info.status, style=STYLES[info.status])


def awaited(wait: Waiting) -> str:
    """What a run waits for, in words."""
    if wait.needs:
        return f"a runner with {' and '.join(sorted(wait.needs))}"
    return wait.signal or wait.path


def tell_waits(info: RunInfo, printed: Output) -> None:
    """Print what a run waits for, and until when."""
    for wait in info.waits:
        until = "" if wait.until is None else f" until {wait.until:%Y-%m-%d %H:%M:%S} UTC"
        printed.text(f"waits for {awaited(wait)}{until}")


async def payload_told(client: RunClient, payload: bytes | None, run_id: str) -> Any:
    """What a payload says, as far as that can be read without the code that it belongs to."""
    if not payload:
        return None
    whole = await client._blobs.get(payload, run_id)
    with suppress(ValueError):
        return written(whole, client._codec)
    try:
        return readable(whole, client._codec)
    except ValueError as error:
        return f"{type(error).__name__}: {error}"


def payload_line(told: Any) -> str:
    """A payload on one line, without the names of its types."""
    return _line(_untyped(told))


def node_fields(node: Node) -> dict[str, Any]:
    """A node as data, with those below it."""
    known: dict[str, Any] = {"path": node.path, "state": node.state, "order": node.order}
    if isinstance(node.outcome, Success):
        known["result"] = as_json(node.outcome.value)
    if isinstance(node.outcome, Failure):
        known["error"] = as_json(node.outcome.error)
    return {**known, "children": [node_fields(child) for child in node.children]}


def tell_node(node: Node, printed: Output) -> None:
    """Print one node, without those below it."""
    if printed.is_json:
        fields = node_fields(node)
        printed.value({name: part for name, part in fields.items() if name != "children"})
        return
    printed.out.print(_node_line(node, node.path))


def drawn(root: Node) -> Tree:
    """A run's nodes as a tree."""
    whole = Tree("", hide_root=True)
    _draw(root, whole)
    return whole


def _draw(node: Node, into: Tree) -> None:
    line = _node_line(node, node.label)
    line.no_wrap, line.overflow = True, "ellipsis"
    branch = into.add(line)
    for child in node.children:
        _draw(child, branch)


def _node_line(node: Node, name: str) -> Text:
    symbol, style = SYMBOLS[node.state]
    return Text.assemble((symbol, style), " ", name, _ended(node))


def _ended(node: Node) -> Text:
    """How a node ended, in short."""
    match node.outcome:
        case Success(value):
            text = _line(value)
            short = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
            return Text(f"  {short}", style="dim")
        case Failure(error):
            return Text(f"  {type(error).__name__}: {error}", style="red")
        case _:
            return Text("")


def _untyped(value: Any) -> Any:
    """What a payload says, without the names of its types."""
    if isinstance(value, dict):
        parts: Any = value["fields"] if value.keys() == {"$type", "fields"} else value
        return {name: _untyped(part) for name, part in parts.items()}
    return [_untyped(part) for part in value] if isinstance(value, list) else value


def _line(value: Any) -> str:
    return json.dumps(as_json(value), ensure_ascii=False)
