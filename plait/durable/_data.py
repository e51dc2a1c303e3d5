"""What nodes write into `context.data`, as a journal keeps it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from plait.durable._codec import IN_MEMORY
from plait.durable._stored import Kind
from plait.primitives import SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from plait.durable._codec import Codec
    from plait.durable._stored import Record


class DataLog:
    """Knows what a journal holds of a run's data, and so what has changed since.

    Args:
        records: What is recorded already.
        codec: How values are encoded.
    """

    __slots__ = ("_codec", "_kept", "_known", "_writes", "_written", "_written_now")

    def __init__(self, records: Sequence[Record], codec: Codec) -> None:
        self._codec = codec
        self._writes: Sequence[tuple[str, int, bytes]] = ()
        self._kept: Sequence[tuple[int, bytes]] = ()
        if records:
            numbered = [(n, r, r.data) for n, r in enumerate(records) if r.data]
            self._writes = sorted((r.path, n, data) for n, r, data in numbered)
            self._kept = [(n, data) for n, r, data in numbered if r.kind == Kind.DATA]
        self._written: dict[str, int] = {}
        self._known: dict[str, bytes] = {}
        self._written_now: dict[str, None] = {}

    @property
    def is_written(self) -> bool:
        """Whether anything is recorded to have been written."""
        return bool(self._writes)

    def start_from(self, data: dict[str, Any]) -> None:
        """Take the data that the run was started with as known to the journal."""
        self._known = {key: IN_MEMORY.encode(value) for key, value in data.items()}
        for order, encoded in self._kept:
            self._apply(order, encoded, data)

    def changes(self, path: str, data: dict[str, Any], *, or_raise: bool = True) -> bytes | None:
        """What changed in the data since the last record, nested changes too.

        Args:
            path: The node that ends now.
            data: The data.
            or_raise: Whether to refuse what cannot be encoded, or leave it out.

        Raises:
            SerializationError: Something cannot be encoded.
        """
        if not data and not self._known:
            return None
        changed: dict[str, bytes] = {}
        for key, value in data.items():
            try:
                encoded = IN_MEMORY.encode(value)
            except SerializationError as error:
                if not or_raise:
                    continue
                where = f"context.data[{key!r}]{error.where}"
                raise SerializationError(error.kind, where, error.reason) from None
            if self._known.get(key) != encoded:
                changed[key] = encoded
        removed = [key for key in self._known if key not in data]
        if not changed and not removed:
            return None
        self._known.update(changed)
        for key in removed:
            del self._known[key]
        self._written_now[path] = None
        return self._codec.encode(({key: data[key] for key in changed}, removed))

    def apply_below(self, path: str, data: dict[str, Any]) -> None:
        """Write again what a node and those below it wrote, unless something later did already."""
        for _, order, encoded in sorted(self._found_below(path), key=itemgetter(1)):
            self._apply(order, encoded, data)

    def has_below(self, path: str) -> bool:
        """Whether anything below a node wrote something."""
        prefixes = (f"{path}/", f"{path}[")
        return bool(self._found_below(path)) or any(
            written.startswith(prefixes) for written in self._written_now
        )

    def _found_below(self, path: str) -> list[tuple[str, int, bytes]]:
        if not self._writes:
            return []
        writer = itemgetter(0)
        first = bisect_left(self._writes, path, key=writer)
        own = slice(first, bisect_right(self._writes, path, key=writer))
        parts = (own, *below(self._writes, path, key=writer))
        found: chain[Any] = chain.from_iterable(self._writes[part] for part in parts)
        return list(found)

    def _apply(self, order: int, encoded: bytes, data: dict[str, Any]) -> None:
        changed, removed = self._codec.decode(encoded)
        for key in (*changed, *removed):
            if self._written.get(key, -1) >= order:
                continue
            self._written[key] = order
            if key in changed:
                data[key] = changed[key]
                self._known[key] = IN_MEMORY.encode(changed[key])
            else:
                data.pop(key, None)
                self._known.pop(key, None)


def below(
    found: Sequence[Any], path: str, *, key: Callable[[Any], str] | None = None
) -> list[slice]:
    """Where, in what is sorted by path, the nodes below one stand; the last part comes first."""
    # "0" comes right after "/", and "\\" after "[": all that lies below is in between.
    ends = ((f"{path}[", f"{path}\\"), (f"{path}/", f"{path}0"))
    return [
        slice(bisect_left(found, first, key=key), bisect_left(found, after, key=key))
        for first, after in ends
    ]
