"""Tells those who wait in this process that something they wait for may have happened."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator

    from plait.durable._turns import Turn

_TURN = "turn:"


class News:
    """Whether there was news of a topic since it was last waited for."""

    def __init__(self) -> None:
        self._came = anyio.Event()

    @property
    def has_come(self) -> bool:
        """Whether there was news."""
        return self._came.is_set()

    def set(self) -> None:
        """Let the one who waits look again."""
        self._came.set()

    async def wait(self) -> None:
        """Wait until there is news."""
        await self._came.wait()
        self._came = anyio.Event()


class Topics:
    """Who listens to what. The topics are those of `Wait`, and turns.

    Args:
        nudge: Has the journal looked at, for what waits out of memory.
    """

    def __init__(self, nudge: Callable[[], None] = lambda: None) -> None:
        self._nudge = nudge
        self._listeners: dict[str, list[News]] = {}

    @contextmanager
    def listening(self, *topics: str) -> Generator[News, None, None]:
        """Listen from now on, so that what is published before one waits is not missed."""
        news = News()
        for topic in topics:
            self._listeners.setdefault(topic, []).append(news)
        try:
            yield news
        finally:
            for topic in topics:
                listeners = self._listeners[topic]
                listeners.remove(news)
                if not listeners:
                    del self._listeners[topic]

    def publish(self, topic: str) -> None:
        """Have everybody who listens to a topic look again."""
        for news in self._listeners.get(topic, ()):
            news.set()

    def publish_all(self) -> None:
        """Have everybody look again: another process wrote something.

        But not those who wait for their turn: of them, the journal knows which one is to look.
        """
        for topic in self._listeners:
            if not topic.startswith(_TURN):
                self.publish(topic)

    def pass_on(self, turn: Turn) -> None:
        """Tell the next one in a line, also where that waits out of memory."""
        topic = turn_topic(turn)
        if topic in self._listeners:
            self.publish(topic)
        else:
            self._nudge()


def signal_topic(run_id: str, name: str) -> str:
    """What a run that waits for a signal listens to."""
    return f"signal:{run_id}:{name}"


def event_topic(run_id: str, name: str) -> str:
    """What those who wait for a run's event listen to."""
    return f"event:{run_id}:{name}"


def end_topic(run_id: str) -> str:
    """What those who wait for a run's end listen to."""
    return f"run:{run_id}"


def needs_topic(needs: Collection[str]) -> str:
    """What a run waits for that needs a runner which has these tags."""
    return f"needs:{','.join(sorted(needs))}"


def needs_in(topic: str) -> frozenset[str]:
    """The tags that a run waits for a runner with; none where the topic is another."""
    kind, _, rest = topic.partition(":")
    return frozenset(rest.split(",")) if kind == "needs" else frozenset()


def entity_topic(kind: str, key: str) -> str:
    """What those who wait for an entity wait for."""
    return f"entity:{kind}:{key}"


def turn_topic(turn: Turn) -> str:
    """What one of them listens to."""
    return f"{_TURN}{turn.run}:{turn.path}"
