"""Time and concurrency through anyio, for trio and whatever else anyio runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from plait.primitives._concurrency._group import (
    DeadlineExceededError,
    Deliver,
    Gathered,
    Group,
    Source,
)
from plait.primitives._errors import Abort

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

    from anyio.abc import TaskGroup

T = TypeVar("T")


async def sleep(seconds: float) -> None:
    """Wait for `seconds`."""
    await anyio.sleep(seconds)


async def within(seconds: float, call: Callable[[], Awaitable[T]]) -> T:
    """Run a call under a deadline."""
    with anyio.move_on_after(seconds) as scope:
        return await call()
    assert scope.cancelled_caught
    raise DeadlineExceededError(call)


class Waiter(Generic[T]):
    """What `asyncio.Future` is there: one task waits for it, another one sets it."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._error: BaseException | None = None
        self._result: T

    def __await__(self) -> Generator[Any, Any, T]:
        yield from self._event.wait().__await__()
        if self._error is not None:
            raise self._error
        return self._result

    def done(self) -> bool:
        """Whether it has been set."""
        return self._event.is_set()

    def set_result(self, result: T) -> None:
        """Let the waiting task go on with a result."""
        self._result = result
        self._event.set()

    def set_exception(self, error: BaseException) -> None:
        """Let the waiting task fail."""
        self._error = error
        self._event.set()


async def shielded(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a call to its end."""
    results: list[T] = []
    with anyio.CancelScope(shield=True):
        results.append(await call())
    return results[0]


def waiter_factory() -> Callable[[], Waiter[Any]]:
    """Makes what one task awaits and another sets."""
    return Waiter


def current_loop() -> object:
    """Something that stands for this event loop and no other."""
    import trio

    return trio.lowlevel.current_trio_token()


def call_soon() -> Callable[[Callable[[], None]], None]:
    """Has a function called on this event loop soon, from any thread."""
    import trio

    # anyio's own way into the loop waits for the function to have run; trio's does not.
    return trio.lowlevel.current_trio_token().run_sync_soon


def call_after() -> Callable[[Callable[[], None]], None]:
    """Has a function called, from the loop's own thread, after what is ready to run."""
    return call_soon()


def spawner(group: TaskGroup) -> Callable[[Callable[..., Coroutine[Any, Any, None]], Any], None]:
    """Begins tasks that no scope cancels; the group fails where one of them does."""

    async def uncancelled(call: Callable[..., Coroutine[Any, Any, None]], argument: Any) -> None:
        with anyio.CancelScope(shield=True):
            await call(argument)

    def spawn(call: Callable[..., Coroutine[Any, Any, None]], argument: Any) -> None:
        group.start_soon(uncancelled, call, argument)

    return spawn


async def gather(calls: Source[T], limit: int | None) -> Gathered[T]:
    """Run calls at the same time and wait for all of them."""
    return await AnyioGroup(calls, limit).run()


async def fold(calls: Source[T], limit: int, deliver: Deliver[T]) -> Gathered[T]:
    """Run calls at the same time and hand on each result in the order of the calls."""
    return await AnyioGroup(calls, limit, deliver=deliver).run()


class AnyioGroup(Group[T]):
    """A group of the tasks of an anyio task group."""

    async def run(self) -> Gathered[T]:
        """Run every call and wait for all of them, also when cancelled meanwhile."""
        self._parked = anyio.Event()
        try:
            async with anyio.create_task_group() as self._task_group:
                await self._drive()
        finally:
            await self._close_stream()
        return Gathered(self._results, self._failures)

    def _spawn(self, index: int, call: Coroutine[Any, Any, T]) -> None:
        self._task_group.start_soon(self._run_task, index, call)

    async def _run_task(self, index: int, call: Coroutine[Any, Any, T]) -> None:
        try:
            value = await call
        except (Exception, Abort) as error:  # noqa: BLE001 - the group raises it
            self._failed(index, error)
        else:
            self._finished(index, value)

    def _cancel_tasks(self) -> None:
        self._task_group.cancel_scope.cancel()

    async def _park(self) -> None:
        self._parked = anyio.Event()
        await self._parked.wait()

    def _unpark(self) -> None:
        self._parked.set()
