"""What a journal says that a run has done: what its next execution is told."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING

from plait.durable._data import below
from plait.durable._stored import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plait.durable._stored import Record

_NAME = re.compile(r"(/\d+):[^/\[#]*")
_CALL = re.compile(r"(.*)/(\d+):([^/\[#]*)")
_BELOW = re.compile(r"[/\[]")
_CALL_KIND, _DATA_KIND = Kind.CALL.value, Kind.DATA.value
RACED = b"\0raced"
"""Begins the digest of what ended while others were under way."""
GIVEN_UP = "#given up"
"""Ends the path of what says that a signal which was taken is another wait's."""
ARRIVED = "#arrived"
"""Ends the path of what says so where the record itself could not."""
_MARK = 4
"""How many bytes of a call's digest say after which other call it was made."""
_ORDINAL = 3
"""How many bytes of it say which it is of those that are alike."""


class History(dict[str, "Record"]):
    """A run's records, found by path.

    Args:
        records: The records, in the order they were written.
    """

    __slots__ = ("_calls", "_places", "_raced", "_sorted")

    def __init__(self, records: Sequence[Record]) -> None:
        # A call that has ended since has a later record at the same path.
        super().__init__({r.path: r for r in records if r.kind != _DATA_KIND} if records else ())
        self._raced = [r for r in records if r.digest.startswith(RACED)] if records else []
        self._places: dict[str, str] | None = None
        self._calls: dict[str, Calls] | None = None
        self._sorted: list[str] | None = None

    def outcome(self, path: str) -> Record | None:
        """How the node at a path ended, where it has."""
        record = self.get(path)
        return None if record is None or record.kind == _CALL_KIND else record

    def reaches(self, path: str) -> bool:
        """Whether something is recorded of a node or below it."""
        if self._sorted is None:
            self._sorted = sorted(self)
        return path in self or any(part.start < part.stop for part in below(self._sorted, path))

    def is_passed_on(self, path: str) -> bool:
        """Whether another wait got the signal that the one at a path had taken."""
        taker = path.encode()
        return any(
            record.digest == taker and record.kind == Kind.VALUE and "#signal:" in other
            for other, record in self.items()
        )

    def failures_down_to(self, path: str) -> list[str]:
        """The nodes above one, and that one, that are recorded to have failed."""
        nodes = [path[: end.start()] for end in _BELOW.finditer(path)]
        failed = [node for node in nodes if self._is_failure(node)]
        return [*failed, path] if path in self else failed

    def renamed(self, path: str) -> str | None:
        """The path of another node that is recorded at the place of the one at this path."""
        if self._places is None:
            self._places = {
                _NAME.sub(r"\1", path): path
                for path, record in self.items()
                if record.kind in (Kind.VALUE, Kind.ERROR)
            }
        # The same place under another name is a workflow that was changed.
        return self._places.get(_NAME.sub(r"\1", path))

    def arrivals(self) -> list[str]:
        """The records of what raced, in the order in which it reached the code of the run."""
        return [
            record.path
            for record in self._raced
            if self.get(record.path) is record
            and self._comes_again(record.path.removesuffix(ARRIVED))
        ]

    def _comes_again(self, path: str) -> bool:
        """Whether code asks for something again: neither it nor what is around it stands for it."""
        own = self.get(path)
        return (
            (own is None or own.kind != Kind.CANCELLED)
            and f"{path}{GIVEN_UP}" not in self
            and not any(self._has_ended(path[: end.start()]) for end in _BELOW.finditer(path))
        )

    def _has_ended(self, path: str) -> bool:
        record = self.get(path)
        return record is not None and record.kind in (Kind.VALUE, Kind.ERROR)

    def _is_failure(self, path: str) -> bool:
        record = self.get(path)
        return record is not None and record.kind == Kind.ERROR

    def calls(self, parent: str) -> Calls:
        """The calls that the body of a node is recorded to have made."""
        if self._calls is None:
            self._calls = {}
            for path, record in self.items():
                if match := _CALL.fullmatch(path):
                    above, number, label = match.groups()
                    calls = self._calls.setdefault(above, Calls(above))
                    calls.add(int(number), label, record)
        return self._calls.setdefault(parent, Calls(parent))


