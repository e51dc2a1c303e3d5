"""So many at once, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, overload

from plait.performance._limited import Limited
from plait.performance._lines import Line
from plait.performance._loops import PerLoop
from plait.primitives._base import In, Out
from plait.primitives._errors import RejectedError, StepTimeoutError, noting

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from plait.performance._lines import Lines
    from plait.primitives._base import Operand
    from plait.primitives._context import WorkflowContext


class ConcurrencyLimit:
    """A limit on how many calls are under way at once, for several primitives to share.

    It counts for each event loop by itself, across all the runs on that loop.

    Args:
        limit: How many there may be.
        max_queue: How many more may wait; None for any number.
        name: What errors and events call it.

    Raises:
        ValueError: A number is out of its range.

    Example:
        >>> from plait import ConcurrencyLimitPrimitive
        >>> from plait.performance import ConcurrencyLimit
        >>> database = ConcurrencyLimit(10, name="database")
        >>> read = ConcurrencyLimitPrimitive(str.lower, database)
        >>> write = ConcurrencyLimitPrimitive(str.upper, database)
    """

    def __init__(
        self, limit: int, *, max_queue: int | None = None, name: str = "concurrency limit"
    ) -> None:
        if limit < 1:
            msg = f"limit={limit!r} must be at least 1"
            raise ValueError(msg)
        if max_queue is not None and max_queue < 0:
            msg = f"max_queue={max_queue!r} must not be negative"
            raise ValueError(msg)
        self.name = name
        self._limit = limit
        self._max_queue = max_queue
        self._lines: Lines = PerLoop()

    def __repr__(self) -> str:
        return f"<ConcurrencyLimit {self.name!r}: {self._limit} at once>"

    async def enter(self, key: Hashable, max_wait: float | None, context: WorkflowContext) -> Line:
        """Take a place, which `leave` gives back."""
        lines = self._lines.get_or(dict)
        line = lines.get(key)
        if line is None:
            line = lines[key] = Line(key)
        if line.inside < self._limit:
            # Nobody waits: who leaves gives the place to the first of those that do.
            line.inside += 1
            return line
        if self._max_queue is not None and len(line.waiting) >= self._max_queue:
            raise self._rejection(f"{len(line.waiting)} wait already", context)
        if max_wait == 0:
            raise self._rejection("none is free", context)
        await self._wait(line, max_wait, context)
        return line

    async def _wait(self, line: Line, max_wait: float | None, context: WorkflowContext) -> None:
        turn = context.event()
        began = context.time()
        line.waiting[turn] = None
        try:
            if max_wait is None:
                await turn.wait()
            else:
                await context.unrecorded().within(max_wait, turn.wait)
        except BaseException as error:
            is_over = isinstance(error, StepTimeoutError)
            if turn in line.waiting:
                del line.waiting[turn]
                if is_over:
                    raise self._rejection(f"none was free in {max_wait:g} s", context) from None
                raise
            if not is_over:
                # It was given the place in the moment in which it was cancelled.
                self.leave(line)
                raise
        context.report("limited", limit=self.name, wait_seconds=context.time() - began)

    def leave(self, line: Line) -> None:
        """Give a place to the first that waits for one, or back."""
        if line.waiting:
            line.waiting.popitem(last=False)[0].set()
            return
        line.inside -= 1
        if not line.inside and line.key is not None:
            # There may be any number of keys.
            del self._lines.get_or(dict)[line.key]

    def _rejection(self, reason: str, context: WorkflowContext) -> RejectedError:
        context.report("rejected", limit=self.name)
        places = f"the {self.name} has {self._limit} places"
        msg = f"{context.label!r} was rejected: {places}, and {reason}"
        return RejectedError(msg, self.name)


class ConcurrencyLimitPrimitive(Limited[In, Out]):
    """Executes a primitive at most so many times at once; further calls wait, first come first.

    A call that is cancelled while it waits leaves the line, and nothing is lost by it. In a
    durable run a finished call is not made again, and takes no place.

    Args:
        primitive: What is executed.
        limit: How many calls may be under way at once, across all runs on an event loop; or a
            `ConcurrencyLimit`, which other primitives may have as well. A primitive inside of
            itself, or of another one under the same limit, waits for itself.
        max_wait: How many seconds a call waits before it is rejected; None for as long as it takes.
        max_queue: How many calls may wait; None for any number.
        key: Makes a key of the input; each key then has a limit of its own, such as each tenant.

    Raises:
        ValueError: A number is out of its range.
        TypeError: The primitive cannot be composed, or an option is of another kind.

    Example:
        >>> from plait import ConcurrencyLimitPrimitive, MapPrimitive
        >>> async def fetch(url: str) -> int:
        ...     return len(url)
        >>> MapPrimitive(ConcurrencyLimitPrimitive(fetch, 2)).run_sync(["/", "/about", "/faq"])
        [1, 6, 4]
    """

    _kind: ClassVar[str] = "concurrency_limit"

    @overload
    def __init__(
        self,
        primitive: Operand[In, Out],
        limit: int,
        *,
        max_wait: float | None = None,
        max_queue: int | None = None,
        key: Callable[[Any], Hashable] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        primitive: Operand[In, Out],
        limit: ConcurrencyLimit,
        *,
        max_wait: float | None = None,
        key: Callable[[Any], Hashable] | None = None,
    ) -> None: ...
    def __init__(
        self,
        primitive: Operand[In, Out],
        limit: int | ConcurrencyLimit,
        *,
        max_wait: float | None = None,
        max_queue: int | None = None,
        key: Callable[[Any], Hashable] | None = None,
    ) -> None:
        super().__init__(primitive, max_wait, key)
        if isinstance(limit, ConcurrencyLimit):
            if max_queue is not None:
                msg = f"max_queue={max_queue!r} belongs to the limit that is shared: {limit!r}"
                raise TypeError(msg)
            self._limit = limit
        else:
            name = f"concurrency limit of {self.label}"
            self._limit = ConcurrencyLimit(limit, max_queue=max_queue, name=name)

    async def execute(self, input_data: In, context: WorkflowContext) -> Out:
        """Execute the primitive in a place of its own."""
        key = None if self._key is None else self._key(input_data)
        line = await self._limit.enter(key, self._max_wait, context)
        try:
            frame = context.enter(self, 0)
            return await noting(self._primitive.execute(input_data, frame), frame)
        finally:
            self._limit.leave(line)
