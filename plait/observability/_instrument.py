"""What stands around every node: the nodes as it sees them, and what it is told."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plait.primitives import WorkflowContext, WorkflowPrimitive


class Node:
    """One execution of a primitive, as an instrument sees it.

    Attributes:
        primitive: What is executed.
        context: Its context: `path`, `run_id`, `attempt`, `metadata` and the rest.
        parent: The node that its path is below; None for the root of a run.
        caller: The node that executes it, nearly always the parent; of a root, the node of another
            run that started this one, if any.
        workflow: The name of the root.
        started: When it began, in seconds on the clock of `time.perf_counter`.
        seconds: How long it took; None while it runs.
        error: What it raised, a cancellation too; None where it has returned.
        raised_here: Whether the error began here, and not in a node below.
        input: Its input as text, where payloads are captured.
        result: Its result as text, where payloads are captured.
        span: Its span, where OpenTelemetry is set up.
        steps_completed: Of a root, how many steps of its run have finished so far.
    """

    # Most nodes never set these: one is made for every step that is executed.
    seconds: float | None = None
    span: object = None
    error: BaseException | None = None
    raised_here = False
    input: str | None = None
    result: str | None = None
    steps_completed = 0
    # Between a child that was found done and the next one that is executed, a node does again what
    # it did before: what it reports there was told already.
    _repeats = False
    _root: Node | None = None
    # Of a root, what all spans of its run say.
    _shared: Mapping[str, str] | None = None

    def __init__(
        self,
        primitive: WorkflowPrimitive[Any, Any],
        context: WorkflowContext,
        caller: Node | None = None,
        *,
        is_replayed: bool = False,
    ) -> None:
        self.primitive = primitive
        self.context = context
        self.caller = caller
        self.parent: Node | None
        if caller is None or context.is_root:
            self.parent = None
            self.workflow: str = context.workflow_id or primitive.name
        else:
            above = context._parent
            is_called = above is not None and caller.context is above._parent
            parent = self.parent = caller if is_called else _parent_of(context, caller)
            # No node holds itself: a cycle would leave each run to the garbage collector.
            self._root = parent._root or parent
            self.workflow = parent.workflow
            if parent._repeats and not is_replayed:
                parent._repeats = False
        self.started = time.perf_counter()

    def __repr__(self) -> str:
        return f"<Node {self.context.path!r}>"

    @property
    def root(self) -> Node:
        """The outermost node of its run."""
        return self._root or self

    @property
    def name(self) -> str:
        """What it is called: the root by its run's `workflow_id`, where one was given."""
        return self.workflow if self.parent is None else self.primitive.name

    @property
    def is_step(self) -> bool:
        """Whether it does the work itself, and executes nothing else."""
        return self.primitive._is_leaf and not self.primitive.children

    @property
    def state(self) -> Literal["running", "completed", "failed", "cancelled"]:
        """How far it has come, or how it ended."""
        if self.seconds is None:
            return "running"
        if self.error is None:
            return "completed"
        return "cancelled" if self.cancelled else "failed"

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        # asyncio's is called CancelledError and trio's Cancelled; a coroutine may also be closed.
        name = type(self.error).__name__
        return name in {"CancelledError", "Cancelled"} or isinstance(self.error, GeneratorExit)


class Instrument:
    """Is told of every node that is executed; a subclass overrides what it wants to hear.

    Calls come in the task or thread of the node, so they must return at once. An error that one
    raises is logged, and the run goes on.

    Example:
        >>> from plait import step
        >>> from plait.observability import Instrument, Node, add_instrument, remove_instrument
        >>> class Slowest(Instrument):
        ...     seconds, path = 0.0, ""
        ...
        ...     def on_end(self, node: Node, started: object) -> None:
        ...         if node.is_step and node.seconds > self.seconds:
        ...             self.seconds, self.path = node.seconds, node.context.path
        >>> slowest = Slowest()
        >>> add_instrument(slowest)
        >>> (step(str.split) >> sorted).named("words").run_sync("to be or not")
        ['be', 'not', 'or', 'to']
        >>> slowest.path in {"words/1:split", "words/2:sorted"}
        True
        >>> remove_instrument(slowest)
    """

    def on_start(self, node: Node) -> object:
        """A node is about to be executed.

        Args:
            node: The node.

        Returns:
            Anything that `on_end` wants to have.
        """
        return None

    def on_end(self, node: Node, started: Any) -> None:
        """A node has ended: `node.seconds` and `node.error` say how.

        Args:
            node: The node.
            started: What `on_start` returned for it.
        """

    def on_event(
        self, node: Node, event: str, attributes: Mapping[str, str | int | float | bool]
    ) -> None:
        """Something happened at a node, such as "retry", "fallback" or "cache_hit".

        Args:
            node: The node, which is still being executed.
            event: What happened.
            attributes: More about it.
        """

    def on_replayed(self, node: Node) -> None:
        """A node was not executed, as a durable run had finished it before.

        Args:
            node: The node.
        """


def _parent_of(context: WorkflowContext, caller: Node) -> Node:
    """The node that a path is below: a fold executes the map before it, which is its sibling."""
    above = context._parent
    beyond = None if above is None else above._parent
    node: Node | None = caller
    while node is not None:
        if node.context is above or node.context is beyond:
            return node
        node = node.parent
    return caller


current_node: ContextVar[Node | None] = ContextVar("plait_node", default=None)
"""The node that the caller is executed by, where something observes it."""
