"""A node's logger: structlog's interface over the standard library's logging."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from plait.primitives._providers import current_trace

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger

    from plait.primitives._context import WorkflowContext

_logger = logging.getLogger("plait")


def node_logger(context: WorkflowContext) -> BoundLogger:
    """A logger that binds the node's run, path and trace to every event.

    Events reach the standard library's logger "plait", which says nothing until the application
    configures logging; structlog's own configuration is left alone.
    """
    # Without a handler of any kind, logging prints warnings to the standard error stream.
    if not _logger.handlers:
        _logger.addHandler(logging.NullHandler())
    # structlog takes longer to import than the rest of plait together, and most runs never log.
    import structlog

    logger: BoundLogger = structlog.wrap_logger(
        _logger,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.processors.format_exc_info,
            structlog.stdlib.render_to_log_kwargs,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    if context.metadata:
        logger = logger.bind(metadata=dict(context.metadata))
    return logger.bind(
        run_id=context.run_id,
        path=context.path,
        correlation_id=context.correlation_id,
        **current_trace(),
    )
