"""What a primitive's annotations say of its input and its result."""

from __future__ import annotations

import typing
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from plait.durable._codec import return_type
from plait.primitives import Arguments, Step, WorkflowPrimitive
from plait.primitives._encoded_types import adapter


class Contract:
    """Holds values against the annotations of a primitive.

    Args:
        primitive: The primitive.
    """

    def __init__(self, primitive: WorkflowPrimitive[Any, Any]) -> None:
        self._name = primitive.name
        self._result = return_type(primitive)
        if typing.get_origin(self._result) in (Awaitable, Coroutine):
            self._result = typing.get_args(self._result)[-1]
        self._signature = primitive._shape.signature if isinstance(primitive, Step) else None
        function: Any = type(primitive)._undoored
        first = "input_data"
        if isinstance(primitive, Step):
            function = primitive._function
            first = next(iter(primitive._shape.parameters), "")
        self._first = first
        self._inputs = _annotations(function)

    def wrong_input(self, input_data: Any) -> str | None:
        """What to say of an input that does not fit; None of one that does."""
        values = {self._first: input_data}
        if isinstance(input_data, Arguments) and self._signature is not None:
            try:
                bound = self._signature.bind(*input_data.args, **input_data.kwargs)
            except TypeError as error:
                return f"{self._name} takes {self._signature}, and its mock was called so: {error}"
            values = bound.arguments
        for name, value in values.items():
            annotation = self._inputs.get(name, Any)
            if not _fits(value, annotation):
                return (
                    f"{self._name} takes {name}: {_shown(annotation)}, and its mock was called "
                    f"with {value!r} ({type(value).__name__})"
                )
        return None

    def wrong_result(self, result: Any) -> str | None:
        """What to say of a result that does not fit; None of one that does."""
        if _fits(result, self._result):
            return None
        return (
            f"{self._name} returns {_shown(self._result)}, and its mock {result!r} "
            f"({type(result).__name__})"
        )


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001 - annotations may be anything
        return {}
    return {name: Any if _is_open(hint) else hint for name, hint in hints.items()}


def _is_open(annotation: Any) -> bool:
    is_variable = isinstance(annotation, typing.TypeVar)
    return is_variable or bool(getattr(annotation, "__parameters__", ()))


def _fits(value: Any, annotation: Any) -> bool:
    if annotation is Any:
        return True
    known = adapter(annotation)
    if known is None:
        return not isinstance(annotation, type) or isinstance(value, annotation)
    try:
        known.validate_python(value, strict=True)
    except Exception:  # noqa: BLE001 - validators of the user's raise whatever they like
        return False
    return True


def _shown(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
