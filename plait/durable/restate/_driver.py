"""Gives the branches of one run their turns, one at a time, in an order that a replay keeps.

Restate finds what a handler did again by the order in which it did it. Tasks of an event loop run
in an order of their own each time; strands run in the order in which what they wait for came, and
that is in Restate's journal.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from restate import TerminalError, wait_completed

from plait.durable.restate._errors import UnsupportedOnRestateError
from plait.primitives._concurrency._group import Gathered, Group

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from restate import RestateDurableFuture

T = TypeVar("T")


class Wait:
    """Something that strands wait for until it is set."""

    is_set = False

    def __init__(self) -> None:
        self._strands: list[Strand] = []

    def set(self) -> None:
        """Let those go on that wait for it."""
        self.is_set = True
        strands, self._strands = self._strands, []
        for strand in strands:
            strand.resume()

    async def wait(self) -> None:
        """Wait until it is set: as an `anyio.Event` does."""
        await self

    async def forever(self) -> NoReturn:
        """Wait until the strand is cancelled."""
        while True:
            await self

    def interrupt(self, strand: Strand) -> None:
        """Have a strand that is cancelled go on, at once or when what it began has ended."""
        self._strands.remove(strand)
        strand.resume()

    def add(self, strand: Strand) -> None:
        """Have a strand go on when this is set."""
        self._strands.append(strand)

    def __await__(self) -> Generator[Wait, None, None]:
        while not self.is_set:
            yield self


class Shield(Wait):
    """Something that even those wait for who are cancelled; they hear of it then."""

    def interrupt(self, strand: Strand) -> None:
        """Let it wait."""


class Answer(Wait):
    """Something that Restate tells.

    Args:
        on_answer: Is given what it told, before those go on that wait for it.
    """

    def __init__(self, on_answer: Callable[[Any], None]) -> None:
        super().__init__()
        self._on_answer = on_answer

    def answer(self, told: Any) -> None:
        """Take what Restate told."""
        self._on_answer(told)
        self.set()


class Strand:
    """A part of a run that has its own turns: the run itself, or a branch.

    Args:
        driver: Whose strand it is.
        coroutine: What it executes.
        ended: Is given the result and the error that it ends with.
    """

    def __init__(
        self,
        driver: Driver,
        coroutine: Coroutine[Any, Any, Any],
        ended: Callable[[Any, BaseException | None], None],
    ) -> None:
        self._driver = driver
        self._coroutine = coroutine
        self._ended = ended
        self._context: Context = copy_context()
        self._waits: Wait | None = None
        self._misuse: Exception | None = None
        self._is_to_cancel = False
        self.cancels = 0
        """How many have asked it to stop and not taken that back."""

    def resume(self) -> None:
        """Give it a turn."""
        self._waits = None
        self._driver.ready.append(self)

    def cancel(self) -> None:
        """Have it stop; it hears of it where it waits."""
        self.cancels += 1
        self._is_to_cancel = True
        if self._waits is not None:
            self._waits.interrupt(self)

    def uncancel(self) -> int:
        """Take back that it is to stop; how many others want it to."""
        self.cancels -= 1
        self._is_to_cancel = self._is_to_cancel and self.cancels > 0
        return self.cancels

    def take_turn(self) -> None:
        """Execute it until it waits for something, or ends."""
        try:
            waits = self._context.run(self._go_on)
        except StopIteration as end:
            self._driver.forget(self)
            self._ended(end.value, None)
        except BaseException as error:  # noqa: BLE001 - whoever began it raises it
            self._driver.forget(self)
            self._ended(None, error)
        else:
            self._wait_for(waits)

    def fail(self, error: Exception) -> None:
        """Have it fail where it waits."""
        assert self._waits is not None
        self._misuse = error
        self._waits.interrupt(self)

    def close(self) -> None:
        """Throw it away: it is executed again from the beginning."""
        with suppress(RuntimeError):
            self._context.run(self._coroutine.close)

    def _go_on(self) -> Any:
        misuse, self._misuse = self._misuse, None
        if misuse is not None:
            return self._coroutine.throw(misuse)
        if self._is_to_cancel:
            self._is_to_cancel = False
            return self._coroutine.throw(asyncio.CancelledError())
        return self._coroutine.send(None)

    def _wait_for(self, waits: object) -> None:
        if isinstance(waits, Wait):
            self._waits = waits
            waits.add(self)
            if self._is_to_cancel:
                waits.interrupt(self)
            return
        if waits is not None:
            msg = (
                f"{waits!r} is awaited outside of a step: on Restate, the code between steps waits "
                "for steps, context.sleep, context.wait_for and context.gather, and not for tasks "
                "of the event loop"
            )
            self._misuse = UnsupportedOnRestateError(msg)
        # Nothing, as in `asyncio.sleep(0)`: the others are given a turn.
        self.resume()


class Driver:
    """Gives the strands of one run their turns."""

    def __init__(self) -> None:
        self.ready: deque[Strand] = deque()
        self.current: Strand | None = None
        """Whose turn it is."""
        self._strands: dict[Strand, None] = {}
        self._asked: dict[Answer, RestateDurableFuture[Any]] = {}

    def begin(
        self,
        coroutine: Coroutine[Any, Any, Any],
        ended: Callable[[Any, BaseException | None], None],
    ) -> Strand:
        """Begin a strand."""
        strand = Strand(self, coroutine, ended)
        self._strands[strand] = None
        self.ready.append(strand)
        return strand

    def forget(self, strand: Strand) -> None:
        """A strand has ended."""
        del self._strands[strand]

    def ask(self, answer: Answer, future: RestateDurableFuture[Any]) -> None:
        """Have Restate's answer handed on once it is there."""
        self._asked[answer] = future

    def give_up(self, answer: Answer) -> None:
        """Wait no longer for an answer."""
        self._asked.pop(answer, None)

    def acting(self) -> Strand:
        """The strand whose code calls.

        Raises:
            UnsupportedOnRestateError: It is called from a task that is none.
        """
        if self.current is None:
            msg = (
                "a step or a wait of the run was called from a task of the event loop: on Restate, "
                "use context.gather, or a composition, in place of asyncio's gather and tasks"
            )
            raise UnsupportedOnRestateError(msg)
        return self.current

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> tuple[T, BaseException | None]:
        """Execute a coroutine, and all the strands that it begins.

        Returns:
            Its result, and the error that it ended with: what is raised here is not the run's.
        """
        ends: list[tuple[Any, BaseException | None]] = []
        root = self.begin(coroutine, lambda *end: ends.append(end))
        try:
            while not ends:
                self._take_turns()
                if not ends:
                    await self._hear(root)
        finally:
            # The newest first, as the others may wait for them.
            for strand in reversed(self._strands):
                strand.close()
        return ends[0]

    def _take_turns(self) -> None:
        while self.ready:
            self.current = self.ready.popleft()
            try:
                self.current.take_turn()
            finally:
                self.current = None

    async def _hear(self, root: Strand) -> None:
        """Wait for what Restate tells next."""
        if not self._asked:
            msg = "the run waits for something that nothing in it will do"
            root.fail(RuntimeError(msg))
            return
        try:
            told, _ = await wait_completed(*self._asked.values())
        except TerminalError:
            # No operation of ours fails: somebody cancels the invocation.
            root.cancel()
            return
        for answer, future in list(self._asked.items()):
            if future in told:
                del self._asked[answer]
                answer.answer(await future)


