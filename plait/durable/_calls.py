"""The calls that imperative code makes, and how a replay finds each again."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import anyio

from plait.durable._arrivals import let_others_go_on
from plait.durable._entities import Entities
from plait.durable._errors import WorkflowChangedError
from plait.durable._history import RACED, call_digest, name_of
from plait.durable._stored import Kind
from plait.primitives._frame import Numbered

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from plait.durable._environment import Environment
    from plait.durable._history import Calls
    from plait.durable._stored import StoredRun
    from plait.primitives import Runtime, WorkflowContext, WorkflowPrimitive

In = TypeVar("In")
T = TypeVar("T")

_PATIENCE_SECONDS = 1.0
"""How long a call that is not recorded waits for those recorded in its place to be made."""
_SEPARATORS = str.maketrans({"/": "%2F", "[": "%5B", "#": "%23"})


class _Call(NamedTuple):
    """The call that a task made last.

    Attributes:
        runtime: Of which run it was.
        parent: The path of the node whose code made it.
        path: Its own path.
    """

    runtime: ImperativeCalls
    parent: str
    path: str


class _Place(NamedTuple):
    """Where a call is made.

    Attributes:
        node: Its own context.
        parent: The context of the node whose code makes it.
        number: The number that it has where that is free.
        label: What it is called in its path.
        alike: What it is recognised by, but for its ordinal.
    """

    node: WorkflowContext
    parent: WorkflowContext
    number: int
    label: str
    alike: bytes


_last_call: ContextVar[_Call | None] = ContextVar("plait_last_call", default=None)


class ImperativeCalls(Entities):
    """Gives each call that imperative code makes the place that it had before."""

    if TYPE_CHECKING:

        def _handle_below(self, path: str) -> None: ...

    __slots__ = ("_called", "_known", "_unannounced")

    def __init__(self, run: StoredRun, environment: Environment, inner: Runtime | None) -> None:
        super().__init__(run, environment, inner)
        self._known: dict[str, tuple[str, bytes]] = {}
        """The labels and digests of the calls that are under way, by their paths."""
        self._unannounced: dict[str, bytes] = {}
        self._called: dict[str, bytes] = {}
        """The digests of the calls that are about to be performed, by their paths."""

    def run(
        self,
        primitive: WorkflowPrimitive[In, T],
        execute: Callable[[Any, In, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: In,
        context: WorkflowContext,
    ) -> Coroutine[Any, Any, T]:
        """Give an execution its place; a call of imperative code gets back the one it had."""
        place: Any = context._primitive
        if place is None or (context._cursor is not None and type(place) is not Numbered):
            node = context.open(primitive)
            # By what was put in front of this runtime for a part of the run, where something was.
            return (node._runtime or self).perform(primitive, execute, input_data, node)
        if context._cursor is None:
            context._calls += 1
            parent, number = context, context._calls
        else:
            assert context._parent is not None
            parent, number = context._parent, context._cursor
        above = parent.path
        self._announce(above)
        if self.failures:
            # The node's own code goes on: it has handled what failed below it.
            self._handle_below(above)
        alike = call_digest(self._digest(input_data), self._previous(above))
        at = _Place(context.enter(primitive), parent, number, _label(primitive), alike)
        calls = self._history.calls(above)
        found = calls.claim(at.label, alike)
        if found is None and calls.unmade(alike) is not None:
            return self._late_call(primitive, execute, input_data, at, calls)
        digest = self._take(at, found or calls.take(number, at.label, alike))
        return self._call(primitive, execute, input_data, at, digest)

    def identity(self, context: WorkflowContext) -> str:
        """A node's path, with calls of imperative code told apart by what they are."""
        frame: Any = context
        while frame is not None and self._known:
            known = self._known.get(frame._path)
            if known is not None:
                above = frame._parent if frame._parent._cursor is None else frame._parent._parent
                rest = context.path[len(frame._path) :]
                return f"{self.identity(above)}/{name_of(*known)}{rest}"
            frame = frame._parent
        return context.path

    async def _late_call(
        self,
        primitive: WorkflowPrimitive[In, T],
        execute: Callable[[Any, In, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: In,
        at: _Place,
        calls: Calls,
    ) -> T:
        """Make a call that is not recorded, unless the code has changed where it is made."""
        late = f"{at.parent.path}/{at.number}:{at.label}#late"
        self._note_begun(late)
        try:
            found = await self._claimed_late(at, calls)
            # Begun before that ends: such a call has raced with those that it waited for.
            digest = self._take(at, found or calls.take(at.number, at.label, at.alike))
        finally:
            self._note_ended(late)
        return await self._call(primitive, execute, input_data, at, digest)

    async def _claimed_late(self, at: _Place, calls: Calls) -> tuple[int, bytes] | None:
        """Wait for what is recorded in place of a call to be called, or take it for that call's."""
        waited, made = 0.0, calls.made
        while (unmade := calls.unmade(at.alike)) is not None:
            # The same point of the code was come to by other tasks too: theirs may be the record.
            if waited > _PATIENCE_SECONDS:
                found = calls.claim(at.label, at.alike, is_late=True)
                if found is not None:
                    return found
                msg = (
                    f"{unmade!r} is recorded, and {at.label!r} is called there now, or with "
                    "another input: the workflow was changed since, or does something different "
                    "each time outside of a step"
                )
                raise self._abort(WorkflowChangedError(msg, unmade))
            await let_others_go_on()
            await anyio.sleep(0.01)
            waited, made = (waited + 0.01, made) if made == calls.made else (0.0, calls.made)
        return None

    def _take(self, at: _Place, found: tuple[int, bytes]) -> bytes:
        number, digest = found
        frame = at.node._parent
        if frame is not None and frame._cursor is not None:
            frame._cursor = number
        path = at.node._path = f"{at.parent.path}/{number}:{at.label}"
        self._known[path] = at.label, digest
        self._note_begun(path)
        return digest

    async def _call(
        self,
        primitive: WorkflowPrimitive[In, T],
        execute: Callable[[Any, In, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: In,
        at: _Place,
        digest: bytes,
    ) -> T:
        path = at.node.path
        if self._history.get(path) is None:
            if primitive._is_leaf and not primitive.children and not primitive.at_most_once:
                self._unannounced[path] = digest
            else:
                # What is recorded below it says nothing of its input.
                self._note(self._record(path, Kind.CALL, digest=digest))
        try:
            self._called[path] = digest
            front = at.node._runtime or self
            if digest.startswith(RACED):
                await self._turn(path)
                return await front.perform(primitive, execute, input_data, at.node)
            try:
                result = await front.perform(primitive, execute, input_data, at.node)
            except Exception:
                if self._arrivals is not None:
                    await self._turn(path)
                raise
            if primitive._is_leaf and not primitive._transacts:
                # Its own record says whether it raced.
                if self._arrivals is not None:
                    await self._turn(path)
            elif self._under_way[path] or self._history:
                await self._arrive(path)
            return result
        except anyio.get_cancelled_exc_class():
            self._give_up(path, digest)
            raise
        finally:
            self._unannounced.pop(path, None)
            del self._known[path]
            self._note_ended(path)
            _last_call.set(_Call(self, at.parent.path, path))

    def _announce(self, path: str) -> None:
        """Keep the place of a call before anything is recorded below it."""
        digest = self._unannounced.pop(path, None)
        if digest is not None:
            self._note(self._record(path, Kind.CALL, digest=digest))

    def _previous(self, parent: str) -> str:
        last = _last_call.get()
        if last is None or last.runtime is not self or last.parent != parent:
            return ""
        return last.path

    def _own_place(self, context: WorkflowContext, what: str, name: str = "") -> str:
        self._announce(context.path)
        return super()._own_place(context, what, name)

    def _refuse_shortened(self, path: str) -> None:
        """End the run where its code no longer makes a call that is recorded at its end."""
        calls = self._history.calls(path)
        unmade = calls.unmade(call_digest(b"", self._previous(path)))
        if unmade is not None and not calls.has_failures:
            msg = f"{unmade!r} is recorded, and is not called any more: the workflow was changed"
            raise self._abort(WorkflowChangedError(msg, unmade))


def _label(primitive: WorkflowPrimitive[Any, Any]) -> str:
    # In a path these divide a node from what is below it.
    label = primitive.label
    if "/" in label or "[" in label or "#" in label:
        return label.translate(_SEPARATORS)
    return label
