"""The axis of a run's timeline: which time lies where."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from plait.durable._timeline import Node

_WIDTH = 100.0
_LONG = 2.0
"""How many times longer than all that was executed an idle time is that is cut short."""
_CUT = 0.2
_TICKS = 5
_DAY = 86_400
_STEPS = (
    *(count * unit for unit in (0.001, 0.01, 0.1, 1.0) for count in (1, 2, 5)),
    *(10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200),
)
_ROOM = 12.0
"""How far from the next a tick is at the least, so that their texts do not touch."""


class Tick(NamedTuple):
    """A place on the axis, and how long after the run's start it is."""

    at: float
    text: str


class Cut(NamedTuple):
    """An idle time that is drawn shorter than it was: where, how long, whether to say so there."""

    at: float
    width: float
    text: str
    has_room: bool


class Scale:
    """Where times lie between 0 and 100: as they passed, but for idle times that are cut short."""

    def __init__(self, root: Node, now: float) -> None:
        self._now = now
        self._begin = now if root.began is None else root.began
        self._end = max(self._begin, now if root.ended is None else root.ended)
        busy = self._busy(root)
        worked = sum(until - since for since, until in busy)
        idle = self._idle(busy) if worked > 0 else []
        self._idle_times = [
            (since, until) for since, until in idle if until - since > _LONG * worked
        ]
        self._cut_to = _CUT * worked
        saved = sum(until - since - self._cut_to for since, until in self._idle_times)
        self._span = self._end - self._begin - saved
        self.cuts = list(self._cuts())

    def place(self, time: float) -> float:
        """Where a time lies."""
        passed = min(max(time, self._begin), self._end) - self._begin
        for since, until in self._idle_times:
            length = until - since
            idle = min(max(time - since, 0.0), length)
            passed -= idle * (1 - self._cut_to / length)
        return _WIDTH * passed / self._span if self._span > 0 else 0.0

    def offset(self, time: float) -> float:
        """How long after the run's start a time is."""
        return time - self._begin

    def until(self, node: Node) -> float:
        """When a node ended, or now."""
        return self._now if node.ended is None else node.ended

    def ticks(self) -> Iterator[Tick]:
        """The axis: evenly, or only where it begins and ends, where something is cut."""
        whole = self._end - self._begin
        yield Tick(0.0, "0")
        if not self._idle_times:
            step = _nice(whole / _TICKS)
            count = 1
            while whole > 0 and count * step / whole * _WIDTH < _WIDTH - _ROOM:
                yield Tick(count * step / whole * _WIDTH, duration(count * step))
                count += 1
        if whole > 0:
            yield Tick(_WIDTH, duration(whole))

    def _busy(self, root: Node) -> list[tuple[float, float]]:
        """When something was executed, in order and without overlaps."""
        worked = [span for node in root.walk() if not is_group(node) for span in self._work(node)]
        merged: list[tuple[float, float]] = []
        for since, until in sorted(worked):
            if merged and since <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(until, merged[-1][1])
            else:
                merged.append((since, until))
        return merged

    def _work(self, node: Node) -> Iterator[tuple[float, float]]:
        """When a node itself was executed, and did not wait."""
        if node.began is None or is_wait(node):
            return
        since = node.began
        for child in node.children:
            if child.began is not None:
                yield since, max(since, child.began)
                since = max(since, self.until(child))
        yield since, max(since, self.until(node))

    def _cuts(self) -> Iterator[Cut]:
        before = 0.0
        for since, until in self._idle_times:
            at, end = self.place(since), self.place(until)
            middle = (at + end) / 2
            has_room = before + _ROOM < middle < _WIDTH - _ROOM
            before = middle if has_room else before
            yield Cut(at, end - at, duration(until - since), has_room)

    def _idle(self, busy: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
        times = [self._begin, *(time for span in busy for time in span), self._end]
        return list(zip(times[::2], times[1::2], strict=True))


def _nice(step: float) -> float:
    """The next round number of seconds, in a unit that people count in."""
    return next((nice for nice in _STEPS if nice >= step), _DAY * -(-step // _DAY))


def is_group(node: Node) -> bool:
    """Whether a node only stands for those below it."""
    return any(not is_wait(child) for child in node.children)


def is_wait(node: Node) -> bool:
    """Whether a node only lets time pass, or waits for others."""
    return "#" in node.path.rpartition("/")[2]


def duration(seconds: float) -> str:
    """A length of time for people, in one or two units.

    Example:
        >>> duration(0.25), duration(93), duration(90_000)
        ('250 ms', '1 min 33 s', '1 d 1 h')
    """
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.5:
        return f"{round(seconds, 1 if seconds < 9.95 else 0):g} s"
    whole = round(seconds)
    for unit, length, below, part in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60)):
        if whole >= length:
            rest = whole % length // part
            return f"{whole // length} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
