"""Time and concurrency on asyncio itself."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from plait.primitives._concurrency._group import (
    DeadlineExceededError,
    Deliver,
    Gathered,
    Group,
    Source,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from anyio.abc import TaskGroup

T = TypeVar("T")


async def sleep(seconds: float) -> None:
    """Wait for `seconds`."""
    await asyncio.sleep(seconds)


async def within(seconds: float, call: Callable[[], Awaitable[T]]) -> T:
    """Run a call under a deadline: what `asyncio.timeout` does, at less cost."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task(loop)
    assert task is not None
    before = task.cancelling()
    passed: list[bool] = []
    timer = loop.call_at(loop.time() + seconds, _pass, task, passed)
    try:
        return await call()
    except asyncio.CancelledError as error:
        # Where somebody else has cancelled the task as well, that is what counts.
        if passed and task.uncancel() <= before:
            passed.clear()
            raise DeadlineExceededError(call) from error
        passed.clear()
        raise
    finally:
        timer.cancel()
        if passed:
            task.uncancel()


def _pass(task: asyncio.Task[Any], passed: list[bool]) -> None:
    passed.append(True)
    task.cancel()


async def shielded(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a call to its end."""
    # In a task of its own: no scope keeps `Task.cancel` from what a task awaits.
    task = asyncio.get_running_loop().create_task(call())
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is None:
        return task.result()
    failure = None if task.cancelled() else task.exception()
    if failure is not None and not isinstance(failure, Exception):
        raise failure
    raise cancelled


def waiter_factory() -> Callable[[], asyncio.Future[Any]]:
    """Makes what one task awaits and another sets."""
    loop = asyncio.get_running_loop()
    # What `create_future` makes, without a call of Python.
    is_plain = isinstance(loop, asyncio.BaseEventLoop)
    return partial(asyncio.Future, loop=loop) if is_plain else loop.create_future


def current_loop() -> object:
    """Something that stands for this event loop and no other."""
    return asyncio.get_running_loop()


def call_soon() -> Callable[[Callable[[], None]], object]:
    """Has a function called on this event loop soon, from any thread."""
    # In the context of this task: that of a worker thread says that it has no event loop.
    return partial(asyncio.get_running_loop().call_soon_threadsafe, context=copy_context())


def call_after() -> Callable[[Callable[[], None]], object]:
    """Has a function called, from the loop's own thread, after what is ready to run."""
    return asyncio.get_running_loop().call_soon


def spawner(group: TaskGroup) -> Callable[[Callable[..., Coroutine[Any, Any, None]], Any], None]:
    """Begins tasks that no scope cancels; the group fails where one of them does."""
    loop, context = asyncio.get_running_loop(), copy_context()
    tasks: set[asyncio.Task[None]] = set()

    def ended(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            group.start_soon(_raise, error)

    def spawn(call: Callable[..., Coroutine[Any, Any, None]], argument: Any) -> None:
        # Not by the group: what it keeps of each task costs more than the task.
        task = loop.create_task(call(argument))
        tasks.add(task)
        task.add_done_callback(ended, context=context)

    return spawn


async def _raise(error: BaseException) -> None:
    raise error


async def gather(calls: Source[T], limit: int | None) -> Gathered[T]:
    """Run calls at the same time and wait for all of them."""
    return await AsyncioGroup(calls, limit).run()


async def fold(calls: Source[T], limit: int, deliver: Deliver[T]) -> Gathered[T]:
    """Run calls at the same time and hand on each result in the order of the calls."""
    return await AsyncioGroup(calls, limit, deliver=deliver).run()


class AsyncioGroup(Group[T]):
    """A group of asyncio tasks."""

    async def run(self) -> Gathered[T]:
        """Run every call and wait for all of them, also when cancelled meanwhile."""
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._tasks: set[asyncio.Task[T]] = set()
        self._parked: asyncio.Future[None] | None = None
        try:
            return await self._drive()
        except BaseException:
            self._stop()
            while self._running:
                # Cancelled again: what brought us here is raised once the tasks have ended.
                with suppress(asyncio.CancelledError):
                    await self._park()
            raise
        finally:
            await self._close_stream()

    def _spawn(self, index: int, call: Coroutine[Any, Any, T]) -> None:
        task = self._loop.create_task(call, context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(partial(self._task_ended, index))

    def _task_ended(self, index: int, task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            if self._stopped:
                self._running -= 1
                if not self._running:
                    self._unpark()
            else:
                self._failed(index, asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            self._failed(index, error)
        else:
            self._finished(index, task.result())

    def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _park(self) -> None:
        self._parked = self._loop.create_future()
        await self._parked

    def _unpark(self) -> None:
        if self._parked is not None and not self._parked.done():
            self._parked.set_result(None)
