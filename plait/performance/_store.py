"""Where results are kept: the protocol, and this process's memory."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Hashable


class Kept(NamedTuple):
    """What a store has of a key.

    Attributes:
        value: The result.
        overdue_seconds: For how long it has been stale; negative while it is fresh.
    """

    value: Any
    overdue_seconds: float


class CacheStore(Protocol):
    """Where a cache keeps its results.

    A store of one's own may be shared by caches: what they keep is told apart by the namespace.
    """

    async def get(self, namespace: str, key: Hashable, now: float) -> Kept | None:
        """What is kept of a key; None where nothing is, or not any more.

        Args:
            namespace: Whose keys these are.
            key: The key.
            now: The time, in seconds on the clock of `set`'s.
        """
        ...

    async def set(
        self,
        namespace: str,
        key: Hashable,
        value: Any,
        *,
        now: float,
        fresh_seconds: float,
        stale_seconds: float,
    ) -> None:
        """Keep a result.

        Args:
            namespace: Whose keys these are.
            key: The key.
            value: The result.
            now: The time, in seconds on a clock that only goes forward.
            fresh_seconds: How long it is fresh.
            stale_seconds: How much longer it is kept.
        """
        ...

    async def delete(self, namespace: str, key: Hashable) -> None:
        """Forget a key."""
        ...

    async def clear(self, namespace: str) -> None:
        """Forget all keys of a namespace."""
        ...


# Until when it is fresh, until when it is kept, and the result.
Entry: TypeAlias = tuple[float, float, Any]


class MemoryStore:
    """Keeps results in this process, and drops the least recently used one when it is full.

    The results themselves are kept, not copies: a caller that changes one changes it for all.

    Args:
        max_size: How many results it keeps of each namespace, so that a cache of many keys does
            not displace what another one keeps.

    Raises:
        ValueError: `max_size` is not positive.

    Example:
        >>> from plait import CachePrimitive
        >>> from plait.performance import MemoryStore
        >>> store = MemoryStore(max_size=100)
        >>> lower, upper = (CachePrimitive(f, 60, store=store) for f in (str.lower, str.upper))
        >>> lower.run_sync("Ada"), upper.run_sync("Ada"), len(store)
        ('ada', 'ADA', 2)
    """

    def __init__(self, max_size: int = 1024) -> None:
        if max_size < 1:
            msg = f"max_size={max_size!r} must be at least 1"
            raise ValueError(msg)
        self._max_size = max_size
        self._spaces: dict[str, OrderedDict[Hashable, Entry]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._spaces.values()))

    def space(self, namespace: str) -> OrderedDict[Hashable, Entry]:
        """What is kept of a namespace, the least recently used first."""
        return self._spaces.setdefault(namespace, OrderedDict())

    async def get(self, namespace: str, key: Hashable, now: float) -> Kept | None:
        """What is kept of a key; None where nothing is, or not any more."""
        kept = self.space(namespace)
        entry = kept.get(key)
        if entry is None:
            return None
        fresh_until, kept_until, value = entry
        if now >= kept_until:
            del kept[key]
            return None
        kept.move_to_end(key)
        return Kept(value, now - fresh_until)

    async def set(
        self,
        namespace: str,
        key: Hashable,
        value: Any,
        *,
        now: float,
        fresh_seconds: float,
        stale_seconds: float,
    ) -> None:
        """Keep a result."""
        kept = self.space(namespace)
        fresh_until = now + fresh_seconds
        kept[key] = fresh_until, fresh_until + stale_seconds, value
        kept.move_to_end(key)
        if len(kept) > self._max_size:
            kept.popitem(last=False)

    async def delete(self, namespace: str, key: Hashable) -> None:
        """Forget a key."""
        self.space(namespace).pop(key, None)

    async def clear(self, namespace: str) -> None:
        """Forget all keys of a namespace."""
        self.space(namespace).clear()
