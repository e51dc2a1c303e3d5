"""Functions as primitives."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    ParamSpec,
    Protocol,
    Self,
    SupportsIndex,
    TypeVar,
    overload,
)

import anyio.to_thread

from plait.primitives._base import In, Out, WorkflowPrimitive
from plait.primitives._concurrency import backend
from plait.primitives._context import WorkflowContext, current_context
from plait.primitives._futures import Future
from plait.primitives._references import reference_to
from plait.primitives._signature import Shape, function_name, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine

T = TypeVar("T")
S = TypeVar("S")
P = ParamSpec("P")
Q = ParamSpec("Q")
A = TypeVar("A")
I = TypeVar("I")  # noqa: E741 - the instance that a method is bound to
A_contra = TypeVar("A_contra", contravariant=True)
I_contra = TypeVar("I_contra", contravariant=True)
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The input of a step that was called as a function, with other than one plain argument."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Method(Protocol[I_contra, A_contra, Q, T_co]):
    """A step whose first parameter is the instance that it will be bound to."""

    def __call__(
        self, instance: I_contra, first: A_contra, /, *args: Q.args, **kwargs: Q.kwargs
    ) -> Coroutine[Any, Any, T_co]: ...


class Step(WorkflowPrimitive[In, Out], Generic[In, P, Out]):
    """A function as a primitive: what `@step` makes, and what functions become when composed.

    Called, it takes the function's own arguments, without the context; inside a workflow the call
    is a node of that run. Composed, its input is the first parameter that is not the context.

    Args:
        function: A function, sync or async, or any other callable.
        name: Its name in paths and traces; the function's own where none is given.
        thread: Whether to run a sync function in a worker thread.
        at_most_once: Whether a durable run that was interrupted inside of it must not run it again.
        needs: What a durable runner must have to execute it, as `capabilities`: a tag, or several.
        pair: Whether the second of two required parameters is the context without being annotated.

    Raises:
        TypeError: It is not callable, or a generator.
        ValueError: A tag is empty, or has a comma.
    """

    _is_leaf: ClassVar[bool] = True
    # Whether a future that the function returns is left for somebody else to await.
    _keeps_futures: ClassVar[bool] = False
    __qualname__: str

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        thread: bool = False,
        at_most_once: bool = False,
        needs: str | Collection[str] = (),
        pair: bool = False,
    ) -> None:
        if not callable(function):
            msg = f"a step is made of a function, got {function!r}"
            raise TypeError(msg)
        shape = shape_of(function, pair=pair)
        if thread and shape.is_async:
            msg = f"{function_name(function)!r} is async: thread=True is for functions that block"
            raise TypeError(msg)
        functools.update_wrapper(self, function, updated=())
        self._name = name or function_name(function)
        self.thread = thread
        self.at_most_once = at_most_once
        self.needs = tags(needs, f"needs= of step {self._name!r}")
        self._bind(function, shape)

    @overload  # type: ignore[override]
    def __call__(self: Step[object, [], T]) -> Coroutine[Any, Any, T]: ...
    @overload
    def __call__(
        self, input_data: In, /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, Out]: ...
    def __call__(  # type: ignore[misc]
        self, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, Any]:
        """Await the function; inside a workflow, as a node of that run."""
        context = current_context.get()
        input_data = self.input_of(*args, **kwargs)
        return self.execute(input_data, context or WorkflowContext())

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(
        self: _Method[I, A, Q, T], instance: I, owner: type | None = None
    ) -> Step[A, Q, T]: ...
    @overload
    def __get__(
        self: Step[I, [], T], instance: I, owner: type | None = None
    ) -> Step[object, [], T]: ...
    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self
        bound = copy.copy(self)
        bound._bind(self._function.__get__(instance, owner), self._method_shape)
        return bound

    def input_of(self, *args: Any, **kwargs: Any) -> Any:
        """Arguments as the one input of a node: the only one by itself, several as `Arguments`."""
        if len(args) == 1 and not kwargs and self._shape.parameters:
            return args[0]
        return Arguments(args, kwargs)

    def execute(self, input_data: In, context: WorkflowContext) -> Coroutine[Any, Any, Out]:
        """Await the function, with one input or with `Arguments`."""
        if not isinstance(input_data, Arguments):
            return self._invoke(input_data, context)
        args, kwargs, shape = input_data.args, input_data.kwargs, self._shape
        if shape.context_index is not None and shape.context_index <= len(args):
            args = (*args[: shape.context_index], context, *args[shape.context_index :])
        elif shape.context is not None:
            kwargs = {**kwargs, shape.context: context}
        return self._invoke_function(*args, **kwargs)

    # The door stands in front of `execute` alone.
    call = execute

    def future(self, *args: Any, **kwargs: Any) -> Future[Out]:
        """Describe a call with the function's own arguments, some of which may be futures.

        Raises:
            TypeError: They do not fit the function's signature.
        """
        signature = self._shape.signature
        if signature is not None:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                msg = f"{self.name}.future(...): {error}; it takes {signature}"
                raise TypeError(msg) from None
        return Future(self, self.input_of(*args, **kwargs))

    def reduce(self: Step[S, ..., S], items: Any, initial: S) -> Future[S]:
        """Describe a fold: this step is given the state and an element, and returns the state.

        Args:
            items: What is folded: an iterable, an async iterable, or a future of one.
            initial: The state to start from.
        """
        from plait.primitives._reduce import ReducePrimitive

        fold: ReducePrimitive[Any, S] = ReducePrimitive(self, initial)
        return Future(fold, items)

    def _bare(self) -> Callable[[Any, WorkflowContext], Coroutine[Any, Any, Out]]:
        return self._invoke

    def _spec(self) -> dict[str, Any]:
        return {
            "function": self._function,
            "name": self._name,
            "thread": self.thread,
            "at_most_once": self.at_most_once,
            "needs": self.needs,
        }

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        # One that a module holds is that one; `@step` hides its function from pickle.
        return self.__qualname__ if reference_to(self) else super().__reduce_ex__(protocol)

    @functools.cached_property
    def _method_shape(self) -> Shape:
        return shape_of(self._function, is_method=True)

    def _bind(self, function: Callable[..., Any], shape: Shape) -> None:
        self._function = function
        self._shape = shape
        self._invoke_function = self._awaited(function)
        self._invoke = self._awaited(self._call_with())

    def _call_with(self) -> Callable[[Any, WorkflowContext], Any]:
        """The function behind the one signature `(input, context)`, chosen once."""
        function, name, index = self._function, self._shape.context, self._shape.context_index
        if self._shape.parameters:
            if name is None:
                return lambda input_data, _: function(input_data)
            if index == 1:
                return function
            if index == 0:
                return lambda input_data, context: function(context, input_data)
            return lambda input_data, context: function(input_data, **{name: context})
        if name is None:
            return lambda _, __: function()
        if index == 0:
            return lambda _, context: function(context)
        return lambda _, context: function(**{name: context})

    def _awaited(self, call: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
        """The same call as a coroutine function."""
        if self._shape.is_async:
            return call
        if self.thread:

            async def in_thread(*args: Any, **kwargs: Any) -> Any:
                # In a tuple, as trio refuses functions that turn out to return an awaitable.
                work = partial(anyio.to_thread.run_sync, lambda: (call(*args, **kwargs),))
                # No thread can be stopped: none is at work any more where its step has ended.
                (result,) = await backend().shielded(work)
                return await result if self._is_to_await(result) else result

            return in_thread

        async def inline(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            return await result if self._is_to_await(result) else result

        return inline

    def _is_to_await(self, result: object) -> bool:
        # A lambda or a wrapper around an async function shows only when it is called.
        if self._keeps_futures and isinstance(result, Future):
            return False
        return hasattr(result, "__await__")


def tags(given: str | Collection[str], what: str) -> frozenset[str]:
    """One tag, or several, as a set.

    Args:
        given: The tags.
        what: What they are given as, for messages.

    Raises:
        ValueError: One is empty, or has a comma.
    """
    found = frozenset([given] if isinstance(given, str) else given)
    for tag in found:
        if not isinstance(tag, str) or not tag.strip() or "," in tag:
            msg = f"{what} has {tag!r}, which is no tag: a tag is a name such as 'gpu'"
            raise ValueError(msg)
    return found
