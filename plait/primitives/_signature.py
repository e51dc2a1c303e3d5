"""How a function is to be called: which parameter is the input, which the context."""

from __future__ import annotations

import functools
import inspect
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plait.primitives._context import WorkflowContext

if TYPE_CHECKING:
    from collections.abc import Callable

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Shape:
    """What calling a function takes.

    Attributes:
        parameters: Its positional parameters, in order, without the context.
        context: The name of the parameter that takes the context.
        context_index: The context's position, or None where it is passed by keyword or not at all.
        required: How many positional parameters other than the context have no default.
        keywords: The names of the parameters that have to be passed by keyword.
        is_async: Whether calling it makes an awaitable, as far as can be seen from outside.
        signature: What a caller passes, without the context; None where that is not known.
    """

    parameters: tuple[str, ...]
    context: str | None
    context_index: int | None
    required: int
    keywords: tuple[str, ...]
    is_async: bool
    signature: inspect.Signature | None


def function_name(function: Callable[..., Any]) -> str:
    """A name for any callable: its own, or its class's."""
    if isinstance(function, functools.partial):
        return function_name(function.func)
    name = getattr(function, "__name__", type(function).__name__)
    return "lambda" if name == "<lambda>" else name


def shape_of(function: Callable[..., Any], *, pair: bool = False, is_method: bool = False) -> Shape:
    """Read a function's signature.

    Args:
        function: Any callable.
        pair: Whether the second of two required parameters is the context although it is not
            annotated so: the form `(input, context)` of conditions, routers and operands.
        is_method: Whether the first parameter is the instance that it will be bound to.

    Raises:
        TypeError: It is a generator.
    """
    name = function_name(function)
    target = function
    while isinstance(target, functools.partial):
        target = target.func
    if not inspect.isroutine(target) and not isinstance(target, type):
        target = type(target).__call__
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        msg = f"{name!r} is a generator; a step returns one value (return a list, or use a map)"
        raise TypeError(msg)
    is_async = inspect.iscoroutinefunction(target)
    try:
        signature = inspect.signature(function)
    except ValueError:
        # Some builtins, such as `int` and `dict`, have no signature: they take the input.
        return Shape(("input",), None, None, 1, (), is_async, None)
    if is_method:
        signature = signature.replace(parameters=list(signature.parameters.values())[1:])
    positional = [p for p in signature.parameters.values() if p.kind in _POSITIONAL]
    variadic = any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values())
    context = next((p for p in signature.parameters.values() if _takes_context(p, target)), None)
    required = [p for p in positional if p.default is p.empty]
    if context is None and pair and len(required) == 2:
        context = required[1]
    keyword_only = [
        p for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY and p is not context
    ]
    names = tuple(p.name for p in positional if p is not context)
    if variadic and not names:
        names = ("input",)
    return Shape(
        parameters=names,
        context=None if context is None else context.name,
        context_index=next((i for i, p in enumerate(positional) if p is context), None),
        required=sum(p is not context for p in required),
        keywords=tuple(p.name for p in keyword_only if p.default is p.empty),
        is_async=is_async,
        signature=signature.replace(
            parameters=[p for p in signature.parameters.values() if p is not context]
        ),
    )


def _takes_context(parameter: inspect.Parameter, function: Callable[..., Any]) -> bool:
    annotation = parameter.annotation
    if isinstance(annotation, str):
        # Compared as text where the name cannot be looked up: modules often import it for type
        # checkers only.
        name = annotation.partition("|")[0].strip().strip("'\"")
        found = getattr(function, "__globals__", {}).get(name)
        return found is WorkflowContext or name.rpartition(".")[2] == "WorkflowContext"
    kinds = typing.get_args(annotation) or (annotation,)
    return any(isinstance(kind, type) and issubclass(kind, WorkflowContext) for kind in kinds)
