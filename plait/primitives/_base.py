"""What every primitive is: executed through the door, composed with others, equal by its parts."""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from types import MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Self,
    SupportsIndex,
    TypeAlias,
    TypeVar,
)

import anyio

from plait.primitives._compensation import as_scope
from plait.primitives._context import WorkflowContext, current_context
from plait.primitives._door import COMPOSITE, SCOPE, STEP, door, numbering
from plait.primitives._futures import Future
from plait.primitives._operators import Operators
from plait.primitives._shape import describe, to_mermaid

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterable,
        Awaitable,
        Callable,
        Coroutine,
        Iterable,
        Mapping,
    )


In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)

if TYPE_CHECKING:
    Operand: TypeAlias = "WorkflowPrimitive[In, Out] | Callable[[In], Awaitable[Out]]"


class WorkflowPrimitive(Operators[In, Out], ABC):
    """A typed unit of async work that composes.

    A subclass writes `async def execute(self, input_data, context)` and nothing else. `a >> b`
    feeds the output of one to the next, `a | b` gives both the same input at the same time; either
    side may also be a function of one argument (the input) or two (the input, the context).

    A class of your own that executes other primitives lists them in `children`; each call of one
    is then a node of its own, in the order of the calls.

    Example:
        >>> from plait import WorkflowContext, WorkflowPrimitive
        >>> class Scale(WorkflowPrimitive[float, float]):
        ...     def __init__(self, factor: float) -> None:
        ...         self.factor = factor
        ...
        ...     async def execute(self, input_data: float, context: WorkflowContext) -> float:
        ...         return input_data * self.factor
        >>> workflow = Scale(2) >> (Scale(10) | round)
        >>> workflow.run_sync(1.2)
        (24.0, 2)
        >>> print(workflow)
        Scale >> (Scale | round)
    """

    _name: str | None = None
    _kind: ClassVar[str] = ""
    _attempts: int = 0
    # What the place of a child adds to the path, and who is there; composites of ours say so.
    _place: Callable[[Any], tuple[str, WorkflowPrimitive[Any, Any]]]
    at_most_once: bool = False
    needs: frozenset[str] = frozenset()
    # Whether its children all get its own input, one after the other.
    _repeats_input: ClassVar[bool] = False
    # Whether its children are told apart by the order in which it calls them.
    _numbers_children: ClassVar[bool] = False
    # Whether a node's result is more than what follows from its children's: a journal keeps those.
    _is_leaf: ClassVar[bool] = True
    # Whether it executes in the transaction in which a journal keeps that.
    _transacts: ClassVar[bool] = False
    # Whether it waits for, or holds, what only this process has: a run in it cannot leave memory.
    _stays_in_memory: ClassVar[bool] = False
    # Which of these it is; found out once.
    _entry: int | None = None
    # Whether it may execute what its children don't tell of.
    _may_compensate: ClassVar[bool] = False
    # `execute` as its class wrote it, and what the door does with it where there is no runtime.
    _undoored: ClassVar[Callable[..., Coroutine[Any, Any, Any]]]
    _bare_execute: ClassVar[Callable[..., Coroutine[Any, Any, Any]]]
    _bare_scope: ClassVar[Callable[..., Coroutine[Any, Any, Any]]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        execute = cls.__dict__.get("execute")
        if execute is None or getattr(execute, "__isabstractmethod__", False):
            return
        if inspect.isgeneratorfunction(execute) or inspect.isasyncgenfunction(execute):
            msg = f"{cls.__name__}.execute is a generator; it must be an `async def` that returns"
            raise TypeError(msg)
        if cls.children is not WorkflowPrimitive.children:
            # A composite that does not say where its children stand is not one of ours.
            cls._numbers_children |= not hasattr(cls, "_place")
        cls._undoored = execute
        cls._bare_execute = numbering(execute) if cls._numbers_children else execute
        cls._bare_scope = as_scope(cls._bare_execute)
        cls.execute = door(execute, cls._bare_execute, cls._bare_scope)  # type: ignore[method-assign]

    @abstractmethod
    def execute(self, input_data: In, context: WorkflowContext) -> Coroutine[Any, Any, Out]:
        """Do the work.

        Args:
            input_data: What the node before it returned, or what the run was started with.
            context: The run, and this node's place in it.
        """

    def __call__(self, input_data: In) -> Coroutine[Any, Any, Out]:
        """Execute as part of the run that the caller is in, or with a new context.

        Args:
            input_data: The input.
        """
        return self.execute(input_data, current_context.get() or WorkflowContext())

    def run_sync(
        self, input_data: In, context: WorkflowContext | None = None, *, backend: str = "asyncio"
    ) -> Out:
        """Execute from code that is not async, on an event loop of its own.

        Args:
            input_data: The input.
            context: The context; a new one where none is given.
            backend: "asyncio" or "trio".

        Raises:
            RuntimeError: An event loop already runs in this thread.
        """
        try:
            anyio.get_current_task()
        except RuntimeError:
            return anyio.run(self._run, input_data, context or WorkflowContext(), backend=backend)
        msg = (
            f"{self.name}.run_sync() was called inside a running event loop, which it would block; "
            f"use `await {self.name}(data)` there"
        )
        raise RuntimeError(msg)

    def future(self, input_data: In | Future[In]) -> Future[Out]:
        """Describe an execution without doing it.

        Args:
            input_data: The input, which may be, or contain, other futures.
        """
        return Future(self, input_data)

    def map(
        self,
        items: Iterable[In] | AsyncIterable[In] | Future[Iterable[In]] | Future[list[In]],
        *,
        max_concurrency: int | None = None,
    ) -> Future[list[Out]]:
        """Describe an execution for each item; the results are a list in order.

        Args:
            items: The items, any of which may be a future, or a future of them.
            max_concurrency: How many are under way at once; see `MapPrimitive`.
        """
        from plait.primitives._map import MapPrimitive

        each: MapPrimitive[In, Out] = MapPrimitive(self, max_concurrency=max_concurrency)
        return Future(each, items)

    def named(self, name: str) -> Self:
        """A copy under a name of its own, which composing does not take apart.

        Args:
            name: How paths, traces and the durable runner call it.
        """
        if not name:
            msg = f"the name of {self} must not be empty"
            raise ValueError(msg)
        clone = copy.copy(self)
        clone._name = name
        return clone

    def with_mocks(
        self, mocks: Mapping[str, WorkflowPrimitive[Any, Any] | Callable[..., Any]]
    ) -> WorkflowPrimitive[In, Out]:
        """The same workflow, with others in the place of some of its nodes; for tests.

        Nothing is rebuilt: each stands at the node's own path, inside of the retries and fallbacks
        that are around it.

        Args:
            mocks: A primitive or function for each name (`"charge"`), path (`"orders/1:charge"`) or
                pattern with `*` of either. The first that fits a node replaces it.

        Raises:
            UnknownNodeError: There is no such node. Of an imperative workflow only a whole run
                tells, which then fails with it.
            TypeError: A mock is neither a primitive nor a function.

        Example:
            >>> from plait import MockPrimitive, step
            >>> @step
            ... async def charge(total: int) -> str:
            ...     raise ConnectionError("not in a test")
            >>> orders = step(sum) >> charge >> str.upper
            >>> orders.with_mocks({"charge": MockPrimitive(return_value="paid")}).run_sync([40, 2])
            'PAID'
        """
        from plait.testing._replacing import with_mocks

        return with_mocks(self, mocks)

    @property
    def name(self) -> str:
        """What this node is called in traces and diagrams."""
        return self._name or self._kind or type(self).__name__.removesuffix("Primitive")

    @property
    def label(self) -> str:
        """What this node is called in a path; a wrapper goes by what it wraps."""
        return self.name

    @property
    def children(self) -> tuple[WorkflowPrimitive[Any, Any], ...]:
        """The primitives that this one executes."""
        return ()

    def describe(self) -> dict[str, Any]:
        """The shape as data: `name`, `type`, and `children` of the same form.

        Example:
            >>> from plait import step
            >>> (step(len) >> str).describe()["children"][0]
            {'name': 'len', 'type': 'Step', 'children': []}
        """
        return describe(self)

    def to_mermaid(self) -> str:
        """The shape as a Mermaid flowchart.

        Example:
            >>> from plait import step
            >>> print((step(len) >> str).to_mermaid())
            flowchart TD
                n0["sequential"]
                n1["len"]
                n0 --> n1
                n2["str"]
                n0 --> n2
        """
        return to_mermaid(self)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        spec = self._spec()
        if spec is None or not isinstance(other, type(self)):
            return False
        return type(self) is type(other) and (self._name, spec) == (other._name, other._spec())

    def __hash__(self) -> int:
        return object.__hash__(self) if self._spec() is None else hash((type(self), self._name))

    def __copy__(self) -> Self:
        clone = object.__new__(type(self))
        vars(clone).update(vars(self))
        return clone

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        spec = self._spec()
        if spec is None:
            return super().__reduce_ex__(protocol)
        return _remade, (type(self), spec, self._name)

    def __str__(self) -> str:
        if self._name is not None or not self.children:
            return self.name
        return f"{self.name}({', '.join(str(child) for child in self.children)})"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    def _accepts(self, result: Any) -> bool:
        """Whether a result that was recorded before can be this primitive's."""
        return True

    async def _repeat(self, input_data: Any, context: WorkflowContext) -> None:
        """Execute again those children that its recorded result came from; all are recorded."""

    def _spec(self) -> dict[str, Any] | None:
        """What another one like this is made of; None where only its class knows."""
        return None

    def _bare(self) -> Callable[[Any, WorkflowContext], Coroutine[Any, Any, Any]]:
        """What the door does for this primitive where there is no runtime."""
        kind = type(self)
        is_scope = self._find_entry() is SCOPE
        return MethodType(kind._bare_scope if is_scope else kind._bare_execute, self)

    @property
    def _is_scope(self) -> bool:
        """Whether what finishes in it may have to be undone where it fails."""
        return self._may_compensate or any(child._compensates for child in self.children)

    @property
    def _compensates(self) -> bool:
        """Whether it leaves something to be undone where what comes later fails."""
        return (self._entry or self._find_entry()) is SCOPE

    def _find_entry(self) -> int:
        is_step = self._is_leaf and not self._numbers_children
        entry = SCOPE if self._is_scope else STEP if is_step else COMPOSITE
        # Past `__setattr__`, which classes such as frozen dataclasses refuse.
        object.__setattr__(self, "_entry", entry)
        return entry

    async def _run(self, input_data: In, context: WorkflowContext) -> Out:
        # anyio.run wants a coroutine function, which a door is not.
        return await self.execute(input_data, context)


def _remade(
    kind: type[WorkflowPrimitive[Any, Any]], spec: dict[str, Any], name: str | None
) -> WorkflowPrimitive[Any, Any]:
    made = kind(**spec)
    made._name = name
    return made
