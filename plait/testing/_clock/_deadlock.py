"""What to say where nothing can happen any more: which task waits where."""

from __future__ import annotations

import linecache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from plait.primitives import PlaitError, WorkflowContext

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType


class DeadlockError(PlaitError):
    """Nothing waited for time any more, and nothing could happen: who waits for what is said."""


class TaskState(NamedTuple):
    """A task of an event loop.

    Attributes:
        name: What it is called.
        coroutine: What it runs.
    """

    name: str
    coroutine: Any


def report(tasks: Iterable[TaskState]) -> str:
    """Which tasks wait, at which nodes, and in which lines."""
    lines = ["nothing can happen any more: no timer is set, no thread is at work, and"]
    for task in tasks:
        frames = list(_frames(task.coroutine))
        if all(map(_is_library, frames)):
            continue  # a test runner's, or another one that no line of the user's is in
        path = _node_path(frames)
        at = f" at {path!r}" if path else ""
        name = task.name.rpartition(".")[2]
        lines.append(f"  task {name!r}{at} waits in {_place(frames)}")
    return "\n".join(lines)


def _frames(awaited: Any) -> Iterator[FrameType]:
    """The frames of a suspended coroutine, the innermost last."""
    while awaited is not None:
        for prefix in ("cr", "gi", "ag"):
            frame = getattr(awaited, f"{prefix}_frame", None)
            if frame is not None:
                yield frame
                break
        else:
            return
        awaited = getattr(awaited, "gi_yieldfrom" if prefix == "gi" else f"{prefix}_await")


def _node_path(frames: list[FrameType]) -> str:
    """The path of the innermost node: contexts are found among the frames' variables."""
    path = ""
    for frame in frames:
        for value in frame.f_locals.values():
            if isinstance(value, WorkflowContext) and len(value.path) >= len(path):
                path = value.path
    return path


def _place(frames: list[FrameType]) -> str:
    """The innermost line that is the user's, and what it calls."""
    frame = [frame for frame in frames if not _is_library(frame)][-1]
    name, file, number = frame.f_code.co_qualname, frame.f_code.co_filename, frame.f_lineno
    line = linecache.getline(file, number).strip()
    return f"{name} ({Path(file).name}:{number}): {line}"


def _is_library(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__", "").partition(".")[0]
    return module in {
        "asyncio",
        "anyio",
        "trio",
        "plait",
        "concurrent",
        "_pytest",
        "pytest_asyncio",
    }
