"""What became of the parts of a workflow in one run, for the picture of its shape."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from plait.server._scale import is_wait

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plait.durable._timeline import Node
    from plait.primitives import WorkflowPrimitive

Place: TypeAlias = tuple[int, ...]
"""Where a part of a workflow is: which child, of which child, and so on, from 0."""


def states_of(workflow: WorkflowPrimitive[Any, Any], root: Node) -> dict[Place, str]:
    """What became of each part of a workflow.

    Args:
        workflow: The workflow.
        root: The nodes of a run of it; those that it does not know are left out.
    """
    states: dict[Place, str] = {}
    left: list[tuple[WorkflowPrimitive[Any, Any], Place, list[Node]]] = [(workflow, (), [root])]
    while left:
        primitive, place, nodes = left.pop()
        states[place] = state = _state(nodes)
        below: dict[int, list[Node]] = {}
        for node in nodes:
            for child in node.children:
                if not is_wait(child):
                    below.setdefault(_index(primitive, child), []).append(child)
        if not below and state == "done" and len(primitive.children) == 1:
            # The elements of a map are folded into its result.
            below[0] = nodes
        left += [
            (child, (*place, index), below[index])
            for index, child in enumerate(primitive.children)
            if index in below
        ]
    return states


def _state(nodes: Sequence[Node]) -> str:
    """What became of a part that was executed several times: what is under way, or came last."""
    states = [node.state for node in nodes]
    return next((state for state in ("running", "waiting") if state in states), states[-1])


def _index(primitive: WorkflowPrimitive[Any, Any], node: Node) -> int:
    """Which child of a primitive a node below it is; -1 where it is none."""
    children = primitive.children
    if len(children) == 1:
        return 0
    for cursor in (node.label, *range(len(children))):
        with suppress(LookupError, TypeError, AttributeError):
            segment, child = primitive._place(cursor)
            if segment.lstrip("/") == node.label:
                return next(index for index, it in enumerate(children) if it is child)
    return -1
