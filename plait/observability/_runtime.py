"""The runtime that tells instruments of every node."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, TypeVar

from plait.observability._instrument import Node, current_node
from plait.observability.propagation import inject
from plait.primitives import Runtime
from plait.primitives._errors import note_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from plait.observability._instrument import Instrument
    from plait.observability._payloads import Payloads
    from plait.primitives import WorkflowContext, WorkflowPrimitive
    from plait.primitives._runtime import Attribute

In = TypeVar("In")
T = TypeVar("T")

TRACE = "trace"
"""Under which name a run's journal keeps the trace that the run was last executed in."""

PARENT_RUN = "plait-parent-run"
"""The key, beside W3C's own, of the run that a run was started in."""

_logger = logging.getLogger("plait.observability")


class ObservingRuntime(Runtime):
    """Executes each node between an instrument's `on_start` and `on_end`.

    Args:
        instruments: Those that are told, the first one outermost.
        payloads: How inputs and results are shown to them; None for not at all.
        inner: The runtime to go on with.
    """

    def __init__(
        self,
        instruments: Sequence[Instrument],
        payloads: Payloads | None = None,
        inner: Runtime | None = None,
    ) -> None:
        super().__init__(inner)
        self._instruments = tuple(instruments)
        self._payloads = payloads
        self._complained: set[Instrument] = set()

    async def perform(
        self,
        primitive: WorkflowPrimitive[In, T],
        execute: Callable[[Any, In, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: In,
        context: WorkflowContext,
    ) -> T:
        """Execute a node, and tell of its beginning and its end."""
        node = Node(primitive, context, current_node.get())
        if self._payloads is not None:
            node.input = self._payloads.show(input_data)
        token = current_node.set(node)
        started = self._start(node)
        try:
            if node.parent is None and context._runtime is not self:
                await self._keep_trace(context)
            if self.inner is None:
                result = await execute(primitive, input_data, context)
            else:
                result = await self.inner.perform(primitive, execute, input_data, context)
        except BaseException as error:
            node.error = error
            if isinstance(error, Exception):
                node.raised_here = note_failure(error, context)
            # The garbage collector closes a coroutine in a context that is not its own.
            if not isinstance(error, GeneratorExit) or current_node.get() is node:
                current_node.reset(token)
            self._end(node, started)
            raise
        current_node.reset(token)
        if self._payloads is not None:
            node.result = self._payloads.show(result)
        if primitive._is_leaf and not primitive.children:
            (node._root or node).steps_completed += 1
        self._end(node, started)
        return result

    def report(
        self,
        event: str,
        attributes: Mapping[str, Attribute],
        context: WorkflowContext,
    ) -> None:
        """Tell of something that happened at the node that is being executed."""
        super().report(event, attributes, context)
        if event == "replayed":
            self._replayed(context)
            return
        node = current_node.get()
        if node is None or node._repeats:
            return
        for instrument in self._instruments:
            try:
                instrument.on_event(node, event, attributes)
            except Exception as error:  # noqa: BLE001 - what observes a run must not fail it
                self._complain(instrument, error)

    def carrier(self) -> dict[str, str]:
        """The trace, the baggage and the run that a run started here belongs to."""
        carrier = super().carrier()
        inject(carrier)
        node = current_node.get()
        if node is not None:
            carrier[PARENT_RUN] = node.context.run_id
        return carrier

    async def _keep_trace(self, context: WorkflowContext) -> None:
        """Leave word in the run's journal of the trace that it is in, for when it is resumed."""
        carrier: dict[str, str] = {}
        inject(carrier)
        traceparent = carrier.get("traceparent", "")
        is_sampled = int(traceparent[-2:] or "0", 16) & 1
        if context._runtime is not None and is_sampled:
            await context._runtime.keep(TRACE, traceparent)

    def _replayed(self, context: WorkflowContext) -> None:
        primitive = context._primitive
        assert primitive is not None
        node = Node(primitive, context, current_node.get(), is_replayed=True)
        if node.parent is not None:
            node.parent._repeats = True
        if node.is_step:
            node.root.steps_completed += 1
        for instrument in self._instruments:
            try:
                instrument.on_replayed(node)
            except Exception as error:  # noqa: BLE001 - what observes a run must not fail it
                self._complain(instrument, error)

    def _start(self, node: Node) -> list[tuple[Instrument, object]]:
        started: list[tuple[Instrument, object]] = []
        for instrument in self._instruments:
            try:
                started.append((instrument, instrument.on_start(node)))
            except Exception as error:  # noqa: BLE001 - what observes a run must not fail it
                self._complain(instrument, error)
        return started

    def _end(self, node: Node, started: list[tuple[Instrument, object]]) -> None:
        node.seconds = time.perf_counter() - node.started
        for instrument, value in reversed(started):
            try:
                instrument.on_end(node, value)
            except Exception as error:  # noqa: BLE001 - what observes a run must not fail it
                self._complain(instrument, error)

    def _complain(self, instrument: Instrument, error: Exception) -> None:
        """Log an instrument's error, the first of each only: there is one for every node."""
        if instrument not in self._complained:
            self._complained.add(instrument)
            msg = "%r failed; the run goes on, and no more of its errors are logged"
            _logger.error(msg, instrument, exc_info=error)
