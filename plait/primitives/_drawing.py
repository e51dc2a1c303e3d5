"""The shape of a composed workflow as a picture: boxes in SVG."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from plait.primitives._map import MapPrimitive
from plait.primitives._reduce import ReducePrimitive
from plait.primitives._sequential import SequentialPrimitive
from plait.primitives._wrapper import Wrapper

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from plait.primitives._base import WorkflowPrimitive

_CHARACTER, _LINE, _PADDING, _GAP, _TITLE = 7.8, 34, 14, 26, 24
_STYLE = """\
text{font:13px ui-monospace,monospace;fill:#1c2030}
.group>rect{fill:none;stroke:#9aa2b8;stroke-dasharray:4 3}
.leaf>rect{fill:#eef1fb;stroke:#5b6ee1}
.title{font-size:11px;fill:#555d73}
path{stroke:#6b7388;fill:none}
"""


@dataclass(slots=True)
class _Box:
    """A rectangle: a leaf, or a group with others inside."""

    name: str
    title: str
    width: float
    height: float
    is_across: bool = False
    inside: list[_Box] = field(default_factory=list)
    at: tuple[int, ...] = ()


def draw(
    workflow: WorkflowPrimitive[Any, Any],
    states: Mapping[tuple[int, ...], str] | None = None,
    *,
    is_standalone: bool = False,
) -> str:
    """A workflow's shape as an SVG element.

    What follows one another is drawn from top to bottom, what is at the same time, or a choice,
    side by side, and a wrapper around what it wraps.

    Args:
        workflow: The workflow.
        states: What became of its parts, each by the indices of children that lead to it; a step's
            box gets it as its class.
        is_standalone: Whether it is a file of its own, which brings its own colours.

    Example:
        >>> from plait import step
        >>> draw(step(len) >> str)[:4]
        '<svg'
    """
    box = _layout(workflow)
    width, height = box.width + 2, box.height + 2
    size = f'viewBox="-1 -1 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    namespace = ' xmlns="http://www.w3.org/2000/svg"' if is_standalone else ""
    style = f"<style>{_STYLE}</style>" if is_standalone else ""
    label = escape(f"The shape of {workflow.name}", quote=True)
    head = f'<svg{namespace} class="shape" role="img" aria-label="{label}" {size}>{style}'
    return "".join([head, *_drawn(box, 0, 0, states or {}), "</svg>"])


def _layout(primitive: WorkflowPrimitive[Any, Any], at: tuple[int, ...] = ()) -> _Box:
    inside = [_layout(child, (*at, index)) for index, child in enumerate(primitive.children)]
    name = primitive.name
    if not inside:
        return _Box(name, "", len(name) * _CHARACTER + 2 * _PADDING, _LINE, at=at)
    is_sequence = isinstance(primitive, SequentialPrimitive)
    title = "" if is_sequence and primitive._name is None else name
    kind = type(primitive).__name__.removesuffix("Primitive").lower()
    if title and primitive._name is not None and kind != title:
        title = f"{title} ({kind})"
    is_across = not (is_sequence or isinstance(primitive, Wrapper | MapPrimitive | ReducePrimitive))
    widths, heights = [box.width for box in inside], [box.height for box in inside]
    gaps = _GAP * (len(inside) - 1)
    width = sum(widths) + gaps if is_across else max(widths)
    height = max(heights) if is_across else sum(heights) + gaps
    if title:
        width = max(width, len(title) * _CHARACTER) + 2 * _PADDING
        height += _TITLE + _PADDING
    return _Box(name, title, width, height, is_across, inside)


def _drawn(
    box: _Box, left: float, top: float, states: Mapping[tuple[int, ...], str]
) -> Iterator[str]:
    rectangle = (
        f'<rect x="{left:g}" y="{top:g}" width="{box.width:g}" height="{box.height:g}" rx="7"/>'
    )
    if not box.inside:
        kind = f"leaf {states.get(box.at, '')}".strip()
        middle = f'x="{left + box.width / 2:g}" y="{top + _LINE / 2 + 4:g}" text-anchor="middle"'
        yield f'<g class="{kind}">{rectangle}<text {middle}>{escape(box.name)}</text></g>'
        return
    yield '<g class="group">'
    x, y = left, top
    if box.title:
        yield rectangle
        place = f'x="{left + _PADDING:g}" y="{top + 16:g}"'
        yield f'<text class="title" {place}>{escape(box.title)}</text>'
        x, y = left + _PADDING, top + _TITLE
    room = box.width - 2 * (x - left)
    if box.is_across:
        x += (room - sum(b.width for b in box.inside) - _GAP * (len(box.inside) - 1)) / 2
    for index, part in enumerate(box.inside):
        at = x if box.is_across else x + (room - part.width) / 2
        yield from _drawn(part, at, y, states)
        if box.is_across:
            x += part.width + _GAP
            continue
        y += part.height
        if index < len(box.inside) - 1:
            centre = x + room / 2
            yield f'<path d="M{centre:g} {y + 3:g}v{_GAP - 7:g}m-4 -5l4 5l4 -5"/>'
            y += _GAP
    yield "</g>"
