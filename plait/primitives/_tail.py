"""Steps that return a future: the call is made in their place, once they have ended."""

from __future__ import annotations

import dis
import functools
import inspect
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from plait.primitives._base import In, Out, WorkflowPrimitive
from plait.primitives._futures import Future, calls_in_order, replaced, result_of, settle
from plait.primitives._step import P, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from plait.primitives._context import WorkflowContext


class TailStep(Step[In, P, Out]):
    """A step whose function may return a future.

    The function is a node below this one, and has ended before the call that it returned is made.
    Where that returns a future in turn, its call is made next: a chain of such calls is one loop,
    however long it is, and nobody in it waits for the others.
    """

    _is_leaf: ClassVar[bool] = False
    _numbers_children: ClassVar[bool] = True
    _keeps_futures: ClassVar[bool] = True
    _may_compensate: ClassVar[bool] = True

    async def execute(self, input_data: In, context: WorkflowContext) -> Out:
        """Execute the function, then the calls that it returned."""
        result = await _Body(self).execute(input_data, context)
        while isinstance(result, Calls):
            future = result.futures()
            if isinstance(future.primitive, TailStep):
                await settle(future.needs(), context)
                body = _Body(future.primitive)
                result = await body.execute(replaced(future.arguments, Future, result_of), context)
            else:
                await settle([future], context)
                result = result_of(future)
        output: Out = result
        return output

    def _bare(self) -> Callable[[Any, WorkflowContext], Any]:
        return WorkflowPrimitive._bare(self)


class _Body(WorkflowPrimitive[Any, Any]):
    """The function of a step, by itself."""

    def __init__(self, step: TailStep[Any, ..., Any]) -> None:
        self._step = step
        self._name = step.name
        self.at_most_once = step.at_most_once
        self.needs = step.needs

    async def execute(self, input_data: Any, context: WorkflowContext) -> Any:
        """Execute the function; a future that it returns becomes a value."""
        result = await self._step.call(input_data, context)
        return Calls.of(result) if isinstance(result, Future) else result


@dataclass(frozen=True, slots=True)
class Reference:
    """Stands for the result of an earlier call."""

    index: int


@dataclass(frozen=True, slots=True)
class Calls:
    """A future as a value that a journal can keep: its calls, each after those that it needs.

    Attributes:
        calls: What is called with which arguments, for each.
    """

    calls: tuple[tuple[WorkflowPrimitive[Any, Any], Any], ...]

    @classmethod
    def of(cls, future: Future[Any]) -> Calls:
        """The calls that are still to be made for a future."""
        order = calls_in_order([future])
        indices = {id(call): Reference(index) for index, call in enumerate(order)}

        def referred(needed: Future[Any]) -> Any:
            return indices.get(id(needed)) or result_of(needed)

        return cls(
            tuple((call.primitive, replaced(call.arguments, Future, referred)) for call in order)
        )

    def futures(self) -> Future[Any]:
        """The last of the calls as a future again, with the others as what it needs."""
        made: list[Future[Any]] = []
        for primitive, arguments in self.calls:
            needed = replaced(arguments, Reference, lambda reference: made[reference.index])
            made.append(Future(primitive, needed))
        return made[-1]


def may_return_future(function: Callable[..., Any]) -> bool:
    """Whether a function's annotation says so, or its code describes calls."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(getattr(function, "__func__", function))
    if not isinstance(function, types.FunctionType):
        return False
    return "Future[" in str(function.__annotations__.get("return")) or _describes_calls(
        function.__code__
    )


def _describes_calls(code: types.CodeType) -> bool:
    verbs = {"future", "map", "reduce"}
    if not verbs.isdisjoint(code.co_names):
        # Names alone do not tell a method from a builtin: `map(...)` is none of ours.
        attributes = ("LOAD_METHOD", "LOAD_ATTR")
        for instruction in dis.get_instructions(code):
            if instruction.opname in attributes and instruction.argval in verbs:
                return True
    nested = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return any(map(_describes_calls, nested))
