"""The runtime that journals: it hands back what is recorded, and records what is not."""

from __future__ import annotations

import inspect
from bisect import insort
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from plait.durable._cancellations import Cancellations
from plait.durable._codec import IN_MEMORY, encode_error
from plait.durable._data import below
from plait.durable._errors import JournalError, StepInterruptedError, WorkflowChangedError
from plait.durable._needs import wait_for_another_runner
from plait.durable._recorder import undecodable
from plait.durable._stored import Kind
from plait.durable._transactions import TransactionStep
from plait.primitives import MapPrimitive, SerializationError
from plait.primitives._compensation import mark_finished, undoing
from plait.primitives._context import current_context
from plait.primitives._errors import failed_path, note_failure
from plait.primitives._map import Folded
from plait.primitives._reduce import Mapped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from plait.durable._environment import Environment
    from plait.durable._stored import Record, StoredRun
    from plait.primitives import Runtime, WorkflowContext, WorkflowPrimitive

In = TypeVar("In")
T = TypeVar("T")

# Looked up once: before Python 3.12, asking an enum for a member is a call.
_VALUE, _ERROR, _CANCELLED = Kind.VALUE, Kind.ERROR, Kind.CANCELLED

_FOLDED_BYTES = 1 << 18
"""Up to which size one record stands for those of the elements of a map."""


