"""Where a node stands in the tree of its run: what contexts are underneath."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from plait.primitives._runtime import Numbering, Runtime

if TYPE_CHECKING:
    from plait.primitives._base import WorkflowPrimitive
    from plait.primitives._run import Run

_new = object.__new__
_NUMBERING = Numbering()


class Frame:
    """A view of a run from one of its nodes, or from the place of one of that node's children."""

    __slots__ = ("_calls", "_cursor", "_parent", "_path", "_primitive", "_run", "_runtime")

    _run: Run
    _runtime: Runtime | None
    _parent: Self | None
    _primitive: WorkflowPrimitive[Any, Any] | None
    _cursor: Any
    _path: str | None
    _calls: int

    @property
    def path(self) -> str:
        """Where this node stands in the tree of its run, such as `orders/2:ship[3]`."""
        path = self._path
        primitive = self._primitive
        if path is None:
            parent = self._parent
            path = (self._run.workflow_id or "") if parent is None else parent.path
            if not path and primitive is not None:
                path = primitive.label
        if primitive is not None and self._cursor is not None:
            path += primitive._place(self._cursor)[0]
        return path

    @property
    def label(self) -> str:
        """The node's own short name, the last part of what its path says."""
        if self._primitive is None:
            return self._run.workflow_id or ""
        if self._cursor is None:
            return self._primitive.label
        return self._primitive._place(self._cursor)[1].label

    @property
    def is_root(self) -> bool:
        """Whether this is the context of the run's outermost node, and not of one inside."""
        return self._parent is not None and self._parent._primitive is None

    @property
    def place(self) -> str:
        """The path as errors show it: with the attempt, and the run where it has a name."""
        path, parts = self.path, []
        attempt, attempts = self._attempts()
        path, is_attempt, _ = path.rpartition(f"/attempt {attempt}")
        if is_attempt and not _:
            parts.append(f"attempt {attempt} of {attempts}")
        else:
            path = self.path
        run = self._run.run_id or self._run.correlation_id
        if run is not None:
            parts.append(f"run {run}")
        return ", ".join([path, *parts])

    def open(self, primitive: WorkflowPrimitive[Any, Any]) -> Self:
        """The own context of a node that is called with this one: what runtimes make."""
        node = self.enter(primitive)
        if self._cursor is not None:
            node._path = self.path
            return node
        self._calls += 1
        if self._primitive is None:
            root = self._run.workflow_id or primitive.label
            node._path = root if self._calls == 1 else f"{self._calls}:{root}"
        else:
            node._path = f"{self.path}/{self._calls}:{primitive.label}"
        return node

    def numbered(self, primitive: WorkflowPrimitive[Any, Any]) -> Self:
        """The place of the next call that this node makes."""
        self._calls += 1
        place: Any = Numbered(primitive)
        return self.enter(place, self._calls)

    def numbering(self, primitive: WorkflowPrimitive[Any, Any]) -> Self:
        """The own context of a node whose children are told apart by the order of their calls."""
        node = self.open(primitive)
        node._runtime = node._runtime or _NUMBERING
        return node

    def enter(self, primitive: WorkflowPrimitive[Any, Any], cursor: Any = None) -> Self:
        """A view of this run for the children of `primitive`, at one of them or moved along."""
        frame = _new(self.__class__)
        frame._run = self._run
        frame._runtime = self._runtime
        frame._parent = self
        frame._primitive = primitive
        frame._cursor = cursor
        frame._path = None
        frame._calls = 0
        return frame

    def beside(self, cursor: Any) -> Self:
        """The same view at another child."""
        assert self._parent is not None
        assert self._primitive is not None
        return self._parent.enter(self._primitive, cursor)

    def unrecorded(self) -> Self:
        """The same view, for what is no part of the run's history.

        How long a call waits for its turn at a limit that the process shares, say, means nothing
        to the process that carries the run on: a journal that kept it would cost a write, and give
        back a wait that is over.
        """
        runtime = None if self._runtime is None else self._runtime.unrecorded()
        if runtime is self._runtime:
            return self
        view = _new(self.__class__)
        for slot in Frame.__slots__:
            setattr(view, slot, getattr(self, slot))
        view._runtime = runtime
        return view

    def _attempts(self) -> tuple[int, int]:
        context: Frame | None = self
        while context is not None:
            primitive = context._primitive
            if primitive is not None and primitive._attempts and context._cursor is not None:
                return context._cursor, primitive._attempts
            context = context._parent
        return 1, 1


class Numbered:
    """Stands where calls are told apart by their order, with one of them below it."""

    _attempts = 0
    _repeats_input = False

    def __init__(self, primitive: WorkflowPrimitive[Any, Any]) -> None:
        self._primitive = primitive
        self.label = primitive.label

    def _place(self, cursor: int) -> tuple[str, WorkflowPrimitive[Any, Any]]:
        return f"/{cursor}:{self.label}", self._primitive
