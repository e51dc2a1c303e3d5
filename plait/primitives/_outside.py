"""What a run has of the world outside where no durable runner brings it: signals, events, state."""

from __future__ import annotations

import copy
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from plait.primitives._errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    import anyio

T = TypeVar("T")


class SignalPayloadError(PermanentError, ValueError):
    """A signal brought a payload of another type than the one that is waited for.

    Args:
        signal: The signal's name.
        reason: What does not fit.
    """

    def __init__(self, signal: str, reason: str) -> None:
        super().__init__(signal, reason)
        self.signal = signal
        self.reason = reason

    def __str__(self) -> str:
        return f"the payload of signal {self.signal!r} does not fit: {self.reason}"


def checked_payload(signal: str, payload: Any, payload_type: Any) -> Any:
    """A payload as the type that is waited for; dicts become models and dataclasses.

    Raises:
        SignalPayloadError: It does not fit.
    """
    if payload_type is object:
        return payload
    from pydantic import ValidationError

    from plait.primitives._encoded_types import adapter

    known = adapter(payload_type)
    if known is None:
        if isinstance(payload, payload_type):
            return payload
        raise SignalPayloadError(signal, f"{payload!r} is no {payload_type.__qualname__}")
    try:
        return known.validate_python(payload)
    except ValidationError as error:
        found = ((".".join(map(str, e["loc"])), e["msg"]) for e in error.errors())
        reason = "; ".join(f"{place}: {what}" if place else what for place, what in found)
        raise SignalPayloadError(signal, reason) from None


class Outside:
    """Signals that a run was sent, events that it published, and its entities, in this process.

    Args:
        new_event: Makes what one task waits for and another sets.
    """

    def __init__(self, new_event: Callable[[], anyio.Event]) -> None:
        self._new_event = new_event
        self._payloads: dict[str, deque[Any]] = {}
        self._changed: dict[object, anyio.Event] = {}
        self._entities: dict[object, Any] = {}
        self._held: set[object] = set()
        self.events: dict[str, Any] = {}

    def send(self, name: str, payload: object) -> None:
        """Keep a signal until somebody waits for it."""
        self._payloads.setdefault(name, deque()).append(payload)
        self._wake(name)

    async def receive(self, name: str) -> Any:
        """Wait for a signal; of several, the oldest."""
        payloads = self._payloads.setdefault(name, deque())
        while not payloads:
            await self._change_of(name)
        return payloads.popleft()

    @asynccontextmanager
    async def entity(
        self, place: tuple[type[T], str], default: Callable[[], T]
    ) -> AsyncGenerator[T, None]:
        """Hold an entity; one at a time for a key."""
        while place in self._held:
            await self._change_of(place)
        self._held.add(place)
        try:
            kept = self._entities.get(place)
            # A copy: what is changed inside of a block that fails is not kept.
            state: T = default() if kept is None else copy.deepcopy(kept)
            yield state
            self._entities[place] = state
        finally:
            self._held.remove(place)
            self._wake(place)

    async def _change_of(self, topic: object) -> None:
        await self._changed.setdefault(topic, self._new_event()).wait()

    def _wake(self, topic: object) -> None:
        changed = self._changed.pop(topic, None)
        if changed is not None:
            changed.set()
