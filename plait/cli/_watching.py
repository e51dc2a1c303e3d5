"""A run as it goes on, drawn as a tree."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from plait.durable._timeline import parents
from plait.primitives import Runtime, _ambient

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping

    from rich.console import Console

    from plait.primitives import WorkflowContext, WorkflowPrimitive
    from plait.primitives._runtime import Attribute

In = TypeVar("In")
T = TypeVar("T")

_MOST_CHILDREN = 12
_A_SECOND = 8
SYMBOLS = {
    "done": ("✓", "green"),
    "failed": ("✗", "red"),
    "handled": ("✗", "yellow"),
    "cancelled": ("○", "yellow"),
    "running": ("●", "cyan"),
    "waiting": ("◌", "yellow"),
}


@dataclass(eq=False)
class Seen:
    """What is known of a node.

    Attributes:
        label: The last part of its path.
        state: What became of it.
        begun: When it began, on a clock that only goes forward.
        seconds: How long it took, once it has ended.
        said: What it said of itself last.
        progress: How far it has come, out of how much.
        children: The nodes below it.
    """

    label: str
    state: str = "running"
    begun: float = 0.0
    seconds: float | None = None
    said: str = ""
    progress: tuple[float, float] | None = None
    children: list[Seen] = field(default_factory=list)


class Watcher(Runtime):
    """Sees each node begin and end."""

    def __init__(self, inner: Runtime | None) -> None:
        super().__init__(inner)
        self.roots: list[Seen] = []
        self._nodes: dict[str, Seen] = {}

    def perform(
        self,
        primitive: WorkflowPrimitive[In, T],
        execute: Callable[[Any, In, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: In,
        context: WorkflowContext,
    ) -> Coroutine[Any, Any, T]:
        """Execute a node, and note when."""
        call = super().perform(primitive, execute, input_data, context)
        return self._watched(call, self._node(context.path))

    def report(
        self, event: str, attributes: Mapping[str, Attribute], context: WorkflowContext
    ) -> None:
        """Note what a node says."""
        super().report(event, attributes, context)
        node = self._node(context.path)
        if event == "progress":
            node.said = str(attributes.get("message", ""))
            total = attributes.get("total")
            if total:
                node.progress = float(attributes["done"]), float(total)
        elif event == "retry":
            wait = f"retry in {float(attributes.get('wait_seconds', 0)):.1f} s"
            node.said = f"{node.said}, {wait}" if node.said else wait

    async def wait_for(
        self, signal: str, payload_type: Any, timeout: float | None, context: WorkflowContext
    ) -> Any:
        """Wait for a signal, and show that."""
        node = self._node(context.path)
        node.state, node.said = "waiting", f"for signal {signal}"
        try:
            return await super().wait_for(signal, payload_type, timeout, context)
        finally:
            node.state, node.said = "running", ""

    async def _watched(self, call: Coroutine[Any, Any, T], node: Seen) -> T:
        node.begun, node.state = time.monotonic(), "running"
        state = "cancelled"
        try:
            result = await call
            state = "done"
        except Exception as error:
            state, node.said = "failed", f"{type(error).__name__}: {error}"
            raise
        finally:
            node.state, node.seconds = state, time.monotonic() - node.begun
        return result

    def _node(self, path: str) -> Seen:
        found = self._nodes.get(path)
        if found is None:
            *above, _ = parents(path)
            label = path.removeprefix(above[-1]).lstrip("/") if above else path
            found = self._nodes[path] = Seen(label, begun=time.monotonic())
            (self._node(above[-1]).children if above else self.roots).append(found)
        return found

    def __rich__(self) -> Tree:
        whole = Tree("", hide_root=True)
        for root in self.roots:
            _draw(root, whole)
        return whole


def _draw(node: Seen, into: Tree) -> None:
    branch = into.add(_line(node))
    hidden = len(node.children) - _MOST_CHILDREN
    if hidden > 0:
        branch.add(Text(f"… {hidden} before", style="dim"))
    for child in node.children[-_MOST_CHILDREN:]:
        _draw(child, branch)


def _line(node: Seen) -> Text | Table:
    symbol, style = SYMBOLS[node.state]
    seconds = time.monotonic() - node.begun if node.seconds is None else node.seconds
    line = Text.assemble((symbol, style), " ", node.label, (f"  {seconds:.2f} s", "dim"))
    if node.said:
        line.append(f"  {node.said}", style="red" if node.state == "failed" else "dim")
    line.no_wrap, line.overflow = True, "ellipsis"
    if node.progress is None or node.state != "running":
        return line
    done, total = node.progress
    table = Table.grid(padding=(0, 1))
    table.add_row(line, ProgressBar(total, done, width=24), Text(f"{done:g} of {total:g}"))
    return table


@contextmanager
def watching(console: Console, *, is_shown: bool) -> Generator[None, None, None]:
    """Show what is executed inside of the block, where there is somebody to see it."""
    if not is_shown or not console.is_terminal:
        yield
        return
    source = _ambient._source
    watcher = Watcher(source())
    _ambient.use(lambda: watcher)
    try:
        with Live(watcher, console=console, refresh_per_second=_A_SECOND, transient=False):
            yield
    finally:
        _ambient.use(source)
