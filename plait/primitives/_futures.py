"""Calls that are described before they are made: a lazy graph of them."""

from __future__ import annotations

import copy
import dataclasses
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from plait.primitives._concurrency import backend
from plait.primitives._context import WorkflowContext, current_context
from plait.primitives._errors import noting
from plait.primitives._outcome import Failure, Outcome, Success, results_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    import anyio

    from plait.primitives._base import WorkflowPrimitive

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Future(Generic[T_co]):
    """A call that is described and not made: what `.future()`, `.map()` and `.reduce()` return.

    Its arguments may be, or contain, other futures. Awaited, or returned from a step, it runs with
    all that it needs: what does not depend on each other at the same time, and what several need
    only once. Awaited again, it gives the same result.

    Example:
        >>> from plait import step, workflow
        >>> @step
        ... async def double(n: int) -> int:
        ...     return 2 * n
        >>> @step
        ... async def add(left: int, right: int) -> int:
        ...     return left + right
        >>> @workflow
        ... async def compute(n: int) -> int:
        ...     four = double.future(double.future(n))
        ...     return await add.future(four, four)
        >>> compute.run_sync(1)
        8
    """

    __slots__ = ("_loop", "_outcome", "_settled", "arguments", "primitive")

    def __init__(self, primitive: WorkflowPrimitive[Any, T_co], arguments: Any) -> None:
        self.primitive = primitive
        self.arguments = arguments
        self._outcome: Outcome[T_co] | None = None
        self._settled: anyio.Event | None = None
        self._loop: object = None

    def __repr__(self) -> str:
        return f"<Future of {self.primitive.name}>"

    def __await__(self) -> Generator[Any, Any, T_co]:
        yield from settle([self], current_context.get() or WorkflowContext()).__await__()
        return result_of(self)

    def needs(self) -> list[Future[Any]]:
        """The futures in the arguments."""
        return list(_futures_in(self.arguments))

    async def _wait(self) -> None:
        """Wait for whoever makes the call."""
        if self._loop is not backend().current_loop():
            msg = f"{self} is being made on another event loop; make one future for each loop"
            raise RuntimeError(msg)
        assert self._settled is not None
        await self._settled.wait()


async def settle(futures: Sequence[Future[Any]], context: WorkflowContext) -> None:
    """Make calls and all that they need, as nodes below the one that `context` is of.

    Args:
        futures: The calls.
        context: The context of the node that wants their results.

    Raises:
        ValueError: A call needs its own result.
        RuntimeError: A call is being made on another event loop.
    """
    while pending := [future for future in futures if future._outcome is None]:
        order = calls_in_order(pending)
        calls = [call for call in order if call._settled is None]
        if not calls:
            await pending[0]._wait()
            continue
        # Places are taken here, in the order of the graph, and not as the calls happen to start.
        frames = [context.numbered(call.primitive) for call in calls]
        for call in calls:
            call._settled = context.event()
            call._loop = backend().current_loop()
        results_of(await context.concurrently(map(partial, repeat(_make), calls, frames)))


def result_of(future: Future[T]) -> T:
    """The result of a call that has been made; raises its error where it failed."""
    outcome = future._outcome
    if isinstance(outcome, Failure):
        raise outcome.error
    assert outcome is not None
    return outcome.value


def replaced(value: Any, kind: type[T], replace: Callable[[T], Any]) -> Any:
    """An argument with something in place of each part of a kind; itself where it has none.

    Args:
        value: The argument; looked through are lists, tuples, sets, dicts, dataclasses and
            pydantic models.
        kind: The class of what is replaced.
        replace: Is given each part, and returns what stands there instead.
    """
    if isinstance(value, kind):
        return replace(value)
    parts = _parts(value)
    changed = {
        key: new
        for key, part in parts.items()
        if (new := replaced(part, kind, replace)) is not part
    }
    if not changed:
        return value
    if isinstance(value, dict):
        return value | changed
    if isinstance(value, list | tuple | set | frozenset):
        items: list[Any] = [changed.get(key, part) for key, part in parts.items()]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if hasattr(value, "model_copy"):
        return value.model_copy(update=changed)
    clone = copy.copy(value)
    for name, new in changed.items():
        object.__setattr__(clone, name, new)
    return clone


def _parts(value: Any) -> dict[Any, Any]:
    if isinstance(value, dict):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return dict(enumerate(value))
    if hasattr(value, "model_copy"):  # a pydantic model; importing pydantic would take longer
        return dict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {}


def _futures_in(value: Any) -> Iterator[Future[Any]]:
    if isinstance(value, Future):
        yield value
    else:
        for part in _parts(value).values():
            yield from _futures_in(part)


def calls_in_order(roots: Sequence[Future[Any]]) -> list[Future[Any]]:
    """The calls that are still to be made for some, each after those that it needs.

    Raises:
        ValueError: A call needs its own result.
    """
    order: dict[int, Future[Any]] = {}
    for root in roots:
        # No recursion: a graph may be deeper than the stack.
        path = {id(root): (root, _futures_in(root.arguments))}
        while path:
            future, needs = next(reversed(path.values()))
            for needed in needs:
                if id(needed) in path:
                    names = " needs ".join(call.primitive.name for call, _ in path.values())
                    msg = (
                        f"a call cannot need its own result: {names} needs {needed.primitive.name}"
                    )
                    raise ValueError(msg)
                if needed._outcome is None and id(needed) not in order:
                    path[id(needed)] = (needed, _futures_in(needed.arguments))
                    break
            else:
                order[id(future)] = future
                del path[id(future)]
    return list(order.values())


async def _make(future: Future[Any], frame: WorkflowContext) -> None:
    assert future._settled is not None
    try:
        for needed in future.needs():
            if needed._outcome is None:
                await needed._wait()
        arguments = replaced(future.arguments, Future, result_of)
        future._outcome = Success(await noting(future.primitive.execute(arguments, frame), frame))
    except Exception as error:
        future._outcome = Failure(error)
        raise
    finally:
        future._settled.set()
        if future._outcome is None:
            # Cancelled, so not made: whoever awaits it next makes it.
            future._settled = None
