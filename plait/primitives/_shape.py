"""The shape of a composed workflow, as data and as a diagram."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plait.primitives._base import WorkflowPrimitive


def describe(primitive: WorkflowPrimitive[Any, Any]) -> dict[str, Any]:
    """The shape as data: `name`, `type`, and `children` of the same form."""
    return {
        "name": primitive.name,
        "type": type(primitive).__name__,
        "children": [describe(child) for child in primitive.children],
    }


def to_mermaid(primitive: WorkflowPrimitive[Any, Any]) -> str:
    """The shape as a Mermaid flowchart."""
    return "\n".join(("flowchart TD", *_lines(primitive, None, itertools.count())))


def _lines(
    primitive: WorkflowPrimitive[Any, Any], parent: str | None, numbers: Iterator[int]
) -> Iterator[str]:
    node = f"n{next(numbers)}"
    label = primitive.name.replace('"', "#quot;")
    yield f'    {node}["{label}"]'
    if parent is not None:
        yield f"    {parent} --> {node}"
    for child in primitive.children:
        yield from _lines(child, node, numbers)
