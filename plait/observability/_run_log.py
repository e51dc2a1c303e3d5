"""The instrument that logs how runs end and what happens in them, and what adds a run to logs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from plait.observability._instrument import Instrument, Node, current_node
from plait.observability._text import text_of
from plait.primitives._providers import current_trace

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from structlog.typing import EventDict

_logger = logging.getLogger("plait")

_OF_THE_RUN = {
    "completed": ("workflow_complete", logging.INFO),
    "failed": ("workflow_failed", logging.ERROR),
    "cancelled": ("workflow_cancelled", logging.WARNING),
}

_WARNINGS = {
    "breaker_opened", "breaker_rejected", "cache_error", "compensate", "fallback", "rejected",
    "retry", "timeout",
}  # fmt: skip

# The standard library refuses these as fields of one's own.
_TAKEN = {*vars(logging.makeLogRecord({})), "asctime", "message"}


class RunLog(Instrument):
    """Logs the end of each run as `workflow_complete`, and events such as `retry` on the way.

    Events go to the standard library's logger "plait" through the node's own logger, so that they
    name the run and the path.
    """

    def on_end(self, node: Node, started: object) -> None:
        """Log how a run ended."""
        if node.parent is not None:
            return
        event, level = _OF_THE_RUN[node.state]
        if not _logger.isEnabledFor(level):
            return
        fields: dict[str, object] = {
            "workflow": node.workflow,
            "duration_ms": round((node.seconds or 0) * 1000, 3),
            "steps_completed": node.steps_completed,
        }
        if node.state == "failed":
            fields["error"] = _repr(node.error)
        node.context.logger.log(level, event, **fields)

    def on_event(
        self, node: Node, event: str, attributes: Mapping[str, str | int | float | bool]
    ) -> None:
        """Log what happened at a node; what is out of the ordinary as a warning."""
        level = logging.WARNING if event in _WARNINGS else logging.DEBUG
        if _logger.isEnabledFor(level):
            fields = {
                f"{event}_{key}" if key in _TAKEN else key: value
                for key, value in attributes.items()
            }
            node.context.logger.log(level, event, **fields)


def _repr(error: BaseException | None) -> str:
    try:
        return repr(error)
    except Exception:  # noqa: BLE001 - what observes a run must not fail it
        return text_of(error)


def run_fields() -> dict[str, object]:
    """The run, the path and the trace that the caller is executed in; empty outside of any."""
    fields: dict[str, object] = {}
    node = current_node.get()
    if node is not None:
        context = node.context
        fields["run_id"] = context.run_id
        fields["path"] = context.path
        fields["correlation_id"] = context.correlation_id
        if context.metadata:
            fields["metadata"] = dict(context.metadata)
    return fields | current_trace()


def add_run(logger: object, method: str, event_dict: EventDict) -> EventDict:
    """A structlog processor that adds `run_id`, `path`, `correlation_id` and `trace_id`.

    Args:
        logger: The logger, which is not looked at.
        method: The name of the method that was called, which is not looked at.
        event_dict: The event; what it says already is left as it is.

    Example:
        >>> import structlog
        >>> from plait import step
        >>> from plait.observability import add_run
        >>> processors = [add_run, structlog.processors.KeyValueRenderer(["event"])]
        >>> log = structlog.wrap_logger(structlog.PrintLogger(), processors=processors)
        >>> log.info("outside of any run")
        event='outside of any run'
    """
    fields: MutableMapping[str, object] = event_dict
    for key, value in run_fields().items():
        fields.setdefault(key, value)
    return event_dict


def name_run(record: logging.LogRecord) -> bool:
    """A filter that adds to a record what there is of the run, and lets it pass."""
    for key, value in run_fields().items():
        vars(record).setdefault(key, value)
    return True


class RunFilter(logging.Filter):
    """Adds `run_id`, `path`, `correlation_id` and `trace_id` to records of standard logging.

    Added to a handler, it lets every record pass; outside of a run they are empty.

    Example:
        >>> import logging
        >>> from plait.observability import RunFilter
        >>> handler = logging.StreamHandler()
        >>> handler.addFilter(RunFilter())
        >>> handler.setFormatter(logging.Formatter("%(message)s run=%(run_id)s at %(path)s"))
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields, and let the record pass."""
        name_run(record)
        for key in ("run_id", "path", "correlation_id", "trace_id", "span_id"):
            vars(record).setdefault(key, "")
        return True
