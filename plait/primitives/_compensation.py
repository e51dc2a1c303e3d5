"""What has to be undone when a later part of a run fails: scopes, as sagas have them.

Each node that something to undo may finish in is a scope. Where the node fails, what had finished
in it is undone before its failure goes on, the last first; where it succeeds, what it did is its
caller's to undo. So whoever handles the failure of a node finds it undone, and what had finished
before that node is left alone ("Sagas", Garcia-Molina and Salem, 1987; scopes as in WS-BPEL 2.0).
"""

from __future__ import annotations

import functools
import itertools
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import anyio

from plait.primitives._errors import note_failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from plait.primitives._base import WorkflowPrimitive
    from plait.primitives._context import WorkflowContext
    from plait.primitives._run import Run

T = TypeVar("T")

_FINISHED = "__plait_finished__"


class Compensation(NamedTuple):
    """Something that undoes what has finished.

    Attributes:
        order: When that finished, among all of its run.
        primitive: What undoes it.
        input_data: What that is given.
        frame: Its place.
    """

    order: int
    primitive: WorkflowPrimitive[Any, Any]
    input_data: Any
    frame: WorkflowContext


class Scope:
    """What has finished in one node and would have to be undone.

    Args:
        run: The run that the node is part of.
        outer: The scope around it, if it is of the same run.
    """

    __slots__ = ("_done", "_numbers", "_run")

    def __init__(self, run: Run, outer: Scope | None) -> None:
        self._run = run
        self._done: list[Compensation] = []
        self._numbers: Iterator[int] = itertools.count() if outer is None else outer._numbers

    def add(
        self, primitive: WorkflowPrimitive[Any, Any], input_data: Any, frame: WorkflowContext
    ) -> None:
        """Undo something that has just finished, should what comes later fail."""
        self._done.append(Compensation(next(self._numbers), primitive, input_data, frame))

    def take(self, other: Scope) -> None:
        """Be answerable for what another scope did."""
        self._done += other._done

    async def undo(self, error: BaseException, context: WorkflowContext) -> None:
        """Undo all of it, the last first, also where the caller is cancelled meanwhile.

        Args:
            error: What it is undone for; gets a note for each compensation that fails.
            context: The context of the node.
        """
        if self._done:
            await context.shielded(partial(self._compensate, error))

    async def _compensate(self, error: BaseException) -> None:
        done, self._done = sorted(self._done, key=lambda each: each.order, reverse=True), []
        # What a compensation does is its own affair, and nobody's to undo.
        token = _current.set(None)
        try:
            for _, primitive, input_data, frame in done:
                is_new, failed = not frame.has_begun, {}
                try:
                    await primitive.execute(input_data, frame)
                except Exception as failure:
                    note_failure(failure, frame)
                    failed = {"error": type(failure).__name__}
                    note = f"compensation {frame.label!r} ({frame.path}) failed: {failure!r}"
                    error.add_note(note)
                    frame.logger.exception("compensation_failed")
                else:
                    if frame._runtime is not None and frame._parent is not None:
                        frame._runtime.compensated(frame._parent.path)
                if is_new:
                    frame.report("compensate", **failed)
        finally:
            _current.reset(token)


_current: ContextVar[Scope | None] = ContextVar("plait_scope", default=None)


def scope_of(context: WorkflowContext) -> Scope | None:
    """The scope that what finishes now belongs to."""
    scope = _current.get()
    # A run that is started inside of another one has nothing to do with that one's.
    return scope if scope is not None and scope._run is context._run else None


def compensate(
    primitive: WorkflowPrimitive[Any, Any], input_data: Any, frame: WorkflowContext
) -> None:
    """Have something undone that has just finished, should what comes later fail.

    Args:
        primitive: What undoes it.
        input_data: What that is given.
        frame: Its place.
    """
    scope = scope_of(frame)
    if scope is not None:
        scope.add(primitive, input_data, frame)


async def scoped(call: Callable[[], Awaitable[T]], own: Scope) -> T:
    """Await a call whose compensations belong to a scope of its own."""
    token = _current.set(own)
    try:
        return await call()
    finally:
        _current.reset(token)


async def undoing(call: Callable[[], Awaitable[T]], context: WorkflowContext) -> T:
    """Await a call, and undo what finished in it where it fails.

    Args:
        call: What may fail.
        context: The context of the node that it is the work of.
    """
    outer = scope_of(context)
    own = Scope(context._run, outer)
    try:
        result = await scoped(call, own)
    except Exception as error:
        await own.undo(error, context)
        raise
    except GeneratorExit:
        # Thrown away by whoever drove it: there is no event loop left to undo anything on.
        raise
    except anyio.get_cancelled_exc_class() as cancelled:
        # Whoever cancelled a part of the run fails for it, or goes on: either decides about it.
        if outer is not None:
            outer.take(own)
        elif context._runtime is None or context._runtime.cancels():
            await own.undo(cancelled, context)
        raise
    if outer is not None:
        outer.take(own)
    return result


def as_scope(
    execute: Callable[..., Coroutine[Any, Any, T]],
) -> Callable[..., Coroutine[Any, Any, T]]:
    """The `execute` of a primitive, as a scope."""

    @functools.wraps(execute)
    def execute_as_scope(
        self: WorkflowPrimitive[Any, T], input_data: Any, context: WorkflowContext
    ) -> Coroutine[Any, Any, T]:
        return undoing(partial(execute, self, input_data, context), context)

    return execute_as_scope


def mark_finished(cancelled: BaseException, path: str, result: Any) -> None:
    """Say on a cancellation that came while a result was being recorded what it was.

    Args:
        cancelled: The cancellation.
        path: The node that has finished.
        result: Its result.
    """
    vars(cancelled)[_FINISHED] = (path, result)


def finished_before(cancelled: BaseException, path: str) -> tuple[Any] | None:
    """The result, in a tuple of one, of a node that had finished when it was cancelled."""
    finished_path, result = vars(cancelled).get(_FINISHED, (None, None))
    return (result,) if finished_path == path else None
