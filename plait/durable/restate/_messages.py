"""Signals that a run is sent and events that it sets: promises of Restate's, by these names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from restate.serde import BytesSerde

from plait.durable.restate._driver import Wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

BYTES = BytesSerde()
"""Restate is handed bytes, which a codec has made."""


def signal_name(name: str, number: int) -> str:
    """The promise of the signal of a name that comes at that place, from 0."""
    return f"signal {number} {name}"


def event_name(name: str) -> str:
    """The promise, and the state, of an event."""
    return f"event {name}"


class Mailbox:
    """The signals of one name that a run is sent, in their order.

    Args:
        name: Their name.
        promised: Waits for a promise.
    """

    def __init__(self, name: str, promised: Callable[[str], Awaitable[bytes]]) -> None:
        self._name = name
        self._promised = promised
        self._received = 0
        self._freed: Wait | None = None

    async def receive(self) -> bytes:
        """Wait for the next one."""
        while self._freed is not None:
            await self._freed
        freed = self._freed = Wait()
        try:
            message = await self._promised(signal_name(self._name, self._received))
            self._received += 1
            return message
        finally:
            self._freed = None
            freed.set()
