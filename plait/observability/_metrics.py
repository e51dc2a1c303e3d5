"""The instrument that measures: what Prometheus shows of the workflows of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from plait.observability._instrument import Instrument, Node
from plait.observability._text import utf8
from plait.primitives import ParallelPrimitive, SequentialPrimitive
from plait.primitives._parallel import NamedParallel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.metrics import Counter, Histogram, Meter

    Share: TypeAlias = tuple[Histogram, dict[str, str]]

SECONDS = (
    0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300,
    1800,
)  # fmt: skip
"""The buckets of durations: OpenTelemetry's own are made for milliseconds."""

BREAKER_STATES = {"breaker_closed": 0, "breaker_half_opened": 1, "breaker_opened": 2}

COUNTED = {
    "retry": ("plait_retries", "Attempts after the first one"),
    "fallback": ("plait_fallbacks", "Times that another way was taken after a failure"),
    "timeout": ("plait_timeouts", "Deadlines that passed"),
    "hedge": ("plait_hedges", "Second attempts that were started beside a slow first one"),
    "limited": ("plait_limited", "Calls that a limit made wait"),
    "rejected": ("plait_rejections", "Calls that a limit turned away"),
    "breaker_rejected": ("plait_circuit_breaker_rejections", "Calls that an open breaker refused"),
    "compensate": ("plait_compensations", "Compensations that were executed"),
}
"""The counters of what is reported, each by step."""

CACHE = {
    "cache_hit": "hit",
    "cache_miss": "miss",
    "cache_stale": "stale",
    "cache_shared": "shared",
    "cache_error": "error",
}


class Metrics(Instrument):
    """Durations of sequences and parallels, runs by state, and counts of what recovers.

    Args:
        meter: What makes the instruments.
    """

    def __init__(self, meter: Meter) -> None:
        def seconds(name: str, description: str) -> Histogram:
            return meter.create_histogram(
                name, unit="s", description=description, explicit_bucket_boundaries_advisory=SECONDS
            )

        self._step = seconds("sequential_step_duration", "How long a step of a sequence took")
        self._sequential = seconds("sequential_total_duration", "How long a sequence took")
        self._branch = seconds("parallel_branch_duration", "How long a branch of a parallel took")
        self._parallel = seconds("parallel_total_duration", "How long a parallel took")
        self._runs = meter.create_counter("plait_runs", description="Runs by how they ended")
        self._active = meter.create_up_down_counter(
            "plait_runs_active", description="Runs that are being executed"
        )
        self._cache = meter.create_counter(
            "plait_cache_requests", description="Calls of a cache by how they were answered"
        )
        self._breaker = meter.create_gauge(
            "plait_circuit_breaker_state", description="0 closed, 1 half open, 2 open"
        )
        self._counted: dict[str, Counter] = {
            event: meter.create_counter(name, description=description)
            for event, (name, description) in COUNTED.items()
        }

    def on_start(self, node: Node) -> Share | None:
        """Count a run that begins, and find out what the node is a part of."""
        if node.parent is None:
            self._active.add(1, {"workflow": utf8(node.workflow)})
        # The caller's view of the run: the sequence or parallel, and where in it the node stands.
        frame = node.context._parent
        owner = None if frame is None else frame._primitive
        if isinstance(owner, SequentialPrimitive):
            return self._step, {"step": utf8(node.primitive.label)}
        if isinstance(owner, NamedParallel):
            assert frame is not None
            return self._branch, {"branch": utf8(owner._keys[frame._cursor])}
        if isinstance(owner, ParallelPrimitive):
            return self._branch, {"branch": utf8(node.primitive.label)}
        return None

    def on_end(self, node: Node, started: Share | None) -> None:
        """Measure how long the node took, unless it was cancelled."""
        if node.parent is None:
            workflow = utf8(node.workflow)
            self._active.add(-1, {"workflow": workflow})
            self._runs.add(1, {"workflow": workflow, "state": node.state})
        if node.cancelled or node.seconds is None:
            return
        if started is not None:
            histogram, attributes = started
            histogram.record(node.seconds, attributes)
        if isinstance(node.primitive, SequentialPrimitive):
            self._sequential.record(node.seconds)
        elif isinstance(node.primitive, ParallelPrimitive):
            self._parallel.record(node.seconds)

    def on_event(
        self, node: Node, event: str, attributes: Mapping[str, str | int | float | bool]
    ) -> None:
        """Count what happened."""
        label = utf8(node.primitive.label)
        if event in self._counted:
            self._counted[event].add(1, {"step": label})
        elif event in CACHE:
            self._cache.add(1, {"step": label, "result": CACHE[event]})
        elif event in BREAKER_STATES:
            breaker = utf8(str(attributes.get("breaker", label)))
            self._breaker.set(BREAKER_STATES[event], {"breaker": breaker})
