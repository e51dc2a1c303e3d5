"""The runtime that journals: it hands back what is recorded, and records what is not."""

from __future__ import annotations

import re
import time
from bisect import bisect_left, bisect_right, insort
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

from plait.durable._codec import digest
from plait.durable._errors import JournalError, StepInterruptedError, WorkflowChangedError
from plait.durable._journal import Kind, Record
from plait.primitives import SerializationError
from plait.primitives._context import current_context
from plait.primitives._encoding import decode, encode
from plait.primitives._errors import Abort, note_failure
from plait.primitives._reduce import Mapped
from plait.primitives._runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence

    from plait.durable._codec import JsonCodec
    from plait.durable._journal import Journal
    from plait.primitives import WorkflowContext, WorkflowPrimitive

In = TypeVar("In")
T = TypeVar("T")

_NAME = re.compile(r"(/\d+):[^/\[]*")


class DurableRuntime(Runtime):
    """Executes one run.

    Args:
        journal: Where its records go.
        run: The run's key in the journal.
        records: What is recorded of it already.
        codec: How results are encoded.
        inner: The runtime for what is executed in earnest.
    """

    def __init__(
        self,
        journal: Journal,
        run: int,
        records: Iterable[Record],
        codec: JsonCodec,
        inner: Runtime | None,
    ) -> None:
        super().__init__(inner)
        self._journal = journal
        self._run = run
        self._codec = codec
        records = list(records)
        self._records = {r.path: r for r in records if r.kind != Kind.DATA}
        self._writes = sorted((r.path, n, r.data) for n, r in enumerate(records) if r.data)
        self._kept = [(n, r.data) for n, r in enumerate(records) if r.kind == Kind.DATA and r.data]
        self._written: dict[str, int] = {}
        self._inputs: dict[str, bytes | None] = {}
        # The same place under another name is a workflow that was changed.
        self._places = {
            _NAME.sub(r"\1", path): path
            for path, record in self._records.items()
            if record.kind != Kind.TIME
        }
        self._data: dict[str, bytes] = {}
        self._sleeps: dict[str, int] = {}
        self.failures: list[str] = []
        """Where the failures happened that nothing has handled so far, sorted."""
        self.replayed = 0
        """How many nodes were handed back from the journal."""
        self.executed = 0
        """How many nodes were executed in earnest and recorded."""

    def perform(
        self,
        primitive: WorkflowPrimitive[In, T],
        execute: Callable[[Any, In, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: In,
        context: WorkflowContext,
    ) -> Coroutine[Any, Any, T]:
        """Hand back what is recorded of a node, or execute it and record what became of it."""
        input_data = self._as_at_first(input_data, context)
        self._handle_before(context)
        if primitive._is_leaf:
            # Here, and not in the coroutine: the input is what it is when the call is made.
            return self._leaf(primitive, execute, input_data, context, digest(input_data))
        return self._composite(primitive, execute, input_data, context)

    async def sleep(self, seconds: float, context: WorkflowContext) -> None:
        """Wait until the time that was recorded when the wait began."""
        # No node's path has a "#": branches and routes may be called "sleep" or "deadline".
        path = f"{context.path}#sleep"
        count = self._sleeps[path] = self._sleeps.get(path, 0) + 1
        until = await self._until(path if count == 1 else f"{path} {count}", seconds)
        await super().sleep(max(0.0, until - time.time()), context)

    async def within(
        self, seconds: float, call: Callable[[], Awaitable[T]], context: WorkflowContext
    ) -> T:
        """Run a call under the deadline that was recorded when it began."""
        until = await self._until(f"{context.path}#deadline", seconds)
        return await super().within(max(0.0, until - time.time()), call, context)

    def unrecorded(self) -> Runtime | None:
        """The runtime without the journal."""
        return None if self.inner is None else self.inner.unrecorded()

    async def _until(self, path: str, seconds: float) -> float:
        record = self._records.get(path)
        if record is not None:
            try:
                return float(record.payload)
            except ValueError as error:
                raise Abort(_undecodable(path, error)) from error
        until = time.time() + seconds
        await self._write(path, Kind.TIME, b"", repr(until).encode(), None)
        return until

    async def _composite(
        self,
        primitive: WorkflowPrimitive[In, T],
        execute: Callable[[Any, In, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: In,
        context: WorkflowContext,
    ) -> T:
        # Its result follows from its children's. Its failure does not: those that were cancelled
        # for it must not be started again.
        record = self._records.get(context.path)
        if record is not None:
            if record.kind != Kind.ERROR:
                msg = f"{record.path!r} is recorded as one step: the workflow was changed since"
                raise Abort(WorkflowChangedError(msg, record.path))
            return self._replay(record, primitive, record.digest, context)
        try:
            result = await super().perform(primitive, execute, input_data, context)
        except Exception as error:
            await self._fail(error, b"", context)
            raise
        self._inputs.pop(context.path, None)
        if self.failures:
            self._handle_below(context.path)
        return result

    async def _begin(self, path: str) -> None:
        """Record that a step is about to run that must not run twice."""
        begun = f"{path}#begun"
        if begun in self._records:
            msg = f"{path!r} was interrupted after it had begun, and may run at most once"
            raise StepInterruptedError(msg)
        await self._write(begun, Kind.TIME, b"", repr(time.time()).encode(), None)

    async def _fail(self, error: Exception, input_digest: bytes, context: WorkflowContext) -> None:
        note_failure(error, context)
        insort(self.failures, context.path)
        data = self._changes(context.data, or_raise=False)
        await self._write(context.path, Kind.ERROR, input_digest, encode(error), data)

    async def _leaf(
        self,
        primitive: WorkflowPrimitive[In, T],
        execute: Callable[[Any, In, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: In,
        context: WorkflowContext,
        input_digest: bytes,
    ) -> T:
        path = context.path
        if self._records:
            record = self._records.get(path)
            if record is not None:
                if isinstance(input_data, Mapped):
                    # The elements are nodes of the map before it, which is not executed either.
                    self._apply_below(input_data.frame.path, context.data)
                return self._replay(record, primitive, input_digest, context)
            self._refuse_change(path)
        token = current_context.set(context)
        try:
            if primitive.at_most_once:
                await self._begin(path)
            result = await super().perform(primitive, execute, input_data, context)
            payload = self._codec.encode(result, primitive)
            data = self._changes(context.data)
        except Exception as error:
            self.executed += 1
            await self._fail(error, input_digest, context)
            raise
        finally:
            current_context.reset(token)
        self.executed += 1
        await self._write(path, Kind.VALUE, input_digest, payload, data)
        if self.failures:
            self._handle_below(path)
        return result

    async def _write(
        self, path: str, kind: Kind, input_digest: bytes, payload: bytes, data: bytes | None
    ) -> None:
        record = Record(self._run, path, kind.value, input_digest, payload, data)
        try:
            await self._journal.append(record)
        except JournalError as error:
            # Not the step's failure: nothing may be retried, or go on, that is not recorded.
            raise Abort(error) from error

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
            raise Abort(WorkflowChangedError(msg, record.path))
        try:
            outcome = (
                decode(record.payload)
                if record.kind == Kind.ERROR
                else self._codec.decode(record.payload, primitive)
            )
            self._apply_below(record.path, context.data)
        except ValueError as error:
            raise Abort(_undecodable(record.path, error)) from error
        if record.kind != Kind.ERROR and not primitive._accepts(outcome):
            msg = f"what {record.path!r} decided is no longer there: the workflow was changed since"
            raise Abort(WorkflowChangedError(msg, record.path))
        self.replayed += 1
        if record.kind == Kind.ERROR:
            insort(self.failures, record.path)
            raise outcome
        if self.failures:
            self._handle_below(record.path)
        result: T = outcome
        return result

    def _refuse_change(self, path: str) -> None:
        recorded = self._places.get(_NAME.sub(r"\1", path))
        if recorded is not None:
            msg = f"{path!r} is recorded as {recorded!r}: the workflow was changed since"
            raise Abort(WorkflowChangedError(msg, recorded))

    def _handle_before(self, context: WorkflowContext) -> None:
        """Take what failed below a node as handled once the node's own code goes on to call."""
        caller = context._parent
        if self.failures and caller is not None and caller._cursor is None:
            self._handle_below(caller.path)

    def _handle_below(self, path: str) -> None:
        for found in _below(self.failures, path):
            del self.failures[found]

    def _as_at_first(self, input_data: In, context: WorkflowContext) -> In:
        """The input as a retry or fallback was given it, whatever earlier attempts did to it.

        A replay, which does not execute those attempts, could not give any other.
        """
        frame = context._parent
        if frame is None or frame._primitive is None or not frame._primitive._repeats_input:
            return input_data
        owner = context.path.rpartition("/")[0]
        if owner not in self._inputs:
            try:
                self._inputs[owner] = self._codec.encode(input_data)
            except SerializationError:
                self._inputs[owner] = None
            return input_data
        encoded = self._inputs[owner]
        first: In = input_data if encoded is None else decode(encoded)
        return first

    def _changes(self, data: dict[str, Any], *, or_raise: bool = True) -> bytes | None:
        """What changed in the run's data since the last record, nested changes too."""
        if not data and not self._data:
            return None
        changed: dict[str, bytes] = {}
        for key, value in data.items():
            try:
                encoded = self._codec.encode(value)
            except SerializationError as error:
                if not or_raise:
                    continue
                where = f"context.data[{key!r}]{error.where}"
                raise SerializationError(error.kind, where, error.reason) from None
            if self._data.get(key) != encoded:
                changed[key] = encoded
        removed = [key for key in self._data if key not in data]
        if not changed and not removed:
            return None
        self._data.update(changed)
        for key in removed:
            del self._data[key]
        return encode(({key: data[key] for key in changed}, removed))

    def _apply_below(self, path: str, data: dict[str, Any]) -> None:
        """Write again what a node and those below it wrote, unless something later did already."""
        if not self._writes:
            return
        writer = itemgetter(0)
        first = bisect_left(self._writes, path, key=writer)
        own = slice(first, bisect_right(self._writes, path, key=writer))
        found = chain.from_iterable(
            self._writes[part] for part in (own, *_below(self._writes, path, key=writer))
        )
        for _, order, encoded in sorted(found, key=itemgetter(1)):
            self._apply(order, encoded, data)

    def _apply(self, order: int, encoded: bytes, data: dict[str, Any]) -> None:
        changed, removed = decode(encoded)
        for key in (*changed, *removed):
            if self._written.get(key, -1) >= order:
                continue
            self._written[key] = order
            if key in changed:
                data[key] = changed[key]
                self._data[key] = self._codec.encode(changed[key])
            else:
                data.pop(key, None)
                self._data.pop(key, None)

    def remember(self, data: dict[str, Any]) -> None:
        """Take the data that the run was started with as known to the journal."""
        self._data = {key: self._codec.encode(value) for key, value in data.items()}
        for order, encoded in self._kept:
            self._apply(order, encoded, data)


def _undecodable(path: str, error: Exception) -> JournalError:
    return JournalError(f"what is recorded for {path!r} cannot be decoded: {error}")


def _below(
    found: Sequence[Any], path: str, *, key: Callable[[Any], str] | None = None
) -> list[slice]:
    """Where, in what is sorted by path, the nodes below one stand; the last part comes first."""
    # "0" comes right after "/", and "\\" after "[": all that lies below is in between.
    ends = ((f"{path}[", f"{path}\\"), (f"{path}/", f"{path}0"))
    return [
        slice(bisect_left(found, first, key=key), bisect_left(found, after, key=key))
        for first, after in ends
    ]
