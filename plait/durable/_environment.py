"""What a runner gives each of the runs that it executes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from plait.durable._blobs import Blobs
    from plait.durable._codec import Codec
    from plait.durable._journal import Journal
    from plait.durable._recorder import Recorder
    from plait.durable._topics import Topics

Durability: TypeAlias = Literal["sync", "async", "exit"]


class Environment(NamedTuple):
    """What a run is executed with, whichever run it is.

    Attributes:
        journal: Where records go.
        codec: How values are encoded.
        blobs: Where large payloads go.
        topics: Tells of news.
        spawn: Begins a task that outlives the run's own.
        call_soon: Has a function called on the event loop, from any thread.
        on_idle: Is told of a run that there is nothing left to do but wait, or is again.
        awaited: For which payload types runs have waited: by workflow, then by signal.
        durability: Whether what comes next waits until a record is on disk ("sync"), or the run's
            end does ("async"), or whether records are handed in only then ("exit").
        capabilities: What the runner has that steps may need.
    """

    journal: Journal
    codec: Codec
    blobs: Blobs
    topics: Topics
    spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], object]
    call_soon: Callable[[Callable[[], None]], object]
    on_idle: Callable[[Recorder, bool], None]
    awaited: dict[str, dict[str, list[Any]]]
    durability: Durability
    capabilities: frozenset[str]
