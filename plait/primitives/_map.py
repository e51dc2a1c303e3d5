"""One execution for each element of a sequence, an iterable or an async iterable."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sized
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, overload

from plait.primitives._concurrency import DELIVERY, SOURCE
from plait.primitives._errors import note_failure
from plait.primitives._outcome import (
    OnError,
    Outcome,
    check_errors,
    check_limit,
    collecting,
    results_of,
)
from plait.primitives._wrapper import Wrapper

if TYPE_CHECKING:
    from plait.primitives._base import Operand
    from plait.primitives._concurrency import Call, Deliver, Gathered, Source
    from plait.primitives._context import WorkflowContext

E = TypeVar("E")
R = TypeVar("R")
T = TypeVar("T")

STREAM_LIMIT = 100
"""How many elements are under way at once where neither a limit is given nor a length known."""


class MapPrimitive(Wrapper[Iterable[E] | AsyncIterable[E], list[R]], Generic[E, R]):
    """Executes a primitive once for each element of its input; the results are a list in order.

    An element is only asked for when there is room for it. The first failure cancels the others,
    waits until they have ended, and is raised.

    Args:
        primitive: What is executed for each element.
        max_concurrency: How many elements are under way at once. None is all of them where the
            input has a length, and 100 where it has none.
        errors: "raise", or "collect" for a `Success` or `Failure` of each element as the result.

    Raises:
        ValueError: An option is out of its range.
        TypeError: The primitive cannot be composed.

    Example:
        >>> from plait import MapPrimitive
        >>> MapPrimitive(str.upper, max_concurrency=2).run_sync(["to", "be"])
        ['TO', 'BE']
    """

    _kind: ClassVar[str] = "map"
    _inside: ClassVar[str] = "[{}]"

    @overload
    def __init__(
        self: MapPrimitive[E, Outcome[T]],  # pyright: ignore[reportInvalidTypeVarUse]
        primitive: Operand[E, T],
        *,
        max_concurrency: int | None = None,
        errors: Literal["collect"],
    ) -> None: ...
    @overload
    def __init__(
        self: MapPrimitive[E, R],  # pyright: ignore[reportInvalidTypeVarUse]
        primitive: Operand[E, R],
        *,
        max_concurrency: int | None = None,
        errors: Literal["raise"] = "raise",
    ) -> None: ...
    def __init__(
        self,
        primitive: Operand[E, Any],
        *,
        max_concurrency: int | None = None,
        errors: OnError = "raise",
    ) -> None:
        super().__init__(primitive)
        self._limit = check_limit(max_concurrency, "a MapPrimitive")
        self._collects = check_errors(errors, "a MapPrimitive")

    async def execute(
        self, input_data: Iterable[E] | AsyncIterable[E], context: WorkflowContext
    ) -> list[R]:
        """Execute the primitive for each element."""
        gathered: Gathered[R]
        if isinstance(input_data, Folded):
            calls = self._calls(input_data.elements, context)
            gathered = await context.fold(calls, self._limit or STREAM_LIMIT, input_data.deliver)
        else:
            limit = None if isinstance(input_data, Sized) else STREAM_LIMIT
            gathered = await context.concurrently(
                self._calls(input_data, context), self._limit or limit
            )
        for index, error in gathered.failures:
            # What handing a result on raised is the failure of whoever asked for it.
            if isinstance(error, Exception) and index != DELIVERY:
                note_failure(error, context if index == SOURCE else context.enter(self, index))
        return results_of(gathered)

    def _spec(self) -> dict[str, Any]:
        return {
            "primitive": self._primitive,
            "max_concurrency": self._limit,
            "errors": "collect" if self._collects else "raise",
        }

    def _calls(
        self, elements: Iterable[E] | AsyncIterable[E], context: WorkflowContext
    ) -> Source[R]:
        if isinstance(elements, AsyncIterable):
            return self._async_calls(elements, context)
        if isinstance(elements, set | frozenset):
            # A set's own order differs from process to process, and a resumed run is in another.
            elements = sorted(elements, key=repr)
        return (self._call(*pair, context) for pair in enumerate(elements))

    async def _async_calls(
        self, elements: AsyncIterable[E], context: WorkflowContext
    ) -> AsyncGenerator[Call[R], None]:
        index = 0
        try:
            async for element in elements:
                yield self._call(index, element, context)
                index += 1
        finally:
            # A generator that is not read to its end would otherwise be closed at some later time.
            if isinstance(elements, AsyncGenerator):
                await elements.aclose()

    def _call(self, index: int, element: E, context: WorkflowContext) -> Call[Any]:
        frame = context.enter(self, index)
        call = partial(self._primitive.execute, element, frame)
        return collecting(call, frame) if self._collects else call


class Folded(Generic[E, R]):
    """The input of a map whose results are handed on one by one, in order, and not kept.

    Args:
        elements: The input itself.
        deliver: Is given each result.
    """

    __slots__ = ("deliver", "elements")

    def __init__(self, elements: Iterable[E] | AsyncIterable[E], deliver: Deliver[R]) -> None:
        self.elements = elements
        self.deliver = deliver
