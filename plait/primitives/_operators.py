"""The operators that compose, and what type their result is of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, TypeVarTuple, overload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from plait.primitives._base import WorkflowPrimitive
    from plait.primitives._context import WorkflowContext
    from plait.primitives._parallel import ParallelPrimitive
    from plait.primitives._sequential import SequentialPrimitive

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Operators(Generic[In, Out]):
    """`>>` and `|`, between primitives and with functions on either side."""

    @overload
    def __rshift__(self, other: WorkflowPrimitive[Out, T]) -> SequentialPrimitive[In, T]: ...
    @overload
    def __rshift__(self, other: Callable[[Out], Awaitable[T]]) -> SequentialPrimitive[In, T]: ...
    @overload
    def __rshift__(
        self, other: Callable[[Out, WorkflowContext], Awaitable[T]]
    ) -> SequentialPrimitive[In, T]: ...
    @overload
    def __rshift__(self, other: Callable[[Out], T]) -> SequentialPrimitive[In, T]: ...
    @overload
    def __rshift__(
        self, other: Callable[[Out, WorkflowContext], T]
    ) -> SequentialPrimitive[In, T]: ...
    def __rshift__(self, other: Any) -> SequentialPrimitive[In, Any]:
        """`self >> other`: the output of `self` is the input of `other`."""
        from plait.primitives._sequential import SequentialPrimitive

        return SequentialPrimitive((self, other))

    @overload
    def __rrshift__(self, other: Callable[[T], Awaitable[In]]) -> SequentialPrimitive[T, Out]: ...
    @overload
    def __rrshift__(
        self, other: Callable[[T, WorkflowContext], Awaitable[In]]
    ) -> SequentialPrimitive[T, Out]: ...
    @overload
    def __rrshift__(self, other: Callable[[T], In]) -> SequentialPrimitive[T, Out]: ...
    @overload
    def __rrshift__(
        self, other: Callable[[T, WorkflowContext], In]
    ) -> SequentialPrimitive[T, Out]: ...
    def __rrshift__(self, other: Any) -> SequentialPrimitive[Any, Out]:
        """`other >> self`, for a function on the left."""
        from plait.primitives._sequential import SequentialPrimitive

        return SequentialPrimitive((other, self))

    @overload
    def __or__(self, other: ParallelPrimitive[In, *Ts]) -> ParallelPrimitive[In, Out, *Ts]: ...
    @overload
    def __or__(self, other: WorkflowPrimitive[In, T]) -> ParallelPrimitive[In, Out, T]: ...
    @overload
    def __or__(self, other: Callable[[In], Awaitable[T]]) -> ParallelPrimitive[In, Out, T]: ...
    @overload
    def __or__(
        self, other: Callable[[In, WorkflowContext], Awaitable[T]]
    ) -> ParallelPrimitive[In, Out, T]: ...
    @overload
    def __or__(self, other: Callable[[In], T]) -> ParallelPrimitive[In, Out, T]: ...
    @overload
    def __or__(
        self, other: Callable[[In, WorkflowContext], T]
    ) -> ParallelPrimitive[In, Out, T]: ...
    def __or__(self, other: Any) -> ParallelPrimitive[Any, *tuple[Any, ...]]:
        """`self | other`: both get the same input at the same time; the result is a tuple."""
        from plait.primitives._parallel import ParallelPrimitive

        return ParallelPrimitive((self, other))

    @overload
    def __ror__(self, other: Callable[[In], Awaitable[T]]) -> ParallelPrimitive[In, T, Out]: ...
    @overload
    def __ror__(
        self, other: Callable[[In, WorkflowContext], Awaitable[T]]
    ) -> ParallelPrimitive[In, T, Out]: ...
    @overload
    def __ror__(self, other: Callable[[In], T]) -> ParallelPrimitive[In, T, Out]: ...
    @overload
    def __ror__(
        self, other: Callable[[In, WorkflowContext], T]
    ) -> ParallelPrimitive[In, T, Out]: ...
    def __ror__(self, other: Any) -> ParallelPrimitive[Any, *tuple[Any, ...]]:
        """`other | self`, for a function on the left."""
        from plait.primitives._parallel import ParallelPrimitive

        return ParallelPrimitive((other, self))
