"""What a run is told and tells: signals, events, other runs' ends, progress."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import anyio

from plait.durable._codec import encode_error
from plait.durable._errors import JournalError, WorkflowChangedError
from plait.durable._history import GIVEN_UP
from plait.durable._stored import Kind, Wait
from plait.durable._topics import end_topic, event_topic, signal_topic
from plait.durable._waits import Waits
from plait.primitives import Failure, StepTimeoutError, Success
from plait.primitives._concurrency import DeadlineExceededError
from plait.primitives._outside import SignalPayloadError, checked_payload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from plait.durable._environment import Environment
    from plait.durable._stored import Record, StoredRun
    from plait.primitives import Outcome, Runtime, WorkflowContext
    from plait.primitives._runtime import Attribute

T = TypeVar("T")

_PROGRESS_SECONDS = 0.5
"""How often at the most what is said of progress is kept."""


class _Taken(NamedTuple):
    """A signal that was taken from the journal.

    Attributes:
        path: Of the wait that took it.
        payload: What it brought, encoded.
    """

    path: str
    payload: bytes


class Messages(Waits):
    """What a run and the world outside say to each other."""

    __slots__ = ("_awaited", "_call_soon", "_handed_back", "_is_saying", "_said")

    def __init__(self, run: StoredRun, environment: Environment, inner: Runtime | None) -> None:
        super().__init__(run, environment, inner)
        self._awaited = environment.awaited[run.start.workflow]
        self._handed_back: dict[str, deque[_Taken]] = {}
        self._call_soon = environment.call_soon
        self._said: bytes | None = None
        self._is_saying = False

    async def wait_for(
        self, signal: str, payload_type: Any, timeout: float | None, context: WorkflowContext
    ) -> Any:
        """Wait for a signal; it is taken and recorded at once."""
        path = self._own_place(context, "signal", signal)
        types = self._awaited.setdefault(signal, [])
        if payload_type not in types:
            types.append(payload_type)
        taken: list[_Taken] = []
        try:
            async with self._racing(path, context):
                payload = await self._signal(signal, timeout, path, taken, context)
        except anyio.get_cancelled_exc_class():
            self._hand_back(signal, path, taken)
            raise
        if payload is None:
            self._failed_at(path, context)
            raise DeadlineExceededError(signal)
        try:
            return checked_payload(signal, self._decoded(path, payload), payload_type)
        except SignalPayloadError:
            self._failed_at(path, context)
            raise

    async def set_event(self, name: str, value: Any, context: WorkflowContext) -> None:
        """Publish a value, once."""
        path = self._own_place(context, "event", name)
        async with self._racing(path, context):
            if self._history.get(path) is None:
                self._refuse_when_closing(path)
                payload = await self._on_disk(self._blobs.put(self._codec.encode(value)))
                record = self._record(path, Kind.VALUE, payload)
                await self._flushed(self._journal.set_event(record, name, self.timestamp()))
                self._topics.publish(event_topic(self.run_id, name))

    async def event_of(
        self,
        run_id: str,
        name: str,
        found: Callable[[], Awaitable[Outcome[Any] | None]],
        timeout: float | None,
        context: WorkflowContext,
    ) -> Outcome[Any]:
        """Wait for another run's event, and keep what it was.

        Args:
            run_id: The other run.
            name: The event's name.
            found: The event; None where it has not been set, and may be.
            timeout: How long to wait, in seconds.
            context: The node that waits.
        """
        path = self._own_place(context, "event of", f"{run_id}:{name}")
        topics = (event_topic(run_id, name), end_topic(run_id))
        outcome = await self._outcome(path, topics, found, timeout, context)
        if outcome is None:
            assert timeout is not None
            msg = f"run {run_id!r} set no event {name!r} within {timeout:g} s"
            outcome = Failure(StepTimeoutError(msg, timeout))
            await self._write(self._outcome_record(path, outcome))
        if isinstance(outcome, Failure):
            self._failed_at(path, context)
        return outcome

    async def outcome_of(
        self,
        run_id: str,
        ended: Callable[[], Awaitable[Outcome[Any] | None]],
        cancel: Callable[[], Awaitable[object]],
        context: WorkflowContext,
    ) -> Outcome[Any]:
        """Wait for another run's end, and keep how that was.

        Args:
            run_id: The other run.
            ended: How it ended; None where it has not.
            cancel: Asks it to stop; called where the one who waits is cancelled.
            context: The node that waits.
        """
        path = self._own_place(context, "run", run_id)
        try:
            outcome = await self._outcome(path, (end_topic(run_id),), ended, None, context)
        except anyio.get_cancelled_exc_class():
            if not self.is_closing:
                self._note_put_off()
                await self._uninterrupted(cancel)
            raise
        assert outcome is not None
        if isinstance(outcome, Failure):
            self._failed_at(path, context)
        return outcome

    async def once(
        self,
        what: str,
        digest: bytes,
        do: Callable[[str], Awaitable[T]],
        context: WorkflowContext,
    ) -> tuple[str, T | None]:
        """Do something to another run, once, wherever this one is interrupted.

        Args:
            what: A word for it.
            digest: Of what is done.
            do: Does it under an id that is the same whenever it is done again.
            context: The node that does it.

        Returns:
            That id, and what `do` returned; None where it had been done. What came to nothing
            (False) is done again.
        """
        path = self._own_place(context, what)
        unique = f"{context.idempotency_key}{path[len(context.path) :]}"
        record = self._history.get(path)
        if record is not None:
            if record.digest != digest:
                msg = f"{path!r} was something else before: the workflow was changed since"
                raise self._abort(WorkflowChangedError(msg, path))
            return unique, None
        await self._before_earnest(path)
        await self.flush()
        result = await self._on_disk(do(unique))
        came_to: object = result
        if came_to is not False:
            self._note(self._record(path, Kind.VALUE, digest=digest))
        return unique, result

    def report(
        self, event: str, attributes: Mapping[str, Attribute], context: WorkflowContext
    ) -> None:
        """Keep what is said of progress, not too often."""
        super().report(event, attributes, context)
        if event == "progress" and not self.is_closing:
            # Here, where what has no encoded form fails the step that says it.
            self._said = self._codec.encode({"path": context.path, **attributes})
            if not self._is_saying:
                self._is_saying = True
                # A step may say it from a thread.
                self._call_soon(self._begin_to_say)

    async def say(self) -> None:
        """Keep what was said of progress last."""
        said, self._said = self._said, None
        if said is not None:
            await self._journal.progress(self._run_key, said)

    def _begin_to_say(self) -> None:
        # A run that has ended has said what there was.
        if not self.is_closing:
            self._spawn(self._say)

    async def _say(self) -> None:
        try:
            while self._said is not None:
                await self.say()
                await anyio.sleep(_PROGRESS_SECONDS)
        except JournalError:
            self._said = None  # what needs to be kept says so
        finally:
            self._is_saying = False

    async def _signal(
        self,
        signal: str,
        timeout: float | None,
        path: str,
        taken: list[_Taken],
        context: WorkflowContext,
    ) -> bytes | None:
        record = self._history.get(path)
        if record is not None and record.kind == Kind.ERROR:
            return None
        if record is not None and record.kind == Kind.VALUE:
            is_given_up = self._history.get(path + GIVEN_UP) is not None
            if not is_given_up or not self._history.is_passed_on(path):
                taken.append(_Taken(path, record.payload))
            if is_given_up:
                await anyio.sleep_forever()
            return record.payload
        await self._given_up_again(path)
        until = None if timeout is None else await self._until(f"{path}#until", timeout)
        topic = signal_topic(self.run_id, signal)
        payload = await self._wait(
            [Wait(path, topic, until)], partial(self._receive, signal, path, taken), context
        )
        if payload is None:
            await self._write(self._record(path, Kind.ERROR))
        return payload

    async def _receive(self, signal: str, path: str, taken: list[_Taken]) -> bytes | None:
        if handed_back := self._handed_back.get(signal):
            found = handed_back.popleft()
            taken.append(found)
            # With whose it was, so that a replay hands it on once.
            await self._write(self._record(path, Kind.VALUE, found.payload, found.path.encode()))
            taken[:] = [_Taken(path, found.payload)]
            # Should that wait be done again, it is for another signal.
            here = found.path + GIVEN_UP
            self._given_up = [(found.path if p == here else p, w) for p, w in self._given_up]
            return found.payload
        payload, cancelled = await self._uninterrupted(partial(self._taken, signal, path))
        if payload is not None:
            taken.append(_Taken(path, payload))
        if cancelled is not None:
            raise cancelled
        return payload

    async def _taken(self, signal: str, path: str) -> bytes | None:
        payload = await self._journal.receive(self._run_key, signal, path)
        return None if payload is None else await self._blobs.get(payload, path)

    def _hand_back(self, signal: str, path: str, taken: Sequence[_Taken]) -> None:
        """Give what was taken by code that is cancelled to whoever waits, or does so next."""
        if self.is_closing or self._is_stopped:
            return
        is_own = any(each.path == path for each in taken)
        self._give_up(path + GIVEN_UP if is_own else path)
        if taken:
            self._handed_back.setdefault(signal, deque()).extend(taken)
            self._topics.publish(signal_topic(self.run_id, signal))

    async def _outcome(
        self,
        path: str,
        topics: tuple[str, ...],
        found: Callable[[], Awaitable[Outcome[Any] | None]],
        timeout: float | None,
        context: WorkflowContext,
    ) -> Outcome[Any] | None:
        """Something of another run's as it is recorded, or, once it is there, recorded."""
        async with self._awaited_at(path, context):
            record = self._history.get(path)
            if record is not None:
                value = self._decoded(path, record.payload)
                return Success(value) if record.kind == Kind.VALUE else Failure(value)
            until = None if timeout is None else await self._until(f"{path}#until", timeout)
            waits = [Wait(path, topic, until) for topic in topics]
            outcome: Outcome[Any] | None = await self._wait(waits, found, context)
            if outcome is not None:
                await self._write(self._outcome_record(path, outcome))
            return outcome

    def _outcome_record(self, path: str, outcome: Outcome[Any]) -> Record:
        if isinstance(outcome, Success):
            return self._record(path, Kind.VALUE, self._codec.encode(outcome.value))
        return self._record(path, Kind.ERROR, encode_error(self._codec, outcome.error))

    def _failed_at(self, path: str, context: WorkflowContext) -> None:
        """Have a resumed run wait again, and not be told the same."""
        if path.startswith(f"{context.path}/") and path not in self.failures:
            self.failures.append(path)
            self.failures.sort()

    async def _flushed(self, done: Awaitable[T]) -> T:
        """Await something that the journal does, after what was recorded before."""
        await self.flush()
        return await self._on_disk(done)
