"""What a run that is executed again after it failed has to do again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait.durable._history import mark_in, mark_of
from plait.durable._stored import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def undone(rows: Sequence[tuple[int, str, int, bytes]], failures: Iterable[str]) -> set[int]:
    """Which records of a failed run no longer hold once it is resumed.

    What failed is done again, under new deadlines. What had finished or was handled stays: times
    that were told, waits that were over, signals that had come.

    Args:
        rows: The number, the path, the kind and the digest of each record, in the order they were
            written.
        failures: The paths of the failures that ended the run.

    Returns:
        The numbers of those records.
    """
    failed = {path for path in failures if not path.endswith("/")}
    # It was compensated, and what came after it built on it.
    compensated = tuple(path for path in failures if path.endswith("/"))
    first = min((n for n, path, *_ in rows if path.startswith(compensated)), default=None)
    parents = {path.rpartition("/")[0] for _, path, *_ in rows}
    last_call = {path.rpartition("/")[0]: number for number, path, *_ in rows if "#" not in path}
    timed_out = {path for _, path, kind, _ in rows if "#" in path and kind == Kind.ERROR}
    consequences = _consequences(rows, failed)
    below = tuple(f"{path}{separator}" for path in consequences for separator in "/[#")
    numbers: set[int] = set()
    for number, path, kind, _ in rows:
        node, is_own, what = path.partition("#")
        if kind == Kind.DATA:
            continue
        if not is_own:
            # What a failure elsewhere cancelled is under way again; where the code that had called
            # it went on to call something else, it was that code's own doing.
            was_stopped = kind == Kind.CANCELLED and last_call[path.rpartition("/")[0]] == number
            is_undone = path in failed or was_stopped
        elif what.startswith("deadline"):
            is_undone = any(node == path or node.startswith(f"{path}/") for path in failed)
        elif failed.intersection((path, path.rpartition("#")[0])) - {node}:
            is_undone = True  # of a wait that failed by itself
        elif node not in failed:
            is_undone = False
        else:
            is_leaf = node not in parents
            is_undone = (
                kind == Kind.ERROR
                or what == "begun"
                or path.removesuffix("#until") in timed_out
                or (kind == Kind.TIME and is_leaf)
            )
        is_undone = is_undone or path in consequences or path.startswith(below)
        if is_undone or (first is not None and number >= first):
            numbers.add(number)
    return numbers


def _consequences(rows: Sequence[tuple[int, str, int, bytes]], failed: set[str]) -> list[str]:
    """The paths of the calls that code made after one that failed, before it failed for that."""
    marks: dict[str, set[bytes]] = {}
    paths: list[str] = []
    for _, path, kind, digest in rows:
        above = path.rpartition("/")[0]
        if "#" in path or above not in failed:
            continue
        after = marks.setdefault(above, set())
        if kind == Kind.ERROR and path in failed:
            after.add(mark_of(path))
        elif mark_in(digest) in after:
            after.add(mark_of(path))
            paths.append(path)
    return paths
