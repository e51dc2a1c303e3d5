"""Which branches, routes and fallbacks of the workflows the tests have taken."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from plait.primitives import Runtime
from plait.testing._ambient import Ambient
from plait.testing._tree import general_path, nodes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from plait.primitives import WorkflowContext, WorkflowPrimitive

A = TypeVar("A")
T = TypeVar("T")

_BELOW_ROOT = re.compile(r"[/\[].*", re.DOTALL)


class TreeCoverage:
    """Takes note of each node that is executed, under the workflow that it is in.

    Attributes:
        taken: For each workflow's name, the paths below it, and whether each was taken.
    """

    def __init__(self) -> None:
        self.taken: dict[str, dict[str, bool]] = {}
        self._known: set[int] = set()
        self._alive: list[WorkflowPrimitive[Any, Any]] = []
        self._ambient = Ambient(lambda inner: _Covering(self, inner))

    def start(self) -> None:
        """Take note of what runs from now on."""
        self._ambient.install()

    def stop(self) -> None:
        """Take no more notes."""
        self._ambient.remove()

    def add(self, taken: dict[str, dict[str, bool]]) -> None:
        """Take over what another process has noted."""
        for workflow, paths in taken.items():
            known = self.taken.setdefault(workflow, {})
            for path, is_taken in paths.items():
                known[path] = known.get(path, False) or is_taken

    def see(self, workflow: WorkflowPrimitive[Any, Any]) -> None:
        """Take note of a workflow, with all the places in it."""
        if id(workflow) in self._known or not (workflow.children or workflow._numbers_children):
            return
        self._known.add(id(workflow))
        self._alive.append(workflow)  # so that no other one gets its id
        paths = [node.path for node in nodes_of(workflow, "")]
        self.add({str(workflow): dict.fromkeys(filter(None, paths), False)})

    def take(self, workflow: WorkflowPrimitive[Any, Any], path: str) -> None:
        """Take note of a node that is executed."""
        below = _BELOW_ROOT.search(path)
        self.add({str(workflow): {general_path(below[0]): True} if below else {}})

    def percent(self) -> float:
        """How much was taken, of all the workflows."""
        known = [is_taken for paths in self.taken.values() for is_taken in paths.values()]
        return 100 * sum(known) / len(known) if known else 100.0

    def report(self) -> Iterator[str]:
        """The lines of a table: each workflow, and what of it was not taken."""
        rows = [("workflow", "nodes", "taken", "not taken")]
        for name, paths in sorted(self.taken.items()):
            missing = [path for path, is_taken in paths.items() if not is_taken]
            # A branch that was not taken says all about what is in it.
            tops = [path for path in missing if not _is_below(path, missing)]
            share = f"{100 * (1 - len(missing) / len(paths)):.0f}%" if paths else "100%"
            shown = name if len(name) <= 40 else f"{name[:37]}..."
            rows.append((shown, str(len(paths)), share, ", ".join(tops)))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        for name, nodes, share, missing_paths in rows:
            line = (
                f"{name:<{widths[0]}}  {nodes:>{widths[1]}}  {share:>{widths[2]}}  {missing_paths}"
            )
            yield line.rstrip()


class _Covering(Runtime):
    """Tells a coverage of the nodes of one run."""

    def __init__(self, coverage: TreeCoverage, inner: Runtime | None) -> None:
        super().__init__(inner)
        self._coverage = coverage
        self._root: WorkflowPrimitive[Any, Any]

    def perform(
        self,
        primitive: WorkflowPrimitive[A, T],
        execute: Callable[[Any, A, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: A,
        context: WorkflowContext,
    ) -> Coroutine[Any, Any, T]:
        """Execute a node, and tell of it."""
        if context.is_root:
            self._root = primitive
            self._coverage.see(primitive)
        else:
            self._coverage.take(self._root, context.path)
        return super().perform(primitive, execute, input_data, context)


def _is_below(path: str, others: list[str]) -> bool:
    return any(path.startswith((f"{other}/", f"{other}[")) for other in others)
