"""The runtime that has Restate keep what a run does."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from contextvars import ContextVar
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from restate import RunOptions

from plait.durable._codec import encode_error
from plait.durable._data import DataLog
from plait.durable._errors import WorkflowChangedError
from plait.durable._recorder import undecodable
from plait.durable.restate._driver import Answer, Shield, StrandGroup, Wait
from plait.durable.restate._frames import Frame
from plait.durable.restate._in_step import InStep, refused
from plait.durable.restate._messages import BYTES, Mailbox, event_name
from plait.durable.restate._steps import CANCELLED, ERROR, VALUE, Done, StepRun
from plait.durable.restate._support import check, is_step
from plait.primitives import Failure, Runtime, Success
from plait.primitives._compensation import mark_finished
from plait.primitives._concurrency import DeadlineExceededError
from plait.primitives._context import current_context
from plait.primitives._errors import Abort, note_failure
from plait.primitives._outside import checked_payload
from plait.primitives._reduce import Mapped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping
    from contextlib import AbstractAsyncContextManager

    from plait.durable._codec import Codec
    from plait.durable.restate._driver import Driver
    from plait.durable.restate._once import Once
    from plait.primitives import Outcome, WorkflowContext, WorkflowPrimitive
    from plait.primitives._concurrency import Deliver, Gathered, Source
    from plait.primitives._runtime import Attribute

In = TypeVar("In")
T = TypeVar("T")

_ends_at: ContextVar[float] = ContextVar("plait_restate_ends_at", default=math.inf)
"""When the nearest deadline ends that a step is under, in seconds since the epoch."""
_OPTIONS: RunOptions[Any] = RunOptions(serde=BYTES)


class RestateRuntime(Runtime):
    """Executes one run in a handler of Restate's.

    Args:
        restate: What Restate hands the handler.
        driver: Gives the parts of the run their turns.
        codec: How values are encoded.
        once: Knows the steps that run at most once.
        started: When the run was started, in seconds since the epoch.
        data: What the run's `context.data` starts with.
        inner: What else is done at each node.
    """

    def __init__(
        self,
        restate: Any,
        driver: Driver,
        codec: Codec,
        once: Once,
        *,
        started: float,
        data: dict[str, Any],
        inner: Runtime | None,
    ) -> None:
        super().__init__(inner)
        self._restate = restate
        self._driver = driver
        self._codec = codec
        self._once = once
        self._time = started
        self._in_step = InStep(inner)
        self._log = DataLog((), codec)
        self._log.start_from(data)
        self._order = itertools.count()
        self._mailboxes: dict[str, Mailbox] = {}
        self._events: set[str] = set()

    def perform(
        self,
        primitive: WorkflowPrimitive[In, T],
        execute: Callable[[Any, In, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: In,
        context: WorkflowContext,
    ) -> Coroutine[Any, Any, T]:
        """Have Restate execute a step; what has steps below it is executed here, in each replay."""
        made = self._step if is_step(primitive) else self._composite
        return made(primitive, execute, input_data, context)

    async def gather(self, calls: Source[T], limit: int | None) -> Gathered[T]:
        """Run calls as strands."""
        return await StrandGroup(self._driver, calls, limit).run()

    async def fold(self, calls: Source[T], limit: int, deliver: Deliver[T]) -> Gathered[T]:
        """Run calls as strands, and hand on each result in the order of the calls."""
        return await StrandGroup(self._driver, calls, limit, deliver=deliver).run()

    def time(self) -> float:
        """When the run came to where it is: the same in a replay."""
        return self._time

    def now(self, context: WorkflowContext) -> float:
        """When the run came to where it is."""
        return self._time

    def event(self) -> Any:
        """Something that one strand waits for and another sets."""
        return Wait()

    async def sleep(self, seconds: float, context: WorkflowContext) -> None:
        """Have Restate wait."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        timer = self._timer(seconds)
        try:
            await timer
        finally:
            self._driver.give_up(timer)

    async def within(
        self, seconds: float, call: Callable[[], Awaitable[T]], context: WorkflowContext
    ) -> T:
        """Run a call under a deadline that Restate keeps."""
        strand = self._driver.acting()
        before, passed = strand.cancels, False

        def pass_() -> None:
            nonlocal passed
            passed = True
            strand.cancel()

        timer = self._timer(seconds, pass_)
        # Steps end by themselves then: Restate does not tell of it while they are under way.
        token = _ends_at.set(min(_ends_at.get(), self._time + seconds))
        try:
            return await call()
        except asyncio.CancelledError as error:
            # Where somebody else has cancelled the strand as well, that is what counts.
            if passed and strand.cancels - 1 <= before:
                raise DeadlineExceededError(call) from error
            raise
        finally:
            _ends_at.reset(token)
            self._driver.give_up(timer)
            if passed:
                strand.uncancel()

    async def shielded(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a call to its end; one that is cancelled meanwhile hears of it then."""
        self._driver.acting()
        ends: list[tuple[Any, BaseException | None]] = []
        ended = Shield()

        def end(result: Any, error: BaseException | None) -> None:
            ends.append((result, error))
            ended.set()

        token = _ends_at.set(math.inf)
        self._driver.begin(call(), end)
        _ends_at.reset(token)
        cancelled: BaseException | None = None
        try:
            await ended
        except asyncio.CancelledError as error:
            cancelled = error
        result, failure = ends[0]
        raised = failure if isinstance(failure, Abort) else cancelled or failure
        if raised is not None:
            raise raised
        value: T = result
        return value

    async def wait_for(
        self, signal: str, payload_type: Any, timeout: float | None, context: WorkflowContext
    ) -> Any:
        """Wait for a signal: the next of the promises of its name."""
        mailbox = self._mailboxes.get(signal)
        if mailbox is None:
            mailbox = self._mailboxes[signal] = Mailbox(signal, self._promised)
        receive = mailbox.receive
        told = await (receive() if timeout is None else self.within(timeout, receive, context))
        message = Frame.of(told)
        assert message is not None
        self._time = max(self._time, message.head["at"])
        return checked_payload(signal, self._decoded(message.payload), payload_type)

    async def set_event(self, name: str, value: Any, context: WorkflowContext) -> None:
        """Keep a value in the run's state, where others may read it, and wake those who wait."""
        payload = self._codec.encode(value)
        self._done(lambda: self._restate.set(event_name(name), payload, BYTES))
        if name not in self._events:
            self._events.add(name)
            promise = self._restate.promise(event_name(name), BYTES)
            await self._tell(lambda: promise.resolve(payload))

    def entity(
        self, kind: type[T], key: str, default: Callable[[], T], context: WorkflowContext
    ) -> AbstractAsyncContextManager[T]:
        """Refuse: a run on Restate has no state but its own."""
        raise refused(context, f"holds the entity {kind.__qualname__} {key!r}")

    def report(
        self, event: str, attributes: Mapping[str, Attribute], context: WorkflowContext
    ) -> None:
        """Tell of what happens now, and not again of what a replay comes past."""
        if not self._restate.vm.is_replaying():
            super().report(event, attributes, context)

    async def _composite(
        self,
        primitive: WorkflowPrimitive[In, T],
        execute: Callable[[Any, In, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: In,
        context: WorkflowContext,
    ) -> T:
        try:
            check(primitive)
            return await super().perform(primitive, execute, input_data, context)
        except Exception as error:
            note_failure(error, context)
            raise

    async def _step(
        self,
        primitive: WorkflowPrimitive[In, T],
        execute: Callable[[Any, In, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: In,
        context: WorkflowContext,
    ) -> T:
        if isinstance(input_data, Mapped):
            # The map's elements are steps of their own, and none nests in another.
            mapped: Any = input_data
            input_data = await mapped.primitive.execute(mapped.elements, mapped.frame)
        path = context.path
        begun = await self._begun(path) if primitive.at_most_once else None

        async def work() -> Done:
            current_context.set(context)
            # What a step does inside of it is its own affair.
            context._runtime = self._in_step
            try:
                check(primitive)
                if begun is not None:
                    self._once.begin(begun, context.idempotency_key)
                result = await self._executed(run, primitive, execute, input_data, context)
                payload = self._codec.encode(result, primitive)
                data = self._log.changes(path, context.data)
            except Exception as error:  # noqa: BLE001 - kept as what became of it
                note_failure(error, context)
                payload = encode_error(self._codec, error)
                data = self._log.changes(path, context.data, or_raise=False)
                return Done(Frame(_head(ERROR), payload, data), Failure(error))
            return Done(Frame(_head(VALUE), payload, data), Success(result))

        run = StepRun(work, partial(self._read, primitive, context), _ends_at.get())
        self._ask(run, lambda: self._restate.run_typed(path, run.action, _OPTIONS))
        try:
            await run
        except asyncio.CancelledError as cancelled:
            if isinstance(run.outcome, Success):
                mark_finished(cancelled, path, run.outcome.value)
            raise
        finally:
            self._time = max(self._time, run.at)
            if begun is not None:
                self._once.end(context.idempotency_key)
        if not run.was_executed and self.inner is not None:
            self.inner.report("replayed", {}, context)
        match run.outcome:
            case Success():
                result: T = run.outcome.value
                return result
            case Failure():
                note_failure(run.outcome.error, context)
                raise run.outcome.error
            case _:
                # Whoever cancelled it is about to cancel its caller.
                return await Wait().forever()

    async def _executed(
        self,
        run: StepRun,
        primitive: WorkflowPrimitive[In, T],
        execute: Callable[[Any, In, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: In,
        context: WorkflowContext,
    ) -> T:
        try:
            return await self._in_step.perform(primitive, execute, input_data, context)
        except asyncio.CancelledError:
            if run.is_given_up:
                raise
            # Nobody would cancel its caller.
            msg = f"{context.path!r} was cancelled by what it does itself"
            raise RuntimeError(msg) from None

    def _read(
        self, primitive: WorkflowPrimitive[Any, Any], context: WorkflowContext, frame: Frame
    ) -> Outcome[Any] | None:
        """What became of a step that was executed before."""
        kind = frame.head["kind"]
        if kind == CANCELLED:
            return None
        value = self._decoded(frame.payload, None if kind == ERROR else primitive)
        if frame.data is not None:
            self._log._apply(next(self._order), frame.data, context.data)
        if kind == ERROR:
            return Failure(value)
        if not primitive._accepts(value):
            path = context.path
            msg = f"what {path!r} decided is no longer there: the workflow was changed since"
            raise Abort(WorkflowChangedError(msg, path))
        return Success(value)

    async def _begun(self, path: str) -> str:
        """Which process was about to execute a step first."""

        async def begin() -> bytes:
            return self._once.process.encode()

        name = f"{path}#begun"
        told = await self._tell(lambda: self._restate.run_typed(name, begin, _OPTIONS))
        return bytes(told).decode()

    def _promised(self, name: str) -> Coroutine[Any, Any, bytes]:
        return self._tell(lambda: self._restate.promise(name, BYTES).value())

    def _timer(self, seconds: float, pass_: Callable[[], None] = lambda: None) -> Answer:
        until = self._time + seconds

        def ended(_: object) -> None:
            self._time = max(self._time, until)
            pass_()

        timer = Answer(ended)
        if seconds < math.inf:
            delay = timedelta(milliseconds=math.ceil(seconds * 1000))
            self._ask(timer, lambda: self._restate.sleep(delay))
        return timer

    async def _tell(self, operation: Callable[[], Any]) -> Any:
        """Have Restate do something, and wait for what it tells of it."""
        told: list[Any] = []
        answer = Answer(told.append)
        self._ask(answer, operation)
        try:
            await answer
        finally:
            self._driver.give_up(answer)
        return told[0]

    def _ask(self, answer: Answer, operation: Callable[[], Any]) -> None:
        self._driver.acting()
        self._driver.ask(answer, self._done(operation))

    def _done(self, operation: Callable[[], T]) -> T:
        try:
            return operation()
        except Exception as error:
            # Its journal is one of other code, say: nothing in the run is to handle that.
            raise Abort(error) from error

    def _decoded(self, payload: bytes, primitive: WorkflowPrimitive[Any, Any] | None = None) -> Any:
        try:
            return self._codec.decode(payload, primitive)
        except ValueError as error:
            raise Abort(undecodable(self._restate.key(), error)) from error


def _head(kind: str) -> dict[str, Any]:
    return {"kind": kind, "at": time.time()}
