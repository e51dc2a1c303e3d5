"""One primitive after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from plait.primitives._base import In, Out, WorkflowPrimitive
from plait.primitives._decorators import as_primitive
from plait.primitives._errors import failed_path, note_failure
from plait.primitives._map import MapPrimitive
from plait.primitives._reduce import Mapped, ReducePrimitive

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from plait.primitives._context import WorkflowContext

    Execute = Callable[[Any, WorkflowContext], Coroutine[Any, Any, Any]]
    Stage = tuple[int, Execute]


class SequentialPrimitive(WorkflowPrimitive[In, Out]):
    """Each step's output is the next one's input; what `a >> b` makes.

    Sequences inside a sequence are flattened, so that `>>` is associative; one with a name of its
    own stays whole.

    Args:
        steps: The steps, at least one.

    Raises:
        ValueError: There are no steps.
        TypeError: A step is neither a primitive nor a function of one or two arguments.

    Example:
        >>> from plait import SequentialPrimitive
        >>> SequentialPrimitive([str.split, len]).run_sync("to be or not")
        4
    """

    _kind: ClassVar[str] = "sequential"
    _is_leaf: ClassVar[bool] = False

    def __init__(self, steps: Sequence[WorkflowPrimitive[Any, Any] | Any]) -> None:
        flat: list[WorkflowPrimitive[Any, Any]] = []
        for step in map(as_primitive, steps):
            if type(step) is SequentialPrimitive and step._name is None:
                flat.extend(step.children)
            else:
                flat.append(step)
        if not flat:
            msg = "a SequentialPrimitive needs at least one step, got none"
            raise ValueError(msg)
        self._steps = tuple(flat)
        self._places = tuple((f"/{n}:{step.label}", step) for n, step in enumerate(flat, 1))
        # The loop over the steps is the hot path: what it calls is looked up once, here.
        self._doors: tuple[Stage, ...] = self._stages([step.execute for step in flat])
        self._bares: tuple[Stage, ...] = self._stages([step._bare() for step in flat])

    async def execute(self, input_data: In, context: WorkflowContext) -> Out:
        """Execute the steps one after the other."""
        frame = context.enter(self)
        stages = self._bares if context._runtime is None else self._doors
        value: Any = input_data
        try:
            for frame._cursor, call in stages:
                value = await call(value, frame)
        except Exception as error:
            note_failure(error, frame)
            raise
        output: Out = value
        return output

    @property
    def children(self) -> tuple[WorkflowPrimitive[Any, Any], ...]:
        """The steps."""
        return self._steps

    def __str__(self) -> str:
        return self._name or " >> ".join(str(step) for step in self._steps)

    def _spec(self) -> dict[str, Any]:
        return {"steps": self._steps}

    def _stages(self, calls: list[Execute]) -> tuple[Stage, ...]:
        stages: list[Stage] = []
        for index, (step, call) in enumerate(zip(self._steps, calls, strict=True)):
            before = self._steps[index - 1] if stages else None
            if isinstance(step, ReducePrimitive) and isinstance(before, MapPrimitive):
                stages[-1] = (index, _fold_as_mapped(before, index - 1, step))
            else:
                stages.append((index, call))
        return tuple(stages)

    def _place(self, cursor: int) -> tuple[str, WorkflowPrimitive[Any, Any]]:
        return self._places[cursor]


def _fold_as_mapped(
    mapping: MapPrimitive[Any, Any], place: int, reduction: ReducePrimitive[Any, Any]
) -> Execute:
    async def fold(input_data: Any, context: WorkflowContext) -> Any:
        mapped: Any = Mapped(mapping, input_data, context.beside(place))
        try:
            return await reduction.execute(mapped, context)
        except Exception as error:
            if (failed_path(error) or "").startswith(mapped.frame.path):
                context._cursor = place
            raise

    return fold