class DurableRuntime(Cancellations):
    """Executes one run."""

    __slots__ = ("__weakref__", "_inputs", "capabilities", "executed")

    def __init__(self, run: StoredRun, environment: Environment, inner: Runtime | None) -> None:
        super().__init__(run, environment, inner)
        self.capabilities = environment.capabilities
        """What its runner has that steps may need."""
        self.executed = 0
        """How many nodes were executed in earnest and recorded."""
        self._inputs: dict[str, bytes | None] = {}

    def perform(
        self,
        primitive: WorkflowPrimitive[In, T],
        execute: Callable[[Any, In, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: In,
        context: WorkflowContext,
    ) -> Coroutine[Any, Any, T]:
        """Hand back what is recorded of a node, or execute it and record what became of it."""
        frame, path = context._parent, context.path
        if frame is not None and frame._primitive is not None and frame._primitive._repeats_input:
            input_data = self._as_at_first(input_data, path)
        digest = self._called.pop(path, None) if self._called else None
        # Here, and not in the coroutine: the input is what it is when the call is made.
        if not primitive._is_leaf:
            if digest is None:
                digest = self._digest(input_data) if _folds(primitive, input_data) else b""
            return self._composite(primitive, execute, input_data, context, digest)
        if digest is None:
            digest = self._digest(input_data)
        record = self._history.outcome(path) if self._history else None
        if record is None:
            return self._leaf(primitive, execute, input_data, context, digest, path)
        return self._leaf_again(record, primitive, execute, input_data, context, digest)

    def compensated(self, path: str) -> None:
        """Do what was done there, and all that came after it, again should the run be resumed."""
        insort(self.failures, f"{path}/")

    def is_recorded(self, path: str) -> bool:
        """Whether a node, or one below it, was executed by the runner before this one."""
        return self._history.reaches(path)

    def unrecorded(self) -> Runtime | None:
        """The runtime without the journal."""
        return None if self.inner is None else self.inner.unrecorded()

    async def keep(self, name: str, value: str) -> None:
        """Record a fact about the run."""
        await self._write(self._record(f"#{name}", Kind.TIME, value.encode()))

    def kept(self, name: str) -> str | None:
        """The fact as it was recorded last before this execution of the run."""
        record = self._history.get(f"#{name}")
        return None if record is None else record.payload.decode()

    async def _composite(
        self,
        primitive: WorkflowPrimitive[In, T],
        execute: Callable[[Any, In, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: In,
        context: WorkflowContext,
        input_digest: bytes,
    ) -> T:
        # Its result follows from its children's. Its failure does not: those that were cancelled
        # for it must not be started again.
        path = context.path
        is_map = _folds(primitive, input_data)
        record = self._history.outcome(path) if self._history else None
        if record is not None:
            if record.kind == _VALUE and not is_map:
                msg = f"{path!r} is recorded as one step: the workflow was changed since"
                raise self._abort(WorkflowChangedError(msg, path))
            found = input_digest if record.kind == _VALUE else record.digest
            if record.kind == _CANCELLED:
                await self._cancelled_again(primitive, execute, input_data, context)
            return self._replay(record, primitive, found, context)
        began = self.time()
        try:
            result = await super().perform(primitive, execute, input_data, context)
        except Exception as error:
            await self._fail(error, input_digest, context, began)
            raise
        self._inputs.pop(path, None)
        if self.failures:
            self._handle_below(path)
        if primitive._numbers_children and self._history:
            self._refuse_shortened(path)
        if is_map and self.executed:
            self._fold(path, result, primitive, input_digest, began)
        return result

    def _fold(
        self,
        path: str,
        result: Any,
        primitive: WorkflowPrimitive[Any, Any],
        input_digest: bytes,
        began: float,
    ) -> None:
        """Have one record stand for those of all the elements of a map."""
        if (
            len(result) < 2
            or primitive._compensates
            or self._data.has_below(path)
            or self._durability == "exit"
        ):
            return
        try:
            payload = self._codec.encode(result, primitive)
        except SerializationError:
            return
        if len(payload) <= _FOLDED_BYTES:
            self._note_put_off()
            seconds = self.time() - began
            folded = self._record(path, _VALUE, payload, input_digest, seconds=seconds)
            self._noted.append(self._journal.fold(folded))

    async def _begin(self, path: str) -> None:
        """Record that a step is about to run that must not run twice."""
        begun = f"{path}#begun"
        if self._history.get(begun) is not None:
            msg = f"{path!r} was interrupted after it had begun, and may run at most once"
            raise StepInterruptedError(msg)
        await self._write(self._record(begun, Kind.TIME, repr(self.timestamp()).encode()))

    async def _fail(
        self, error: Exception, input_digest: bytes, context: WorkflowContext, began: float
    ) -> None:
        note_failure(error, context)
        path = context.path
        if self.is_verifying:
            return
        insort(self.failures, path)
        data = self._data.changes(path, context.data, or_raise=False)
        payload = encode_error(self._codec, error)
        digest = self._marked(path, input_digest)
        # What fails while a stopped run is undone is how that run ends.
        with anyio.CancelScope(shield=self._is_stopped):
            seconds = self.time() - began
            await self._write(self._record(path, _ERROR, payload, digest, data, seconds))

    async def _leaf_again(
        self,
        record: Record,
        primitive: WorkflowPrimitive[In, T],
        execute: Callable[[Any, In, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: In,
        context: WorkflowContext,
        input_digest: bytes,
    ) -> T:
        if isinstance(input_data, Mapped):
            # The elements are nodes of the map before it, which is not executed either.
            self._data.apply_below(input_data.frame.path, context.data)
        if record.kind == _CANCELLED:
            await self._cancelled_again(primitive, execute, input_data, context)
        result = self._replay(record, primitive, input_digest, context)
        if primitive._compensates:
            # What would undo it is known again only once its children have told it.
            await undoing(partial(primitive._repeat, input_data, context), context)
        return result

    async def _leaf(
        self,
        primitive: WorkflowPrimitive[In, T],
        execute: Callable[[Any, In, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: In,
        context: WorkflowContext,
        input_digest: bytes,
        path: str,
    ) -> T:
        if self._history:
            self._refuse_renamed(path)
        is_step = not primitive.children
        if is_step:
            if (first := self._to_await_first(path)) is not None:
                await first
            if self._is_told_time or not primitive.needs <= self.capabilities:
                await self._prepare(primitive, context)
        is_busy = is_step or primitive._stays_in_memory
        if is_busy:
            self._begin_work()
        token, inner = current_context.set(context), self.inner
        # What is asked of `self`, or of `super()`, costs more, and every step comes here.
        clock = monotonic if inner is None else inner.time
        began = clock()
        try:
            if primitive.at_most_once:
                await self._begin(path)
            if primitive._transacts:
                result = await self._in_transaction(primitive, input_data, context, input_digest)
                self.executed += 1
            else:
                result = await (
                    execute(primitive, input_data, context)
                    if inner is None
                    else inner.perform(primitive, execute, input_data, context)
                )
                seconds = clock() - began
                payload = self._codec.encode(result, primitive)
                digest = self._marked(path, input_digest) if self._under_way else input_digest
                data = self._data.changes(path, context._run.data)
                record = self._record(path, _VALUE, payload, digest, data, seconds)
                self.executed += 1
                try:
                    # What raced has to stand in line.
                    if is_busy and digest is input_digest and self._goes_alone(record):
                        await self._journal.append(record)
                    else:
                        await self._write(record)
                except JournalError as error:
                    raise self._not_written(error) from error
                except anyio.get_cancelled_exc_class() as cancelled:
                    mark_finished(cancelled, path, result)
                    raise
        except Exception as error:
            self.executed += 1
            await self._fail(error, input_digest, context, began)
            raise
        finally:
            current_context.reset(token)
            if is_busy:
                self._end_work()
        if self.failures:
            self._handle_below(path)
        return result

    def _refuse_renamed(self, path: str) -> None:
        """End the run where another node is recorded at the place of one that is executed now."""
        recorded = self._history.renamed(path)
        if recorded is not None:
            msg = f"{path!r} is recorded as {recorded!r}: the workflow was changed since"
            raise self._abort(WorkflowChangedError(msg, recorded))

    async def _prepare(
        self, primitive: WorkflowPrimitive[Any, Any], context: WorkflowContext
    ) -> None:
        """Have what a step needs, and what was told before it on disk."""
        if not primitive.needs <= self.capabilities:
            await wait_for_another_runner(primitive.needs, self, context)
        await self._keep_time()

    async def _in_transaction(
        self,
        primitive: WorkflowPrimitive[In, T],
        input_data: In,
        context: WorkflowContext,
        input_digest: bytes,
    ) -> T:
        """Execute a step in the transaction that its record is written in."""
        assert isinstance(primitive, TransactionStep)
        path, work = context.path, partial(primitive.function, input_data)
        if inspect.iscoroutinefunction(work) and not getattr(
            self._journal, "transacts_async", False
        ):
            msg = (
                f"{primitive.name!r} is async, and {type(self._journal).__name__} calls plain "
                "functions only in its transactions"
            )
            raise TypeError(msg)
        data, began = self._data.changes(path, context.data), self.time()

        def record(result: T) -> Record:
            seconds = self.time() - began
            payload = self._codec.encode(result, primitive)
            return self._record(path, _VALUE, payload, input_digest, data, seconds)

        def transact() -> Awaitable[T]:
            return self._on_disk(self._journal.transact(work, record))

        async def execute(*_: Any) -> T:
            await self.flush()
            result, cancelled = await self._uninterrupted(transact)
            if cancelled is not None:
                # Its effect is there, and whoever is to undo it has to know.
                mark_finished(cancelled, path, result)
                raise cancelled
            return result

        return await super().perform(primitive, execute, input_data, context)

    def _replay(
        self,
        record: Record,
        primitive: WorkflowPrimitive[Any, T],
        input_digest: bytes,
        context: WorkflowContext,
    ) -> T:
        if record.digest != input_digest:
            msg = (
                f"{record.path!r} got another input than the one that its result is recorded for: "
                "the workflow was changed, or does something different each time outside of a step"
            )
            raise self._abort(WorkflowChangedError(msg, record.path))
        is_error = record.kind == _ERROR
        try:
            outcome: Any = self._codec.decode(record.payload, None if is_error else primitive)
            if self._data.is_written:
                self._data.apply_below(record.path, context.data)
        except ValueError as error:
            raise self._abort(undecodable(record.path, error)) from error
        if not is_error and not primitive._accepts(outcome):
            msg = f"what {record.path!r} decided is no longer there: the workflow was changed since"
            raise self._abort(WorkflowChangedError(msg, record.path))
        self.replayed += 1
        if self.inner is not None:
            self.inner.report("replayed", {}, context)
        if is_error:
            # What failed below it is open too, though nobody comes to it again.
            failed = self._history.failures_down_to(failed_path(outcome) or record.path)
            for path in {record.path, *(p for p in failed if p.startswith(record.path))}:
                insort(self.failures, path)
            raise outcome
        if self.failures:
            self._handle_below(record.path)
        result: T = outcome
        return result

    def _handle_below(self, path: str) -> None:
        for found in below(self.failures, path):
            del self.failures[found]

    def _as_at_first(self, input_data: In, path: str) -> In:
        """The input as a retry or fallback was given it, whatever earlier attempts did to it.

        A replay, which does not execute those attempts, could not give any other.
        """
        owner = path.rpartition("/")[0]
        if owner not in self._inputs:
            try:
                self._inputs[owner] = IN_MEMORY.encode(input_data)
            except SerializationError:
                self._inputs[owner] = None
            return input_data
        encoded = self._inputs[owner]
        first: In = input_data if encoded is None else IN_MEMORY.decode(encoded)
        return first


def _folds(primitive: WorkflowPrimitive[Any, Any], input_data: Any) -> bool:
    """Whether one record may come to stand for those of what is below a node."""
    return isinstance(primitive, MapPrimitive) and not isinstance(input_data, Folded)
