"""Many results made one."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterable, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from plait.primitives._base import WorkflowPrimitive
from plait.primitives._map import Folded
from plait.primitives._signature import function_name, shape_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from plait.primitives._context import WorkflowContext
    from plait.primitives._map import MapPrimitive

E = TypeVar("E")
S = TypeVar("S")


class ReducePrimitive(WorkflowPrimitive[Iterable[E] | AsyncIterable[E], S], Generic[E, S]):
    """Folds the elements of its input, in order, into one state.

    Right after a map it folds while the map still runs, so that the whole list is never held.

    Args:
        fn: Is given the state and an element, and returns the state to go on with; sync or async.
        initial: The state to start from; each run starts from a copy of its own.

    Raises:
        TypeError: `fn` is not a function of two arguments.

    Example:
        >>> from plait import MapPrimitive, ReducePrimitive
        >>> count = MapPrimitive(len) >> ReducePrimitive(lambda total, size: total + size, 0)
        >>> count.run_sync(["to", "be", "or", "not"])
        9
    """

    def __init__(
        self, fn: Callable[[S, E], S] | Callable[[S, E], Awaitable[S]], initial: S
    ) -> None:
        if not callable(fn):
            msg = f"a ReducePrimitive folds with a function, got {fn!r}"
            raise TypeError(msg)
        shape = shape_of(fn)
        try:
            if shape.signature is not None:
                shape.signature.bind(initial, None)
        except TypeError:
            count = len(shape.parameters)
            msg = f"a ReducePrimitive calls {function_name(fn)!r} with 2 arguments, not {count}"
            raise TypeError(msg) from None
        self._name = function_name(fn)
        self._fn = fn
        self._initial = initial

    async def execute(
        self, input_data: Iterable[E] | AsyncIterable[E], context: WorkflowContext
    ) -> S:
        """Fold the elements."""
        state: Any = copy.deepcopy(self._initial)

        async def fold(element: E) -> None:
            nonlocal state
            state = self._fn(state, element)
            if hasattr(state, "__await__"):
                state = await state

        if isinstance(input_data, Mapped):
            folded: Any = Folded(input_data.elements, fold)
            await input_data.primitive.execute(folded, input_data.frame)
        elif isinstance(input_data, AsyncIterable):
            async for element in input_data:
                await fold(element)
        else:
            for element in input_data:
                await fold(element)
        result: S = state
        return result

    def _spec(self) -> dict[str, Any]:
        return {"fn": self._fn, "initial": self._initial}

    def __str__(self) -> str:
        return f"reduce({self.name})"


class Mapped:
    """The input of a reduce right after a map: the map that is still to be executed.

    Args:
        primitive: The map.
        elements: Its input.
        frame: The context at its place.
    """

    __slots__ = ("elements", "frame", "primitive")

    def __init__(
        self, primitive: MapPrimitive[Any, Any], elements: Any, frame: WorkflowContext
    ) -> None:
        self.primitive = primitive
        self.elements = elements
        self.frame = frame
