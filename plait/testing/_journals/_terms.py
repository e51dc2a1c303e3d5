"""Short ways to say what the tests of journals hand in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plait.durable._stored import Kind, NewRun, Record, Wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Sequence

    from plait.durable import Journal, RunStatus
    from plait.durable._stored import Claimed, QueueLimits, StoredRun

VALUE, ERROR, TIME, DATA = (kind.value for kind in (Kind.VALUE, Kind.ERROR, Kind.TIME, Kind.DATA))


def new(
    run_id: str = "run", workflow: str = "flow", *, created: float = 100.0, **more: Any
) -> NewRun:
    """What a run is started with."""
    return NewRun(run_id, workflow, b"digest", b'"input"', b"{}", created, **more)


def record(
    run: int,
    path: str = "flow",
    payload: bytes = b"1",
    kind: int = VALUE,
    *,
    digest: bytes = b"",
    data: bytes | None = None,
    seconds: float | None = None,
) -> Record:
    """A record of a run."""
    return Record(run, path, kind, digest, payload, data, seconds)


def forever(topic: str = "", path: str = "flow") -> Wait:
    """A wait that time does not end."""
    return Wait(path, topic, None)


async def start(journal: Journal, run_id: str = "run", workflow: str = "flow", **more: Any) -> int:
    """Create a run; its key."""
    ((stored, is_new),) = await journal.create([new(run_id, workflow, **more)])
    assert is_new
    return stored.key


async def claim(
    journal: Journal,
    *workflows: str,
    queues: Sequence[QueueLimits] = (),
    now: float = 200.0,
    limit: int = 100,
    has: Collection[str] = (),
) -> Claimed:
    """What there is to be executed."""
    return await journal.claim(workflows or ("flow",), queues, now, limit, has)


async def claimed(journal: Journal, *workflows: str, **more: Any) -> list[str]:
    """The ids of the runs that a claim gives."""
    found = await claim(journal, *workflows, **more)
    return [run.start.run_id for run, _ in found.runs]


async def find(journal: Journal, run_id: str = "run") -> StoredRun:
    """A run that is there."""
    found = await journal.find(run_id)
    assert found is not None
    return found


async def status(journal: Journal, run_id: str = "run") -> RunStatus:
    """Where a run is."""
    return (await find(journal, run_id)).status


async def paths(journal: Journal, key: int) -> list[str]:
    """The paths of a run's records."""
    return [found.path for found in await journal.records(key)]


async def settled(answer: Awaitable[object]) -> None:
    """Await an answer in a task of its own."""
    await answer
