"""Several primitives at the same time."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Literal,
    TypeAlias,
    TypeVar,
    TypeVarTuple,
    cast,
    overload,
)

from plait.primitives._base import In, WorkflowPrimitive
from plait.primitives._decorators import as_primitive
from plait.primitives._errors import note_failure
from plait.primitives._outcome import (
    OnError,
    Outcome,
    check_errors,
    check_limit,
    collecting,
    results_of,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from plait.primitives._base import Operand
    from plait.primitives._concurrency import Call
    from plait.primitives._context import WorkflowContext
    from plait.primitives._sequential import SequentialPrimitive

T = TypeVar("T")
A = TypeVar("A")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")
Us = TypeVarTuple("Us")

Branches: TypeAlias = "Sequence[Any] | Mapping[str, Any]"


class ParallelPrimitive(WorkflowPrimitive[In, tuple[*Ts]], Generic[In, *Ts]):
    """Gives every branch the same input at the same time; what `a | b` makes.

    The result is a tuple in the order of the branches; of a dict of branches, a dict. The first
    branch that fails cancels the others, waits until they have ended, and its error is raised.

    Parallels inside a parallel are flattened, so that `|` is associative; one with a name or
    options of its own stays whole.

    Args:
        branches: The branches, at least one: a sequence, or a dict by name.
        max_concurrency: How many run at once; None for all.
        errors: "raise", or "collect" for a `Success` or `Failure` of each branch as the result.

    Raises:
        ValueError: There are no branches, or an option is out of its range.
        TypeError: A branch is neither a primitive nor a function of one or two arguments.

    Example:
        >>> from plait import ParallelPrimitive
        >>> ParallelPrimitive([min, max]).run_sync([3, 1, 2])
        (1, 3)
        >>> ParallelPrimitive({"low": min, "high": max}).run_sync([3, 1, 2])
        {'low': 1, 'high': 3}
    """

    _kind: ClassVar[str] = "parallel"
    _is_leaf: ClassVar[bool] = False
    _branches: tuple[WorkflowPrimitive[Any, Any], ...]
    _limit: int | None
    _collects: bool

    @overload
    def __new__(
        cls,
        branches: Mapping[str, Operand[A, T]],
        *,
        max_concurrency: int | None = None,
        errors: Literal["raise"] = "raise",
    ) -> NamedParallel[A, T]: ...
    @overload
    def __new__(
        cls,
        branches: Mapping[str, Operand[A, T]],
        *,
        max_concurrency: int | None = None,
        errors: Literal["collect"],
    ) -> NamedParallel[A, Outcome[T]]: ...
    @overload
    def __new__(
        cls,
        branches: Sequence[Operand[A, T]],
        *,
        max_concurrency: int | None = None,
        errors: Literal["raise"] = "raise",
    ) -> ParallelPrimitive[A, *tuple[T, ...]]: ...
    @overload
    def __new__(
        cls,
        branches: Sequence[Operand[A, T]],
        *,
        max_concurrency: int | None = None,
        errors: Literal["collect"],
    ) -> ParallelPrimitive[A, *tuple[Outcome[T], ...]]: ...
    @overload
    def __new__(
        cls,
        branches: Branches,
        *,
        max_concurrency: int | None = None,
        errors: OnError = "raise",
    ) -> ParallelPrimitive[Any, *tuple[Any, ...]]: ...
    def __new__(
        cls,
        branches: Branches,
        *,
        max_concurrency: int | None = None,
        errors: OnError = "raise",
    ) -> ParallelPrimitive[Any, *tuple[Any, ...]]:
        """Make one; of a dict of branches, a `NamedParallel`."""
        made = object.__new__(NamedParallel if isinstance(branches, Mapping) else cls)
        made._limit = check_limit(max_concurrency, "a ParallelPrimitive")
        made._collects = check_errors(errors, "a ParallelPrimitive")
        made._branches = made._take(branches)
        if not made._branches:
            msg = "a ParallelPrimitive needs at least one branch, got none"
            raise ValueError(msg)
        return made

    async def execute(self, input_data: In, context: WorkflowContext) -> tuple[*Ts]:
        """Execute the branches at the same time."""
        results = await run_branches(
            self,
            list(enumerate(self._branches)),
            input_data,
            context,
            limit=self._limit,
            collects=self._collects,
        )
        return cast("tuple[*Ts]", self._joined(results))

    @overload  # type: ignore[override]
    def __or__(
        self, other: ParallelPrimitive[In, *Us]
    ) -> ParallelPrimitive[In, *tuple[Any, ...]]: ...
    @overload
    def __or__(self, other: WorkflowPrimitive[In, T]) -> ParallelPrimitive[In, *Ts, T]: ...
    @overload
    def __or__(self, other: Callable[[In], Awaitable[T]]) -> ParallelPrimitive[In, *Ts, T]: ...
    @overload
    def __or__(
        self, other: Callable[[In, WorkflowContext], Awaitable[T]]
    ) -> ParallelPrimitive[In, *Ts, T]: ...
    @overload
    def __or__(self, other: Callable[[In], T]) -> ParallelPrimitive[In, *Ts, T]: ...
    @overload
    def __or__(
        self, other: Callable[[In, WorkflowContext], T]
    ) -> ParallelPrimitive[In, *Ts, T]: ...
    def __or__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, other: Any
    ) -> ParallelPrimitive[Any, *tuple[Any, ...]]:
        """`self | other`: one branch more."""
        return ParallelPrimitive((self, other))

    @property
    def children(self) -> tuple[WorkflowPrimitive[Any, Any], ...]:
        """The branches."""
        return self._branches

    def __str__(self) -> str:
        return self._name or f"({' | '.join(str(branch) for branch in self._branches)})"

    def _take(self, branches: Any) -> tuple[WorkflowPrimitive[Any, Any], ...]:
        flat: list[WorkflowPrimitive[Any, Any]] = []
        for branch in map(as_primitive, branches):
            flat.extend(branch.children if _is_plain(branch) else (branch,))
        return tuple(flat)

    def _joined(self, results: list[Any]) -> Any:
        return tuple(results)

    def _spec(self) -> dict[str, Any]:
        return {
            "branches": self._branches,
            "max_concurrency": self._limit,
            "errors": "collect" if self._collects else "raise",
        }

    def _place(self, cursor: int) -> tuple[str, WorkflowPrimitive[Any, Any]]:
        branch = self._branches[cursor]
        return f"/{cursor + 1}:{branch.label}", branch


class NamedParallel(ParallelPrimitive[In, *tuple[Any, ...]], Generic[In, T]):
    """A parallel of branches by name, whose result is a dict."""

    def _take(self, branches: Any) -> tuple[WorkflowPrimitive[Any, Any], ...]:
        self._keys = tuple(branches)
        return tuple(map(as_primitive, branches.values()))

    def _joined(self, results: list[Any]) -> Any:
        return dict(zip(self._keys, results, strict=True))

    def _spec(self) -> dict[str, Any]:
        return super()._spec() | {"branches": self._joined(list(self._branches))}

    def __str__(self) -> str:
        pairs = zip(self._keys, self._branches, strict=True)
        return self._name or f"({' | '.join(f'{key}: {branch}' for key, branch in pairs)})"

    def _place(self, cursor: int) -> tuple[str, WorkflowPrimitive[Any, Any]]:
        return f"/{self._keys[cursor]}", self._branches[cursor]

    if TYPE_CHECKING:
        # To type checkers it is a primitive that returns a tuple: these say that it is not.
        async def execute(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
            self, input_data: In, context: WorkflowContext
        ) -> dict[str, T]: ...
        def __call__(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
            self, input_data: In
        ) -> Coroutine[Any, Any, dict[str, T]]: ...
        def run_sync(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
            self, input_data: In, context: WorkflowContext | None = None, *, backend: str = ...
        ) -> dict[str, T]: ...
        @overload  # type: ignore[override]
        def __rshift__(
            self, other: WorkflowPrimitive[dict[str, T], R]
        ) -> SequentialPrimitive[In, R]: ...
        @overload
        def __rshift__(
            self, other: Callable[[dict[str, T]], Awaitable[R]]
        ) -> SequentialPrimitive[In, R]: ...
        @overload
        def __rshift__(self, other: Callable[[dict[str, T]], R]) -> SequentialPrimitive[In, R]: ...
        def __rshift__(  # pyright: ignore[reportIncompatibleMethodOverride]
            self, other: Any
        ) -> SequentialPrimitive[In, Any]: ...


async def run_branches(
    owner: WorkflowPrimitive[Any, Any],
    branches: Sequence[tuple[Any, WorkflowPrimitive[Any, Any]]],
    input_data: Any,
    context: WorkflowContext,
    *,
    limit: int | None = None,
    collects: bool = False,
) -> list[Any]:
    """Give branches the same input at the same time, each at its own place below `owner`.

    Args:
        owner: The primitive that they are children of.
        branches: The place of each, and the primitive.
        input_data: The input of all.
        context: The context of `owner`.
        limit: How many run at once; None for all.
        collects: Whether a failure is a value, in place of being raised.
    """
    frames = [context.enter(owner, cursor) for cursor, _ in branches]
    calls: list[Call[Any]] = [
        partial(branch.execute, input_data, frame)
        for (_, branch), frame in zip(branches, frames, strict=True)
    ]
    if collects:
        calls = [collecting(*call) for call in zip(calls, frames, strict=True)]
    gathered = await context.concurrently(calls, limit)
    for index, error in gathered.failures:
        if isinstance(error, Exception):
            note_failure(error, frames[index])
    return results_of(gathered)


def _is_plain(branch: WorkflowPrimitive[Any, Any]) -> bool:
    return (
        type(branch) is ParallelPrimitive
        and branch._name is None
        and branch._limit is None
        and not branch._collects
    )
