"""`plait trace`: when each node of a run began and ended, as its journal has it."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from plait.cli._asking import ask
from plait.cli._loading import JournalOption, RunId, SeenInOption
from plait.cli._output import Json, output
from plait.cli._telling import tell_waits
from plait.cli._watching import SYMBOLS
from plait.durable._readable import as_json
from plait.durable._timeline import traces_of, tree_of
from plait.observability._timeline import Timing, lay_out
from plait.primitives import Failure

if TYPE_CHECKING:
    from plait.cli._output import Output
    from plait.durable import RunInfo
    from plait.durable._client import RunClient
    from plait.durable._timeline import Node
    from plait.observability._timeline import Row

_TOOK = 8
"""How many characters a duration has at the most."""
_NARROWEST = 12
"""How many characters names, and bars, have at the least."""
_MOST_TRACES = 3


def trace(
    run_id: RunId,
    journal: JournalOption = "",
    application: SeenInOption = None,
    is_json: Json = False,
) -> None:
    """Show when each node of a run began and how long it took, as a tree with bars."""
    with output(is_json=is_json) as printed:

        async def found(client: RunClient) -> tuple[RunInfo, Node, list[str]]:
            info = await client.info(run_id)
            return info, await tree_of(client, run_id), await traces_of(client, run_id)

        info, root, traces = ask(found, journal, application)
        if is_json:
            known = {"run_id": info.run_id, "workflow": info.workflow, "status": info.status}
            printed.value({**known, "trace_ids": traces, "nodes": _plain(root)})
        else:
            _print(info, root, traces, printed)


def _print(info: RunInfo, root: Node, traces: list[str], printed: Output) -> None:
    _, style = SYMBOLS[root.state]
    head = Text.assemble(info.run_id, "  ", (info.status, style), "  ", (info.workflow, "dim"))
    printed.out.print(head.append(f"  {info.created_at:%Y-%m-%d %H:%M:%S} UTC", "dim"))
    tell_waits(info, printed)
    nodes = {node.path: node for node in root.walk()}
    timings = [_timing(node, root) for node in nodes.values()]
    # Through a pipe as on a usual terminal, unless COLUMNS says otherwise.
    columns = shutil.get_terminal_size().columns
    width = columns - _TOOK - 4
    widest = max(cell_len(row.name) for row in lay_out(timings, 1))
    names = min(widest, max(_NARROWEST, width // 2))
    bars = max(_NARROWEST, width - names)
    for row in lay_out(timings, bars, now=time.time()):
        node = nodes[row.node.path]
        printed.out.print(_line(row, node, names, bars))
        # A failure passes the nodes above on its way up: it is told where it came from.
        error = _error(node)
        if error and error not in map(_error, node.children):
            indent = " " * (len(row.name) - len(row.name.lstrip()) + 4)
            printed.out.print(Text(_short(indent + error, columns), SYMBOLS[node.state][1]))
    for trace_id in traces[-_MOST_TRACES:]:
        printed.out.print(Text(f"trace {trace_id}", style="dim"))


def _line(row: Row, node: Node, names: int, bars: int) -> Text:
    symbol, style = SYMBOLS[node.state]
    bar = f"{' ' * row.before}{'━' * row.length:<{bars - row.before}}"
    name = set_cell_size(_short(row.name, names), names)
    return Text.assemble((symbol, style), " ", name, " ", (bar, style), " ", (row.took, "dim"))


def _timing(node: Node, root: Node) -> Timing:
    state: Any = "completed" if node.state == "done" else node.state
    began = root.began if node.began is None else node.began
    return Timing(node.path, began or 0.0, node.ended, state)


def _error(node: Node) -> str:
    if not isinstance(node.outcome, Failure):
        return ""
    return f"{type(node.outcome.error).__name__}: {node.outcome.error}"


def _short(text: str, width: int) -> str:
    """A text that takes so many columns at the most, and no more than a line."""
    shown = "".join(each if each.isprintable() else " " for each in text)
    return shown if cell_len(shown) <= width else f"{set_cell_size(shown, width - 1)}…"


def _plain(node: Node) -> dict[str, Any]:
    known: dict[str, Any] = {
        "path": node.path,
        "state": node.state,
        "attempt": node.attempt,
        "began": _time(node.began),
        "ended": _time(node.ended),
    }
    if isinstance(node.outcome, Failure):
        known["error"] = as_json(node.outcome.error)
    return {**known, "children": [_plain(child) for child in node.children]}


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
