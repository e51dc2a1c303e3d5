"""Logs of an application on its standard error, for people or for machines."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from plait.observability._run_log import RunLog, add_run
from plait.observability._settings import add_instrument, settings
from plait.observability._text import text_of, utf8

if TYPE_CHECKING:
    from typing import TextIO

    from structlog.typing import EventDict, Processor

LogStyle: TypeAlias = Literal["console", "json"]


def configure_logging(
    style: LogStyle = "console", *, level: int | str = "INFO", stream: TextIO | None = None
) -> logging.Handler:
    """Show logs, of structlog and of standard logging alike, with the run, path and trace in them.

    Each run ends with an event: `workflow_complete`, `workflow_failed` or `workflow_cancelled`.
    A handler is added to the root logger, and structlog is configured to log through it.

    Args:
        style: "console" for people (in colour on a terminal), "json" for one object a line.
        level: The least level that is shown.
        stream: Where to; the standard error where none is given.

    Returns:
        The handler, which `logging.getLogger().removeHandler` takes away again.

    Raises:
        ValueError: There is no such style.
    """
    if style not in get_args(LogStyle):
        msg = f'style={style!r} must be "console" or "json"'
        raise ValueError(msg)
    import structlog

    output = stream or sys.stderr
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_run,
    ]
    if style == "console":
        rendered: list[Processor] = [structlog.dev.ConsoleRenderer(colors=output.isatty())]
    else:
        rendered = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=text_of),
        ]
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), _drop_formatted, *common],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *rendered,
                _encodable,
            ],
        )
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *common,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level)
    if not any(isinstance(instrument, RunLog) for instrument in settings().instruments):
        add_instrument(RunLog())
    return handler


def _encodable(logger: object, method: str, line: EventDict) -> str:
    """The line as a stream can write it; in JSON, what is escaped means the same."""
    # By now it is text, which the type of a processor does not say.
    return utf8(str(line))


def _drop_formatted(logger: object, method: str, event_dict: EventDict) -> EventDict:
    """Drop what the formatter of another handler has left on a record."""
    event_dict.pop("message", None)
    event_dict.pop("asctime", None)
    return event_dict
