"""What can be known of a workflow's nodes without running it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from plait.primitives import RouterPrimitive
from plait.primitives._tail import TailStep
from plait.primitives._wrapper import Wrapper

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from plait.primitives import WorkflowPrimitive

_COUNTED = re.compile(r"\[\d+\]|(/attempt |/hedge )\d+")


class Node(NamedTuple):
    """A place in a workflow's tree.

    Attributes:
        path: Its path, with `*` for the number of an element or an attempt.
        primitive: What is there.
        is_open: Whether it makes calls that are only known once it runs.
    """

    path: str
    primitive: WorkflowPrimitive[Any, Any]
    is_open: bool


def nodes_of(primitive: WorkflowPrimitive[Any, Any], path: str | None = None) -> Iterator[Node]:
    """A workflow's nodes, the root first.

    Args:
        primitive: The workflow.
        path: The root's path; its label where none is given.
    """
    path = primitive.label if path is None else path
    is_open = primitive._numbers_children
    yield Node(path, primitive, is_open or isinstance(primitive, TailStep))
    for segment, child in () if is_open else _places(primitive):
        yield from nodes_of(child, path + segment)


def general_path(path: str) -> str:
    """A path with `*` for the number of an element or an attempt."""
    return _COUNTED.sub(lambda found: f"{found[1]}*" if found[1] else "[*]", path)


def _places(
    primitive: WorkflowPrimitive[Any, Any],
) -> list[tuple[str, WorkflowPrimitive[Any, Any]]]:
    """What each child adds to the path."""
    cursors: Iterable[Any] = range(len(primitive.children))
    if isinstance(primitive, Wrapper):
        cursors = ["*"]
    elif isinstance(primitive, RouterPrimitive):
        decision = ("/router", primitive._router)
        return [decision, *(primitive._place(name) for name in primitive._routes)]
    elif isinstance(places := vars(primitive).get("_places"), dict):
        cursors = places  # a composite whose children have names of their own
    return [primitive._place(cursor) for cursor in cursors]
