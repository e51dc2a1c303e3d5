"""Waits that outlive the process: what a run waits for, and for how long."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from plait.durable._arrivals import Racing, is_body, is_imperative
from plait.durable._history import call_digest
from plait.durable._recorder import suspended
from plait.durable._stored import Kind, Wait
from plait.primitives._concurrency import DeadlineExceededError
from plait.primitives._deadline import bounded
from plait.primitives._errors import Abort

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        Awaitable,
        Callable,
        Coroutine,
        Generator,
        Sequence,
    )

    from plait.durable._environment import Environment
    from plait.durable._stored import StoredRun
    from plait.primitives import Runtime, WorkflowContext

T = TypeVar("T")

_SETTLING_SECONDS = 0.05
"""How long what can go on is let go on before a cancelled run is stopped where it stands."""
_STUCK_SECONDS = 2.0
"""After which time a cancelled run is stopped whose replay comes to nothing that is recorded."""
_CANCELLED = "#cancelled"
"""Where the time is recorded at which a run was stopped."""


class Waits(Racing):
    """What a run waits for, and whether it does anything else meanwhile."""

    __slots__ = (
        "_cut_off",
        "_deadlines",
        "_given_up",
        "_is_earnest",
        "_is_stopped",
        "_is_told_time",
        "_shields",
        "_spawn",
        "_stuck_since",
        "_topics",
        "failures",
        "is_cancelled",
        "is_new",
        "replayed",
        "stop",
    )

    if TYPE_CHECKING:

        def _previous(self, parent: str) -> str:
            """The path of the call that this task made before, in the code of a node."""
            ...

    def __init__(self, run: StoredRun, environment: Environment, inner: Runtime | None) -> None:
        super().__init__(run, environment, inner)
        self.stop = anyio.CancelScope()
        """What the run is executed in."""
        self.is_cancelled = run.is_cancelled
        self.is_new = False
        """Whether nothing is recorded of it."""
        self.failures: list[str] = []
        """Where the failures happened that nothing has handled so far, sorted."""
        self.replayed = 0
        """How many nodes were handed back from the journal."""
        self._topics = environment.topics
        self._spawn = environment.spawn
        self._is_stopped = False
        self._is_earnest = False
        self._stuck_since: tuple[int, float] | None = None
        self._deadlines: list[Wait] = []
        self._given_up: list[tuple[str, tuple[str, ...]]] = []
        self._shields: dict[anyio.CancelScope, None] = {}
        self._cut_off: dict[str, None] = {}
        """The nodes that are executed again up to where they were cancelled."""
        self._is_told_time = False
        """Whether code was told a time, or gave something up, and that is perhaps not on disk."""

    @property
    def waits(self) -> list[Wait]:
        """What would wake the run."""
        return [*self._waits, *self._deadlines]

    def let_go(self) -> None:
        """Have the run leave memory: nothing of it is undone, as it is carried on later."""
        self.is_closing = True
        self.stop.cancel()
        for shield in self._shields:
            shield.cancel()

    async def shielded(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a call to its end, unless the run is let go of: it is run when it goes on."""

        async def until_let_go() -> T:
            results: list[T] = []
            with anyio.CancelScope() as scope:
                self._shields[scope] = None
                if self.is_closing:
                    scope.cancel()
                try:
                    results.append(await call())
                finally:
                    del self._shields[scope]
            if not results:
                raise self._abort(suspended(self.run_id))
            return results[0]

        return await super().shielded(until_let_go)

    def cancels(self) -> bool:
        """Whether the run was cancelled, and not let go of."""
        return self._is_stopped and not self.is_closing

    def to_do_again(self) -> list[str]:
        """The paths of what a resumed run does again: what failed, and what was given up for it."""
        failed = set(self.failures)
        given_up = {path for path, because in self._given_up if failed.intersection(because)}
        return sorted(failed | given_up)

    def cancel(self) -> None:
        """Stop the run where it stands; while it is replayed, where it stood."""
        if self.is_closing or self._is_stopped:
            return
        self.is_cancelled = True
        if self._is_earnest or self.is_new:
            self._stop()
            return
        # The replay comes to where it stood, unless it waits for something of its own.
        now = self.time()
        if self._stuck_since is None or self._stuck_since[0] != self.replayed:
            self._stuck_since = (self.replayed, now)
        elif now - self._stuck_since[1] > _STUCK_SECONDS:
            self._stop()

    async def sleep(self, seconds: float, context: WorkflowContext) -> None:
        """Wait until the time that was recorded when the wait began."""
        path = self._own_place(context, "sleep")
        async with self._awaited_at(path, context):
            until = await self._until(path, seconds)
            left = self._left(until)
            if left > 0:
                await self._before_earnest(path)
            with self._waiting(Wait(path, "", until)):
                await super().sleep(max(0.0, left), context)

    async def within(
        self, seconds: float, call: Callable[[], Awaitable[T]], context: WorkflowContext
    ) -> T:
        """Run a call under the deadline that was recorded when it began."""
        path = self._own_place(context, "deadline")
        until = await self._until(path, seconds)
        deadline = Wait(path, "", until)
        self._deadlines.append(deadline)
        left = max(0.0, self._left(until))
        bounded(self.time() + left)
        try:
            if not left and self._history and self._line_up().is_expecting:
                return await self._until_passed(path, call)
            return await super().within(left, call, context)
        except DeadlineExceededError:
            async with self._racing(path, context, has_raced=True):
                pass
            raise
        finally:
            self._deadlines.remove(deadline)

    def now(self, context: WorkflowContext) -> float:
        """The time; the body of a workflow is told the same when it is executed again."""
        if not is_body(context):
            return self.timestamp()
        path = self._own_place(context, "now")
        now = self._recorded_time(path)
        if now is None:
            now = self.timestamp()
            self._note(self._record(path, Kind.TIME, repr(now).encode()))
            self._is_told_time = True
        return now

    def patched(self, name: str, context: WorkflowContext) -> bool:
        """Whether the run had not passed this point before the change."""
        if not is_body(context):
            return True
        path = f"{context.path}/#patched:{name}"
        if self._history.get(path) is None:
            calls = self._history.calls(context.path)
            if calls.unmade(call_digest(b"", self._previous(context.path))) is not None:
                return False
            self._note(self._record(path, Kind.VALUE))
        return True

    def _own_place(self, context: WorkflowContext, what: str, name: str = "") -> str:
        if not is_imperative(context):
            return super()._own_place(context, what, name)
        # Below the code, as its calls are: these stay when the code failed and is resumed. By the
        # call that its own task made before: others may come first in a replay.
        above = context.path
        after = self._previous(above)[len(above) + 1 :].partition(":")[0]
        count = self._count(f"{above}/{after}#{what}:{name}")
        place = f"{above}/{after}{f'~{count}' if count > 1 else ''}#{what}"
        return f"{place}:{name}" if name else place

    async def _wait(
        self,
        waits: Sequence[Wait],
        take: Callable[[], Awaitable[T | None]],
        context: WorkflowContext,
        turn: str = "",
    ) -> T | None:
        """Wait until something can be taken; None where the time is over before.

        Args:
            waits: What for.
            take: Takes it; None where it is not there.
            context: The node that waits.
            turn: The topic of news that are for this one only, in place of those of the waits.
        """
        path, _, until = waits[0]
        await self.flush()
        topics = [turn] if turn else [wait.topic for wait in waits]
        with self._topics.listening(*topics) as news:
            await self._before_earnest(path)
            while True:
                self._refuse_when_closing(path)
                found = await self._on_disk(take())
                # News may have come as it was let go: what was taken is recorded, and comes again.
                self._refuse_when_closing(path)
                if found is not None:
                    return found
                left = None if until is None else until - self.timestamp()
                if left is not None and left <= 0:
                    return None
                with self._waiting(*waits):
                    if left is None:
                        await news.wait()
                    else:
                        with suppress(DeadlineExceededError):
                            await super().within(left, news.wait, context)

    async def _until(self, path: str, seconds: float) -> float:
        until = self._recorded_time(path)
        if until is None:
            until = self.timestamp() + seconds
            await self._write(self._record(path, Kind.TIME, repr(until).encode()))
        return until

    def _left(self, until: float) -> float:
        """How many seconds there are until a time; a run that was stopped has what it had then."""
        now = self.timestamp()
        if self.is_cancelled and not self._is_stopped:
            stopped_at = self._recorded_time(_CANCELLED)
            now = now if stopped_at is None else min(now, stopped_at)
        return until - now

    @contextmanager
    def _waiting(self, *waits: Wait) -> Generator[None, None, None]:
        self._waits.extend(waits)
        if not self._busy:
            self._on_idle(self, True)
        try:
            yield
        finally:
            for wait in waits:
                self._waits.remove(wait)
            self._on_idle(self, not self._busy and bool(self._waits))

    @asynccontextmanager
    async def _awaited_at(self, path: str, context: WorkflowContext) -> AsyncGenerator[None, None]:
        """Wait for something that comes, or is given up, as it was at first."""
        with self._giving_up(path):
            async with self._racing(path, context):
                await self._given_up_again(path)
                yield

    @contextmanager
    def _giving_up(self, path: str) -> Generator[None, None, None]:
        """Keep that the code which waited went on without what it waited for."""
        try:
            yield
        except anyio.get_cancelled_exc_class():
            self._give_up(path)
            raise

    def _give_up(self, path: str, digest: bytes = b"") -> None:
        """Keep that what is below a path was cancelled by the code above: so will a replay do."""
        if self.is_closing or self._is_stopped:
            return
        self._given_up.append((path, tuple(self.failures)))
        record = self._history.outcome(path)
        if record is None or record.kind == Kind.TIME:
            # Only once that code goes on: where asyncio ends, it cancels every task there is.
            self._put_off.append(self._record(path, Kind.CANCELLED, digest=digest))
            self._is_told_time = True

    async def _given_up_again(self, path: str) -> None:
        """Where a wait was cancelled at first, wait for whoever will do so again."""
        record = self._history.get(path)
        if record is not None and record.kind == Kind.CANCELLED:
            await anyio.sleep_forever()

    async def _before_earnest(self, path: str) -> None:
        """Come to where a replay ends and something is done in earnest."""
        if (first := self._to_await_first(path)) is not None:
            await first

    def _to_await_first(self, path: str) -> Awaitable[None] | None:
        """What to await before something is done in earnest; None where that is nothing."""
        if self._cut_off and any(path.startswith((f"{p}/", f"{p}[")) for p in self._cut_off):
            return anyio.sleep_forever()
        if self.is_closing or self.is_verifying:
            self._refuse_when_closing(path)
        unsure = self._journal.confirm()
        if unsure is None and (not self.is_cancelled or self._is_stopped):
            self._is_earnest = True
            return None
        return self._made_sure(unsure)

    async def _made_sure(self, unsure: Awaitable[None] | None) -> None:
        if unsure is not None:
            await self._on_disk(unsure)
        if not self.is_cancelled or self._is_stopped:
            self._is_earnest = True
            return
        # Everything that was finished is to be replayed first: its compensations are still to run.
        await self._come_to_rest()
        await anyio.sleep(_SETTLING_SECONDS)
        self._stop()
        await checkpoint()

    async def _keep_time(self) -> None:
        """Have what code was told of the time on disk before anything is done with it."""
        self._is_told_time = False
        if self._durability == "sync":
            await self.flush()

    def _stop(self) -> None:
        if not self._is_stopped:
            self._is_stopped = True
            if self._history.get(_CANCELLED) is None:
                stopped_at = repr(self.timestamp()).encode()
                self._note(self._record(_CANCELLED, Kind.TIME, stopped_at))
        self.stop.cancel()

    async def _uninterrupted(
        self, call: Callable[[], Awaitable[T]]
    ) -> tuple[T, BaseException | None]:
        """Have something done to its end; what it came to, and how this was cancelled meanwhile."""
        done: list[T] = []
        failed: list[BaseException] = []
        begun: list[bool] = []
        ended = anyio.Event()

        async def carry_out() -> None:
            begun.append(True)
            try:
                with anyio.CancelScope(shield=True):
                    done.append(await call())
            except (Exception, Abort) as error:  # noqa: BLE001 - raised where it is waited for
                failed.append(error)
            finally:
                ended.set()

        self._spawn(carry_out)
        cancelled: BaseException | None = None
        self._begin_work()
        while not ended.is_set():
            try:
                with anyio.CancelScope(shield=True):
                    await ended.wait()
            except anyio.get_cancelled_exc_class() as error:
                # asyncio's own cancelling knows no shields.
                cancelled = error
                if not begun:
                    break
        self._end_work()
        if failed:
            raise failed[0]
        if not done:
            # All tasks are cancelled, also the one that was to carry it out: the program ends.
            raise self._abort(suspended(self.run_id))
        return done[0], cancelled
