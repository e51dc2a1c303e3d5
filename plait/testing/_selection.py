"""Which nodes of a workflow a test means: by name, by path, or by a pattern of either."""

from __future__ import annotations

import difflib
import functools
import re
from typing import TYPE_CHECKING, Any

from plait.primitives import PlaitError
from plait.testing._tree import nodes_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from plait.primitives import Runtime, WorkflowPrimitive


class UnknownNodeError(PlaitError, LookupError):
    """A test names a node that the workflow does not have."""


class Selection:
    """What a test means by the name of a node.

    A text with a "/" or a "[" is a path, such as `orders/2:ship[3]`, any other is a name. In both,
    `*` stands for anything.

    Args:
        text: The name, path or pattern.

    Raises:
        ValueError: It is empty.
    """

    def __init__(self, text: str) -> None:
        if not text:
            msg = "the name of the node must not be empty"
            raise ValueError(msg)
        self.text = text
        self._is_path = "/" in text or "[" in text
        self._matches = _pattern(text).fullmatch

    def __repr__(self) -> str:
        return repr(self.text)

    def takes(self, primitive: WorkflowPrimitive[Any, Any], path: str) -> bool:
        """Whether it means this primitive at this path."""
        return bool(self._matches(path if self._is_path else primitive.name))

    def _may_take(
        self, primitive: WorkflowPrimitive[Any, Any], path: str, *, is_open: bool
    ) -> bool:
        """Whether it means this place, or one that is only known once the workflow runs."""
        if is_open:
            return True
        if not self._is_path:
            return self.takes(primitive, path)
        # A run may have a name of its own, with which its paths then begin.
        own, text = _below_root(path), _below_root(self.text)
        return _meet(text, own)


def check(selections: Iterable[Selection], workflow: WorkflowPrimitive[Any, Any]) -> None:
    """Refuse what the workflow cannot have.

    Raises:
        UnknownNodeError: It has no such node, whatever happens when it runs.
    """
    nodes = list(nodes_of(workflow))
    for selection in selections:
        if not any(selection._may_take(n.primitive, n.path, is_open=n.is_open) for n in nodes):
            raise UnknownNodeError(
                _unknown(
                    selection,
                    workflow.name,
                    [node.path if selection._is_path else node.primitive.name for node in nodes],
                )
            )


class Sightings:
    """What was seen of the nodes that a test names, in one run of a workflow.

    Args:
        selections: What it names.
        workflow: The workflow.
    """

    def __init__(
        self, selections: Collection[Selection], workflow: WorkflowPrimitive[Any, Any]
    ) -> None:
        self._workflow = workflow
        self._root = ""
        nodes = list(nodes_of(workflow))
        # What stands in the tree need not be reached in each run; of the rest, a run must tell.
        self._missing = {
            selection.text: selection
            for selection in selections
            if not any(selection._may_take(n.primitive, n.path, is_open=False) for n in nodes)
        }
        self._seen: dict[str, None] = {}

    def see(self, primitive: WorkflowPrimitive[Any, Any], path: str) -> None:
        """Take note of a node."""
        self._root = self._root or path
        if not self._missing:
            return
        self._seen[path] = self._seen[primitive.name] = None
        # With what stands below it: that need not be reached in each run either.
        nodes = list(nodes_of(primitive, path))
        for text, selection in list(self._missing.items()):
            if any(selection._may_take(n.primitive, n.path, is_open=False) for n in nodes):
                del self._missing[text]

    def is_whole(self, runtime: Runtime) -> bool:
        """Whether all of a run was seen, and it is not one that is carried on.

        That does not come to what is inside of a node that had finished.
        """
        return not runtime.is_recorded(self._root)

    def check(self, runtime: Runtime) -> None:
        """Refuse what was not there in a whole run.

        Args:
            runtime: The one that has seen it.

        Raises:
            UnknownNodeError: Something was not.
        """
        if not self.is_whole(runtime):
            return
        for selection in self._missing.values():
            is_path = selection._is_path
            seen = [text for text in self._seen if ("/" in text or "[" in text) == is_path]
            raise UnknownNodeError(_unreached(selection, self._workflow.name, seen))


def _unknown(selection: Selection, workflow: str, known: Iterable[str]) -> str:
    known = sorted(set(known))
    hint = _nearest(selection, known)
    return f"{workflow!r} has no node {selection!r}{hint} It has {', '.join(map(repr, known))}"


def _unreached(selection: Selection, workflow: str, seen: Iterable[str]) -> str:
    seen = sorted(set(seen))
    hint = _nearest(selection, seen)
    return (
        f"this run of {workflow!r} has no node {selection!r}{hint} It came to "
        f"{', '.join(map(repr, seen))}"
    )


def _nearest(selection: Selection, known: list[str]) -> str:
    near = difflib.get_close_matches(selection.text, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else "."


def _below_root(path: str) -> str:
    root = re.match(r"[^/\[*]*", path)
    return path if root is None else path[root.end() :]


def _meet(one: str, other: str) -> bool:
    """Whether some path fits both patterns: a place stands for several where its path has a `*`."""

    @functools.cache
    def meet(i: int, j: int) -> bool:
        if i == len(one) and j == len(other):
            return True
        if i < len(one) and one[i] == "*":
            return meet(i + 1, j) or (j < len(other) and meet(i, j + 1))
        if j < len(other) and other[j] == "*":
            return meet(i, j + 1) or (i < len(one) and meet(i + 1, j))
        is_alike = i < len(one) and j < len(other) and one[i] == other[j]
        return is_alike and meet(i + 1, j + 1)

    return meet(0, 0)


@functools.lru_cache(1024)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)


def names(text: str, path: str) -> bool:
    """Whether a text means the node at a path, of which nothing else is known.

    Args:
        text: A name, path or pattern.
        path: The path.
    """
    if "/" in text or "[" in text:
        return bool(_pattern(text).fullmatch(path))
    last = path.rpartition("/")[2]
    name = re.sub(r"\[\d+\]$", "", last).partition(":")
    return bool(_pattern(text).fullmatch(name[2] or name[0]))
