"""Many calls as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, overload

from plait.performance._flight import Pending
from plait.performance._loops import PerLoop
from plait.primitives._base import In, Out
from plait.primitives._context import current_context
from plait.primitives._errors import PermanentError, StepTimeoutError, note_failure
from plait.primitives._outcome import Failure, Outcome, Success
from plait.primitives._wrapper import Wrapper

if TYPE_CHECKING:
    import anyio

    from plait.primitives._base import Operand
    from plait.primitives._context import WorkflowContext


class BatchPrimitive(Wrapper[In, Out]):
    """Gathers single calls into one call of a primitive that takes a list of inputs.

    Each call gets its own result. Calls of all runs on an event loop are gathered. A batch is
    executed when it is full, or `max_wait_seconds` after its first call.

    There is no task in the background: one of the calls waits and executes for all. Where that one
    is cancelled, another one does so in its place, and what was under way is cancelled and begun
    again, without the input that nobody waits for any more: the primitive has to be one that may be
    repeated. A call that is cancelled while it waits for its result concerns no other.

    The next batch is gathered while one is executed; a `ConcurrencyLimitPrimitive` inside bounds
    how many are. A durable run records the result of its own call; the batch, whose other calls may
    be another run's, is part of no run.

    Args:
        primitive: Is given a list of inputs, and returns a list of as many results in their order.
            A `Failure` among them is raised for its own call alone, and a `Success` stands for its
            value, so a `MapPrimitive` with `errors="collect"` fits.
        max_size: How many calls a batch has at most.
        max_wait_seconds: How long the first call of a batch waits for others. With 0, until what is
            ready to run has run.

    Raises:
        ValueError: A number is out of its range.
        TypeError: The primitive cannot be composed.

    Example:
        >>> from plait import BatchPrimitive, MapPrimitive
        >>> async def load(ids: list[int]) -> list[str]:
        ...     print("loading", ids)
        ...     return [f"user {id}" for id in ids]
        >>> user = BatchPrimitive(load, max_size=100, max_wait_seconds=0.005)
        >>> MapPrimitive(user).run_sync([1, 2, 3])
        loading [1, 2, 3]
        ['user 1', 'user 2', 'user 3']
    """

    _kind: ClassVar[str] = "batch"
    _inside: ClassVar[str] = "/batch"
    # Its result comes from a call that is no node of the run.
    _is_leaf: ClassVar[bool] = True
    _stays_in_memory: ClassVar[bool] = True

    @overload
    def __init__(
        self,
        primitive: Operand[list[In], Sequence[Outcome[Out]]],
        max_size: int,
        max_wait_seconds: float,
    ) -> None: ...
    @overload
    def __init__(
        self,
        primitive: Operand[list[In], Sequence[Out]],
        max_size: int,
        max_wait_seconds: float,
    ) -> None: ...
    def __init__(
        self, primitive: Operand[list[In], Any], max_size: int, max_wait_seconds: float
    ) -> None:
        super().__init__(primitive)
        if max_size < 1:
            msg = f"max_size={max_size!r} must be at least 1"
            raise ValueError(msg)
        if not max_wait_seconds >= 0:
            msg = f"max_wait_seconds={max_wait_seconds!r} must not be negative"
            raise ValueError(msg)
        self._max_size = max_size
        self._max_wait = max_wait_seconds
        self._gathering: PerLoop[_Batch] = PerLoop()

    async def execute(self, input_data: In, context: WorkflowContext) -> Out:
        """Join the batch that is being gathered, or begin one."""
        context = context.unrecorded()
        batch = self._gathering.get()
        call = _Call(input_data, context.event())
        if batch is None:
            due = context.time() + self._max_wait
            batch = _Batch(call, due, context.event())
            self._gathering.set(batch)
        batch.calls.append(call)
        if len(batch.calls) == self._max_size:
            self._close(batch)
        try:
            if batch.leader is not call:
                await call.landed.wait()
            if not call.has_ended:
                await self._lead(batch, context)
        finally:
            if not call.has_ended:
                self._leave(batch, call)
        result: Out = call.result()
        return result

    async def _lead(self, batch: _Batch, context: WorkflowContext) -> None:
        """Wait until the batch is gathered, and execute it for all its calls."""
        if not batch.full.is_set():
            left = batch.due - context.time()
            try:
                if left > 0:
                    await context.within(left, batch.full.wait)
                else:
                    await context.sleep(0)
            except StepTimeoutError:
                pass
            self._close(batch)
        calls = list(batch.calls)
        inputs = [call.input for call in calls]
        frame = context.enter(self, 0)
        # A step that it calls as a function is a node of no run, too.
        token = current_context.set(None)
        try:
            results = await self._primitive.execute(inputs, frame)
            outcomes = _outcomes(results, len(calls), self._primitive.label)
        except Exception as error:  # noqa: BLE001 - each call raises it
            note_failure(error, frame)
            outcomes = [Failure(error)] * len(calls)
        finally:
            current_context.reset(token)
        for call, outcome in zip(calls, outcomes, strict=True):
            call.end(outcome)

    def _leave(self, batch: _Batch, call: _Call) -> None:
        """Go on without a call that was cancelled."""
        batch.calls.remove(call)
        if batch.leader is not call:
            return
        if batch.calls:
            # The last to come, as its own deadline is likely to be the farthest.
            batch.leader = batch.calls[-1]
            batch.leader.landed.set()
        else:
            self._close(batch)

    def _close(self, batch: _Batch) -> None:
        if not batch.full.is_set():
            batch.full.set()
            self._gathering.pop()


class _Call(Pending):
    """One call: who waits for it either gets its outcome, or has to execute the batch."""

    __slots__ = ("input",)

    def __init__(self, input_data: Any, landed: anyio.Event) -> None:
        super().__init__(landed)
        self.input = input_data


class _Batch:
    """Calls that are executed together.

    Args:
        leader: The call that executes it.
        due: When it is executed at the latest.
        full: Set when no call can be added.
    """

    def __init__(self, leader: _Call, due: float, full: anyio.Event) -> None:
        self.leader = leader
        self.due = due
        self.full = full
        self.calls: list[_Call] = []


def _outcomes(results: Any, count: int, label: str) -> list[Outcome[Any]]:
    if not isinstance(results, Sequence):
        msg = (
            f"{label!r} was given a list of {count} inputs and must return a list, got {results!r}"
        )
        raise PermanentError(msg)
    if len(results) != count:
        msg = f"{label!r} returned {len(results)} results for a batch of {count} inputs"
        raise PermanentError(msg)
    return [
        result if isinstance(result, Success | Failure) else Success(result) for result in results
    ]
