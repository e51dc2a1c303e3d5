"""What can be asked and said of runs without executing any."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from plait.durable._blobs import REFERENCES, blob_key
from plait.durable._errors import JournalError, RunEndedError, RunNotFoundError
from plait.durable._info import RunInfo
from plait.durable._stored import ENDED, Kind, RunQuery
from plait.durable._topics import Topics, end_topic, event_topic, signal_topic
from plait.primitives import Failure, Outcome, StepTimeoutError, Success

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Mapping

    from plait.durable._blobs import Blobs
    from plait.durable._codec import Codec
    from plait.durable._journal import Journal
    from plait.durable._stored import RunStatus, StoredRun

T = TypeVar("T")

_PRUNED_AT_ONCE = 200


class RunClient:
    """Looks at the runs of a journal, and tells them something.

    Args:
        journal: Where they are.
        codec: How values are encoded.
        blobs: Where large payloads are.
        topics: Who in this process waits for news.
        timestamp: Tells the time, in seconds since the epoch.
    """

    def __init__(
        self,
        journal: Journal,
        codec: Codec,
        blobs: Blobs,
        topics: Topics,
        timestamp: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._codec = codec
        self._blobs = blobs
        self._topics = topics
        self._timestamp = timestamp

    async def info(self, run_id: str) -> RunInfo:
        """What the journal knows of a run.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return RunInfo.of(await self._find(run_id), self._codec)

    async def list(
        self,
        *,
        workflow: str | None = None,
        status: RunStatus | Collection[RunStatus] = (),
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
        parent: str | None = None,
        queue: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[RunInfo]:
        """Runs in the journal, the newest first.

        Args:
            workflow: Only those of the workflow of this name.
            status: Only those with this status, or one of these.
            created_after: Only those started then or later.
            created_before: Only those started before.
            metadata: Only those that were started with these values.
            parent: Only those that this run started.
            queue: Only those of this queue.
            before: Only those started before this run, by its id: how a long list goes on.
            limit: How many at the most.

        Raises:
            RunNotFoundError: There is no run `before`.
            ValueError: The limit is not positive.
        """
        if limit < 1:
            msg = f"limit={limit!r} of a list of runs must be at least 1"
            raise ValueError(msg)
        query = RunQuery(
            workflow=workflow,
            statuses=(status,) if isinstance(status, str) else tuple(status),
            created_after=None if created_after is None else created_after.timestamp(),
            created_before=None if created_before is None else created_before.timestamp(),
            metadata=dict(metadata or {}),
            parent=parent,
            queue=queue,
            before=None if before is None else (await self._find(before)).key,
            limit=limit,
        )
        return [RunInfo.of(stored, self._codec) for stored in await self._journal.list(query)]

    async def signal(
        self, run_id: str, name: str, payload: object = None, *, signal_id: str | None = None
    ) -> None:
        """Send a run a signal, which is kept until it waits for it.

        Args:
            run_id: The run.
            name: The signal's name.
            payload: What it brings.
            signal_id: Makes sending it twice the same as once.

        Raises:
            RunNotFoundError: There is no such run.
            RunEndedError: It has ended.
            SerializationError: The payload has no encoded form.
        """
        encoded = await self._blobs.put(self._codec.encode(payload))
        status = await self._journal.send(run_id, name, encoded, signal_id, self._timestamp())
        if status is None:
            raise self._not_found(run_id)
        if status in ENDED:
            msg = f"run {run_id!r} has {status}, and takes no signal {name!r} any more"
            raise RunEndedError(msg)
        self._news(signal_topic(run_id, name))

    async def cancel(self, run_id: str) -> bool:
        """Ask a run to stop: its steps are cancelled, and its compensations run.

        Returns:
            Whether it had not ended yet.

        Raises:
            RunNotFoundError: There is no such run.
        """
        if not await self._journal.cancel(run_id, self._timestamp()):
            await self._find(run_id)
            return False
        self._news("")
        return True

    async def event(self, run_id: str, name: str, *, timeout: float | None = None) -> Any:
        """Wait for an event that a run sets, and return its value.

        Args:
            run_id: The run.
            name: The event's name.
            timeout: How long to wait, in seconds.

        Raises:
            RunNotFoundError: There is no such run.
            RunEndedError: The run ended without it.
            StepTimeoutError: It was not set in time.
        """
        with self._topics.listening(event_topic(run_id, name), end_topic(run_id)) as news:
            with anyio.move_on_after(timeout):
                while (found := await self._event(run_id, name)) is None:
                    await news.wait()
                return value_of(found)
        assert timeout is not None
        msg = f"run {run_id!r} set no event {name!r} within {timeout:g} s"
        raise StepTimeoutError(msg, timeout)

    async def prune(
        self,
        older_than: timedelta | float,
        *,
        status: RunStatus | Collection[RunStatus] = ENDED,
        blobs_older_than: timedelta | float = timedelta(days=1),
    ) -> int:
        """Remove runs that ended some time ago, with all that is recorded of them.

        Where there is a blob store, the blobs that nothing refers to any more are removed as well:
        all of them, so that a store is one journal's alone.

        Args:
            older_than: How long ago they ended, at the least; a number is in seconds.
            status: Only those with this status, or one of these.
            blobs_older_than: How long ago such a blob was put there, at the least; a number is in
                seconds. It has to be more than it takes to write a record after its blob: with
                `durability="exit"`, more than runs take.

        Returns:
            How many runs were removed.

        Raises:
            ValueError: A status is none of a run that has ended.
        """
        statuses = (status,) if isinstance(status, str) else tuple(status)
        if unended := set(statuses).difference(ENDED):
            msg = f"runs that are {', '.join(sorted(unended))} have not ended: they are not pruned"
            raise ValueError(msg)
        before, removed = self._timestamp() - _seconds(older_than), 0
        # A few at a time: what else the journal has to do must not wait for long.
        while count := await self._journal.prune(before, statuses, _PRUNED_AT_ONCE):
            removed += count
        if self._blobs.are_kept:
            live = map(blob_key, await self._journal.payloads(REFERENCES))
            await self._blobs.collect(
                set(filter(None, live)), older_than_seconds=_seconds(blobs_older_than)
            )
        return removed

    async def export(self, *run_ids: str) -> AsyncGenerator[str, None]:
        r"""Everything that the journal keeps of runs, as lines of JSON.

        A line of a run is followed by a line for each of its records. Payloads are as they are
        kept: JSON, or text in base64 where they are encrypted.

        Args:
            run_ids: Which runs; all where none is given.

        Example:
            >>> async def save(runner: "DurableRunner", file: str) -> None:
            ...     async with await anyio.open_file(file, "w") as lines:
            ...         async for line in runner.export():
            ...             await lines.write(line + "\n")
        """
        found = [await self._find(run_id) for run_id in run_ids]
        if run_ids:
            for stored in found:
                async for line in self._exported(stored):
                    yield line
            return
        before: int | None = None
        while page := await self._journal.list(RunQuery(before=before)):
            for stored in page:
                async for line in self._exported(stored):
                    yield line
            before = page[-1].key

    async def _exported(self, stored: StoredRun) -> AsyncGenerator[str, None]:
        start = stored.start
        yield _line(
            type="run",
            run_id=start.run_id,
            workflow=start.workflow,
            status=stored.status,
            created=start.created,
            updated=stored.updated,
            metadata=json.loads(start.metadata),
            queue=start.queue,
            parent=start.parent,
            input=_readable(await self._blobs.get(start.payload, start.run_id)),
            context=_readable(start.context),
            outcome=_readable(
                stored.outcome and await self._blobs.get(stored.outcome, start.run_id)
            ),
        )
        for record in await self._journal.records(stored.key):
            yield _line(
                type="record",
                run_id=start.run_id,
                path=record.path,
                kind=Kind(record.kind).name.lower(),
                payload=_readable(await self._blobs.get(record.payload, record.path)),
                data=_readable(record.data),
            )

    async def _event(self, run_id: str, name: str) -> Outcome[Any] | None:
        """A run's event, or that it ended without; None where it may still be set."""
        status = (await self._find(run_id)).status
        value = await self._journal.event(run_id, name)
        if value is not None:
            payload = await self._blobs.get(value, run_id)
            try:
                return Success(self._codec.decode(payload))
            except ValueError as error:
                msg = f"event {name!r} of run {run_id!r} cannot be decoded: {error}"
                raise JournalError(msg) from error
        if status in ENDED:
            return Failure(RunEndedError(f"run {run_id!r} has {status} without an event {name!r}"))
        return None

    def _news(self, topic: str) -> None:
        """Tell those in this process who may wait for what was just written."""
        self._topics.publish(topic)

    async def _find(self, run_id: str) -> StoredRun:
        stored = await self._journal.find(run_id)
        if stored is None:
            raise self._not_found(run_id)
        return stored

    def _not_found(self, run_id: str) -> RunNotFoundError:
        return RunNotFoundError(f"there is no run {run_id!r} in the journal")


def value_of(outcome: Outcome[T]) -> T:
    """What something came to; raises what it failed with."""
    if isinstance(outcome, Failure):
        raise outcome.error
    return outcome.value


def _seconds(time: timedelta | float) -> float:
    return time.total_seconds() if isinstance(time, timedelta) else time


def _line(**fields: Any) -> str:
    return json.dumps(fields, separators=(",", ":"))


def _readable(payload: bytes | None) -> Any:
    if not payload:
        return None
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode("ascii", "backslashreplace")
