"""A choice among named routes."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, Any, ClassVar, cast

from plait.primitives._base import In, Out, WorkflowPrimitive
from plait.primitives._decision import Decision
from plait.primitives._decorators import as_primitive
from plait.primitives._errors import UnknownRouteError, note_failure
from plait.primitives._parallel import run_branches

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from plait.primitives._base import Operand
    from plait.primitives._context import WorkflowContext


_ROUTER = object()


class RouterPrimitive(WorkflowPrimitive[In, Out]):
    """Executes the route that a function names; a durable run keeps to the one it took.

    A function that names several routes, as a list, tuple or set, has them executed at the same
    time, and the result is a dict by route.

    Args:
        routes: The primitives by name, at least one.
        router_fn: Is given the input and the context, or the input alone, and returns a route's
            name or several; sync or async.
        default: The route to take when it names one that is not there.

    Raises:
        ValueError: There are no routes, or `default` is not among them.
        TypeError: A route cannot be composed.

    Example:
        >>> from plait import RouterPrimitive
        >>> read = RouterPrimitive(
        ...     {"int": int, "text": str.strip}, lambda text: "int" if text.isdigit() else "text"
        ... )
        >>> read.run_sync("42"), read.run_sync(" plait ")
        (42, 'plait')
    """

    _kind: ClassVar[str] = "router"
    _is_leaf: ClassVar[bool] = False

    def __init__(
        self,
        routes: Mapping[str, Operand[In, Out]],
        router_fn: Callable[..., Any],
        default: str | None = None,
    ) -> None:
        self._routes = {name: as_primitive(route) for name, route in routes.items()}
        if not self._routes:
            msg = "a RouterPrimitive needs at least one route, got none"
            raise ValueError(msg)
        if default is not None and default not in self._routes:
            known = ", ".join(map(repr, self._routes))
            msg = f"default={default!r} of a RouterPrimitive is none of its routes ({known})"
            raise ValueError(msg)
        self._default = default
        self._router_fn = router_fn
        self._router = Decision(router_fn, self._read, self._has)

    async def execute(self, input_data: In, context: WorkflowContext) -> Out:
        """Ask for the route, then execute it."""
        frame = context.enter(self, _ROUTER)
        try:
            chosen = await self._router.execute(input_data, frame)
            if isinstance(chosen, str):
                frame._cursor = chosen
                result: Out = await self._routes[chosen].execute(input_data, frame)
                return result
        except Exception as error:
            note_failure(error, frame)
            raise
        branches = [(name, self._routes[name]) for name in chosen]
        outputs = await run_branches(self, branches, input_data, context)
        return cast("Out", dict(zip(chosen, outputs, strict=True)))

    @property
    def children(self) -> tuple[WorkflowPrimitive[Any, Any], ...]:
        """The routing function, then the routes."""
        return (self._router, *self._routes.values())

    def __str__(self) -> str:
        if self._name is not None:
            return self._name
        routes = ", ".join(f"{name}: {route}" for name, route in self._routes.items())
        return f"route {self._router} to {{{routes}}}"

    def _spec(self) -> dict[str, Any]:
        return {"routes": self._routes, "router_fn": self._router_fn, "default": self._default}

    def _place(self, cursor: Any) -> tuple[str, WorkflowPrimitive[Any, Any]]:
        if cursor is _ROUTER:
            return "/router", self._router
        # A route may be called like the place of the routing function itself.
        return f"/{cursor}" if cursor != "router" else "/'router'", self._routes[cursor]

    def _has(self, chosen: str | tuple[str, ...]) -> bool:
        names = (chosen,) if isinstance(chosen, str) else chosen
        return all(name in self._routes for name in names)

    def _read(self, answer: object) -> str | tuple[str, ...]:
        if isinstance(answer, str):
            return self._route(answer)
        if isinstance(answer, Set):
            # A set has no order that is the same in every process; its sorted names have.
            answer = sorted(answer, key=str)
        if isinstance(answer, Sequence):
            return tuple(dict.fromkeys(self._route(name) for name in answer))
        return self._route(answer)

    def _route(self, name: object) -> str:
        if isinstance(name, str) and name in self._routes:
            return name
        if self._default is not None:
            return self._default
        raise UnknownRouteError(self._router.name, name, self._routes)
