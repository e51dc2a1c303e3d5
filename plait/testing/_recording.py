"""Real calls, kept in a file, and served from there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from plait.durable._codec import IN_MEMORY, JsonCodec
from plait.primitives import (
    Outcome,
    ReducePrimitive,
    SerializationError,
    Success,
    WorkflowContext,
    WorkflowPrimitive,
)
from plait.primitives._decision import Decision
from plait.primitives._encoding import decode, encode
from plait.testing._front import Around, Fronted, FrontRuntime
from plait.testing._mock import MockPrimitive
from plait.testing._selection import Selection, check

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from plait.primitives import Runtime
    from plait.testing._front import Execute

A = TypeVar("A")
T = TypeVar("T")
In = TypeVar("In")
Out = TypeVar("Out")

_FORMAT = "plait recording 1"


async def record(
    workflow: WorkflowPrimitive[In, Out],
    input_data: In,
    file: str | Path,
    *,
    nodes: Sequence[str] = ("*",),
    context: WorkflowContext | None = None,
) -> Out:
    """Run a workflow in earnest, and keep the calls of its steps in a file.

    The file is JSON, to be read and kept beside the tests. It is written also where the workflow
    fails.

    Args:
        workflow: The workflow.
        input_data: Its input.
        file: The file; what was there is replaced.
        nodes: The names, paths or patterns of the steps whose calls are kept.
        context: The context; a new one where none is given.

    Raises:
        UnknownNodeError: The workflow has no such node.
        SerializationError: An input or a result has no form that gives it back.

    Example:
        >>> import anyio, tempfile
        >>> from plait import step
        >>> from plait.testing import record, replayed
        >>> @step
        ... async def rate(currency: str) -> float:
        ...     return 1.25  # from a server, say
        >>> price = rate >> (lambda rate: 4 * rate)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     anyio.run(lambda: record(price, "EUR", f"{folder}/rates.json", nodes=["rate"]))
        ...     price.with_mocks(replayed(f"{folder}/rates.json")).run_sync("EUR")
        5.0
        5.0
    """
    selections = [Selection(node) for node in nodes]
    check(selections, workflow)
    calls: list[dict[str, Any]] = []
    recorded = Fronted(workflow, lambda inner: _Recording(selections, calls, inner))
    try:
        return await recorded.execute(input_data, context or WorkflowContext())
    finally:
        kept = {"format": _FORMAT, "workflow": workflow.name, "calls": calls}
        text = json.dumps(kept, indent=2, ensure_ascii=False)
        with anyio.CancelScope(shield=True):
            await anyio.Path(file).write_text(f"{text}\n", encoding="utf-8")


def replayed(file: str | Path) -> dict[str, MockPrimitive[Any, Any]]:
    """Mocks that serve the calls in a file, for `workflow.with_mocks`.

    A call is answered by what was recorded at its path, else by an equal one of the same name; it
    fails where its input is not what was recorded.

    Args:
        file: What `record` wrote.

    Returns:
        A mock for each name.

    Raises:
        ValueError: The file is of another kind.
    """
    try:
        kept = json.loads(Path(file).read_text(encoding="utf-8"))
        is_one = kept["format"] == _FORMAT
        calls = kept["calls"]
    except (ValueError, LookupError, TypeError) as error:
        msg = f"{file} is not a recording of plait's: {error}"
        raise ValueError(msg) from error
    if not is_one:
        msg = (
            f"{file} is a recording in the format {kept['format']!r}; this plait reads {_FORMAT!r}"
        )
        raise ValueError(msg)
    names = dict.fromkeys(call["name"] for call in calls)
    return {
        name: MockPrimitive(name, side_effect=_Answers(name, calls, str(file))) for name in names
    }


class _Recording(FrontRuntime):
    """Writes down the calls of steps."""

    def __init__(
        self, selections: Sequence[Selection], calls: list[dict[str, Any]], inner: Runtime | None
    ) -> None:
        super().__init__(inner)
        self._selections = selections
        self._calls = calls

    def perform(
        self,
        primitive: WorkflowPrimitive[A, T],
        execute: Callable[[Any, A, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: A,
        context: WorkflowContext,
    ) -> Coroutine[Any, Any, T]:
        """Execute a node, and write down a step's call."""
        if not any(selection.takes(primitive, context.path) for selection in self._selections):
            return super().perform(primitive, execute, input_data, context)
        name = primitive.name

        async def recorded(
            execute: Execute,
            primitive: WorkflowPrimitive[A, T],
            input_data: A,
            context: WorkflowContext,
        ) -> Any:
            is_step = not (primitive.children or primitive._numbers_children)
            if not is_step or type(primitive) in (Decision, ReducePrimitive):
                return await execute(primitive, input_data, context)
            given = _tree(input_data, context)
            outcome: Outcome[T]
            try:
                outcome = Success(await execute(primitive, input_data, context))
            except Exception as error:
                self._write(name, given, {"error": json.loads(encode(error))}, context)
                raise
            self._write(name, given, {"result": _tree(outcome.value, context)}, context)
            return outcome.value

        around = Around(primitive, execute, recorded)
        return super().perform(primitive, around, input_data, context)

    def _write(
        self,
        name: str,
        given: Any,
        outcome: dict[str, Any],
        context: WorkflowContext,
    ) -> None:
        call = {"path": context.path, "name": name, "input": given}
        self._calls.append(call | outcome)


class _Answers:
    """What was recorded of the steps of one name: a side effect."""

    def __init__(self, name: str, calls: Sequence[dict[str, Any]], file: str) -> None:
        self._name = name
        self._file = file
        self._calls = [call for call in calls if call["name"] == name]

    def __call__(self, input_data: Any, context: WorkflowContext) -> Any:
        asked = IN_MEMORY.digest(input_data)
        equal = [call for call in self._calls if IN_MEMORY.digest(_value(call["input"])) == asked]
        path = context.path
        answer = next((call for call in equal if call["path"] == path), None)
        if answer is None and equal:
            answer = equal[0]
        if answer is None:
            known = next((call for call in self._calls if call["path"] == path), None)
            told = "not with this" if known is None else f"with {_value(known['input'])!r}"
            msg = (
                f"{self._name} at {path} was called with {input_data!r}, and recorded {told} in "
                f"{self._file}: record it again where that is right"
            )
            raise AssertionError(msg)
        if "error" in answer:
            raise _value(answer["error"])
        return _value(answer["result"])


def _tree(value: object, context: WorkflowContext) -> Any:
    try:
        return json.loads(JsonCodec().encode(value))
    except SerializationError as error:
        error.add_note(f"in recording {context.path}")
        raise


def _value(tree: Any) -> Any:
    return decode(json.dumps(tree).encode())
