"""The types of what a workflow takes and returns, as far as it says."""

from __future__ import annotations

import inspect
import typing
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from plait.durable._codec import return_type
from plait.primitives import (
    ConditionalPrimitive,
    MapPrimitive,
    ParallelPrimitive,
    RouterPrimitive,
    SequentialPrimitive,
    Step,
)
from plait.primitives._wrapper import Wrapper

if TYPE_CHECKING:
    from plait.primitives import WorkflowPrimitive

NOTHING = type(None)


def input_adapter(workflow: WorkflowPrimitive[Any, Any]) -> TypeAdapter[Any]:
    """What checks and reads a workflow's input."""
    return _adapter(input_type(workflow))


def output_adapter(workflow: WorkflowPrimitive[Any, Any]) -> TypeAdapter[Any]:
    """What tells the form of a workflow's result."""
    return _adapter(return_type(workflow))


def input_type(primitive: WorkflowPrimitive[Any, Any]) -> Any:
    """The type that a primitive takes; Any where it does not say."""
    match primitive:
        case Step():
            return _step_input(primitive)
        case MapPrimitive():
            return list[input_type(primitive.children[0])]  # type: ignore[misc]
        case (
            SequentialPrimitive()
            | ParallelPrimitive()
            | ConditionalPrimitive()
            | RouterPrimitive()
            | Wrapper()
        ):
            return input_type(primitive.children[0])
        case _:
            return _annotation(type(primitive)._undoored, 1)


def _step_input(step: Step[Any, Any, Any]) -> Any:
    if not step._shape.parameters:
        return NOTHING
    function = step._function
    return _annotation(function, name=step._shape.parameters[0])


def _annotation(function: Any, index: int = 0, name: str | None = None) -> Any:
    try:
        names = list(inspect.signature(function).parameters)
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001 - builtins have none, and annotations may be anything
        return Any
    found = hints.get(names[index] if name is None else name, Any)
    return Any if isinstance(found, typing.TypeVar) else found


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        adapter.json_schema()
    except Exception:  # noqa: BLE001 - pydantic refuses a type in many ways
        return TypeAdapter(Any)
    return adapter
