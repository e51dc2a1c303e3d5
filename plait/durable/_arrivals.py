"""The order in which results that raced reach the code of a run, and reach it again in a replay.

Code that has several calls under way decides by what comes first, and has to decide the same when
it is executed again. As in Temporal, whose history of events is that order, it is the order of the
records:

1. What ends while something else is under way has raced. Its record says so: its digest begins with
   `RACED`. What has no record of its end (a composite, a sleep, a deadline, an event) gets one for
   that, whose path ends in `ARRIVED`. What had nothing beside it needs none of this.
2. What has raced stands in line, in the order in which it was handed to the journal. It reaches the
   code alone: the next one does once the code has come to rest after the one before.
3. In a replay that line begins with all that is marked, in the order of the records. What is
   executed in earnest comes after it.
4. Code that was changed, or that is cancelled, may not ask for something in that line any more.
   When nothing happens for a while, such a one is passed over.

What goes on below a call does not race with that call, as code is told of the call only after it.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from plait.durable._history import ARRIVED, RACED
from plait.durable._recorder import Recorder
from plait.durable._stored import Kind
from plait.primitives._concurrency import DeadlineExceededError, backend

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
    from typing import TypeAlias, TypeVar

    from plait.durable._environment import Environment
    from plait.durable._stored import StoredRun
    from plait.primitives import Runtime, WorkflowContext

    T = TypeVar("T")
    Spawn: TypeAlias = Callable[[Callable[[], Coroutine[Any, Any, None]]], object]

_TURNS = 50
_TURNS_TO_REACT = 10
"""How many turns of the event loop code has to react to what has reached it."""
_PAUSE_SECONDS = 0.01
_SOON = 5
"""For how many pauses in a row nothing happens before a replay is taken to have come to rest."""
_PATIENCE = 50
"""For how many before what nobody asks for is passed over."""


async def let_others_go_on(turns: int = _TURNS) -> None:
    """Have the other tasks of a run come to where they wait."""
    for _ in range(turns):
        await backend().sleep(0)


class Arrivals:
    """The line of what is to reach the code of a run one by one.

    Each stands in it by the path of its record: from the beginning where that was there, or else
    from when it is handed to the journal (`join`). It waits for its `turn`, and has to `leave` once
    the code is told of it, or will not be.

    Args:
        recorded: What is recorded, in its order.
        progress: Counts what else happens in the replay.
        spawn: Begins a task that outlives the run's own.
    """

    def __init__(self, recorded: Iterable[str], progress: Callable[[], int], spawn: Spawn) -> None:
        # Not a dict, which takes ever longer to find its first key when it is emptied from there.
        self._line = OrderedDict.fromkeys(recorded, False)
        """Who stands in line, and whether somebody asks for it."""
        self._recorded = set(self._line)
        """What of that has not left yet."""
        self._waiting: dict[str, Any] = {}
        self._new_waiter = backend().waiter_factory()
        self._progress, self._spawn = progress, spawn
        self._is_watched = False
        self._left = 0

    def __contains__(self, path: str) -> bool:
        return path in self._line

    @property
    def is_expecting(self) -> bool:
        """Whether not all that is recorded has reached the code."""
        return bool(self._recorded)

    def join(self, path: str) -> None:
        """Stand behind all that is there: something is handed to the journal now."""
        self._line[path] = True

    async def turn(self, path: str) -> None:
        """Wait until what stands before it has left, and the code has reacted to that."""
        self._line[path] = True
        if path != next(iter(self._line)):
            self._waiting[path] = waiter = self._new_waiter()
            if self._recorded and not self._is_watched:
                self._is_watched = True
                self._spawn(self._watch)
            await waiter
        await let_others_go_on(_TURNS_TO_REACT)

    def leave(self, path: str) -> None:
        """Let the next one come: this one reaches the code now, or never does."""
        if self._line.pop(path, None) is None:
            return
        self._left += 1
        self._recorded.discard(path)
        self._wake(path)
        self._wake_first()

    async def settle(self, patience: int = _SOON) -> None:
        """Wait until all that is recorded has reached the code, as far as it does at all.

        Args:
            patience: For how many pauses in a row nothing happens before it is taken not to.
        """
        quiet, seen = 0, -1
        while self._recorded and quiet < patience:
            await anyio.sleep(_PAUSE_SECONDS)
            now = self._left + self._progress()
            quiet, seen = quiet + 1 if now == seen else 0, now

    async def _watch(self) -> None:
        """Pass over what nobody asks for, where others wait behind it."""
        while self._waiting and self._recorded:
            await self.settle(_PATIENCE)
            while self._line and not self._line[first := next(iter(self._line))]:
                self._recorded.discard(first)
                del self._line[first]
            self._wake_first()
        self._is_watched = False

    def _wake_first(self) -> None:
        if self._line:
            self._wake(next(iter(self._line)))

    def _wake(self, path: str) -> None:
        waiter = self._waiting.pop(path, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Racing(Recorder):
    """Knows what imperative code has under way, and has what raced come to it in its order.

    Two race where neither is below the other, and one begins before the other has ended.
    """

    if TYPE_CHECKING:
        replayed: int
        _spawn: Spawn

    __slots__ = ("_alone", "_under_way")

    def __init__(self, run: StoredRun, environment: Environment, inner: Runtime | None) -> None:
        super().__init__(run, environment, inner)
        self._under_way: dict[str, bool] = {}
        """The calls and waits of imperative code that have not ended, and whether they raced."""
        self._alone: list[str] = []
        """Those that did not: each is below the one before."""

    def _note_begun(self, path: str) -> None:
        """Take note that imperative code calls something or waits."""
        has_raced = not all(_is_below(path, other) for other in self._under_way)
        if has_raced:
            while self._alone and not _is_below(path, self._alone[-1]):
                self._under_way[self._alone.pop()] = True
        else:
            self._alone.append(path)
        self._under_way[path] = has_raced

    def _note_ended(self, path: str) -> None:
        """Take note that the code goes on."""
        if not self._under_way.pop(path):
            self._alone.remove(path)
        if self._arrivals is not None:
            self._arrivals.leave(path)
            self._arrivals.leave(f"{path}{ARRIVED}")

    def _marked(self, path: str, digest: bytes) -> bytes:
        """The digest for the record of how a node ended."""
        if not self._under_way.get(path):
            return digest
        self._line_up()
        return RACED + digest

    def _line_up(self) -> Arrivals:
        if self._arrivals is None:
            recorded = self._history.arrivals()
            self._arrivals = Arrivals(recorded, lambda: self.replayed, self._spawn)
        return self._arrivals

    async def _turn(self, path: str) -> None:
        """Wait until code may be told what is recorded of something, where that raced."""
        line = self._line_up()
        if path not in line:
            return
        self._begin_work()
        try:
            await line.turn(path)
        finally:
            self._end_work()

    async def _arrive(self, path: str, *, has_raced: bool = False) -> None:
        """Wait until code may be told of the end of something which is not recorded as such.

        Args:
            path: Its path.
            has_raced: Whether it did for certain.
        """
        arrived = f"{path}{ARRIVED}"
        if self._history.get(arrived) is None:
            # With a "#" it is a wait, whose record is of its beginning.
            is_older = "#" not in path and self._history.outcome(path) is not None
            if is_older or self.is_verifying:
                return
            if self._history:
                # Perhaps the code was not told of it; what was beside it has still to be asked for.
                is_expecting = self._line_up().is_expecting
                await let_others_go_on(_TURNS_TO_REACT if is_expecting else 1)
            if not (has_raced or self._under_way[path]):
                return
            self._line_up()
            await self._write(self._record(arrived, Kind.TIME, digest=RACED))
        await self._turn(arrived)

    @asynccontextmanager
    async def _racing(
        self, path: str, context: WorkflowContext, *, has_raced: bool = False
    ) -> AsyncGenerator[None, None]:
        """Have what is waited for come to imperative code in the order in which it did at first."""
        if not is_imperative(context):
            yield
            return
        self._note_begun(path)
        try:
            yield
            await self._arrive(path, has_raced=has_raced)
        finally:
            self._note_ended(path)

    async def _come_to_rest(self) -> None:
        """Wait until a replay has come as far as it does without doing anything in earnest."""
        if self._arrivals is not None:
            await self._arrivals.settle()
        await let_others_go_on()

    async def _until_passed(self, path: str, call: Callable[[], Awaitable[T]]) -> T:
        """Run a call whose deadline is over: what had come before that comes again."""
        line, passed = self._line_up(), f"{path}{ARRIVED}"

        async def end() -> None:
            await (line.turn(passed) if passed in line else line.settle(2 * _PATIENCE))
            scope.cancel()

        with anyio.CancelScope() as scope:
            self._spawn(end)
            try:
                return await call()
            finally:
                if not scope.cancel_called:
                    line.leave(passed)
        raise DeadlineExceededError(call)


def is_imperative(context: WorkflowContext) -> bool:
    """Whether a context is that of code which calls other nodes."""
    primitive = context._primitive
    return primitive is not None and context._cursor is None and primitive._numbers_children


def is_body(context: WorkflowContext) -> bool:
    """Whether a context is that of code which is executed again when its run is replayed."""
    primitive = context._primitive
    return primitive is not None and context._cursor is None and not primitive._is_leaf


def _is_below(path: str, other: str) -> bool:
    return path.startswith((f"{other}/", f"{other}["))