class Calls:
    """The calls that imperative code makes, and those that it is recorded to have made.

    A replay finds a call again by what it is (its name, its input, and the call that its own task
    made before), not by when it is made: tasks may interleave differently. Of calls that are alike
    in all of that, each has an ordinal, so that one which was under way keeps its own.

    Args:
        parent: The path of the node whose code makes them.
    """

    def __init__(self, parent: str) -> None:
        self._parent = parent
        self._unmade: dict[tuple[str, bytes], dict[int, tuple[int, bytes]]] = {}
        self._alike: dict[tuple[str, bytes], int] = {}
        self._after: dict[bytes, list[int]] = {}
        self._labels: dict[int, str] = {}
        self._taken: set[int] = set()
        self._ordinals: dict[tuple[str, bytes], set[int]] = {}
        self.has_failures = False
        self.made = 0
        """How many of the recorded calls have been made again."""

    def add(self, number: int, label: str, record: Record) -> None:
        """Take a record into account."""
        digest = record.digest.removeprefix(RACED)
        alike, ordinal = digest[:-_ORDINAL], int.from_bytes(digest[-_ORDINAL:], "big")
        self._taken.add(number)
        self._labels[number] = label
        self._unmade.setdefault((label, alike), {})[ordinal] = number, record.digest
        self._ordinals.setdefault((label, alike), set()).add(ordinal)
        self._after.setdefault(alike[-_MARK:], []).append(number)
        self.has_failures |= record.kind in (Kind.ERROR, Kind.CANCELLED)

    def claim(self, label: str, alike: bytes, *, is_late: bool = False) -> tuple[int, bytes] | None:
        """The number and digest of a recorded call, which nobody else gets from now on.

        Args:
            label: Its label.
            alike: What it is recognised by.
            is_late: Whether any that is alike will do, since nobody else asks for it.
        """
        key = label, alike
        recorded = self._unmade.get(key)
        if not recorded:
            return None
        if is_late:
            which = min(recorded)
        else:
            which = self._alike[key] = self._alike.get(key, 0) + 1
        found = recorded.pop(which, None)
        if found is not None:
            self._after[alike[-_MARK:]].remove(found[0])
            self.made += 1
        return found

    def unmade(self, alike: bytes) -> str | None:
        """The path of the first call recorded at the same point of the code and not made yet."""
        numbers = self._after.get(alike[-_MARK:])
        if not numbers:
            return None
        number = min(numbers)
        return f"{self._parent}/{number}:{self._labels[number]}"

    def take(self, wanted: int, label: str, alike: bytes) -> tuple[int, bytes]:
        """The number and digest of a call that is not recorded; the wanted one where it is free."""
        number = wanted if wanted not in self._taken else _first_free(self._taken)
        self._taken.add(number)
        ordinals = self._ordinals.setdefault((label, alike), set())
        ordinal = _first_free(ordinals)
        ordinals.add(ordinal)
        return number, alike + ordinal.to_bytes(_ORDINAL, "big")


def _first_free(taken: set[int]) -> int:
    number = len(taken) + 1
    if number not in taken:
        return number
    number = 1
    while number in taken:
        number += 1
    return number


def name_of(label: str, digest: bytes) -> str:
    """What a call is known by wherever it is made: its name, what it is, and which one of those."""
    digest = digest.removeprefix(RACED)
    ordinal = int.from_bytes(digest[-_ORDINAL:], "big")
    name = f"{label}~{blake2b(digest[:-_ORDINAL], digest_size=5).hexdigest()}"
    return name if ordinal == 1 else f"{name}.{ordinal}"


def call_digest(input_digest: bytes, previous: str) -> bytes:
    """What a call is recognised by, but for its ordinal.

    Args:
        input_digest: The digest of its input.
        previous: The path of the call that its task made before; empty for none.
    """
    return input_digest + mark_of(previous)


def mark_of(path: str) -> bytes:
    """What stands for a call in the digests of those that its task makes next."""
    return blake2b(path.encode(), digest_size=_MARK).digest()


def mark_in(digest: bytes) -> bytes:
    """What a call's digest says of the call before it."""
    return digest[-_MARK - _ORDINAL : -_ORDINAL]