class StrandGroup(Group[T]):
    """A group of strands."""

    def __init__(self, driver: Driver, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._driver = driver
        self._members: dict[int, Strand] = {}
        self._parked = Wait()

    async def run(self) -> Gathered[T]:
        """Run every call and wait for all of them, also when cancelled meanwhile."""
        try:
            return await self._drive()
        except GeneratorExit:
            raise
        except BaseException:
            self._stop()
            while self._running:
                # Cancelled again: what brought us here is raised once the others have ended.
                with suppress(asyncio.CancelledError):
                    await self._park()
            raise
        finally:
            await self._close_stream()

    def _spawn(self, index: int, call: Coroutine[Any, Any, T]) -> None:
        def ended(result: Any, error: BaseException | None) -> None:
            del self._members[index]
            if error is None:
                self._finished(index, result)
            elif isinstance(error, asyncio.CancelledError) and self._stopped:
                self._running -= 1
                if not self._running:
                    self._unpark()
            else:
                self._failed(index, error)

        self._members[index] = self._driver.begin(call, ended)

    def _cancel_tasks(self) -> None:
        for strand in list(self._members.values()):
            strand.cancel()

    async def _park(self) -> None:
        self._parked = Wait()
        await self._parked

    def _unpark(self) -> None:
        self._parked.set()
