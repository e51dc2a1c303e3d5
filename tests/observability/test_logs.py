"""The application's own logs name the run, the path and the trace; runs say how they ended."""

import io
import json
import logging
import subprocess
import sys

import anyio
import pytest
import structlog
from opentelemetry import trace

from plait import MockPrimitive, WorkflowContext, step
from plait.observability import RunFilter, add_run, configure_logging

pytestmark = pytest.mark.anyio


@pytest.fixture
def logs():
    """Configures logging to a stream, and takes everything away again."""
    stream, root = io.StringIO(), logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def configured(style, **options):
        configure_logging(style, stream=stream, **options)

        def read():
            return stream.getvalue()

        return read

    yield configured
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
    root.setLevel(level)
    structlog.reset_defaults()


def events(text):
    return [json.loads(line) for line in text.splitlines()]


@step
async def work(name: str, context: WorkflowContext) -> str:
    structlog.get_logger("shop").info("by structlog", order=7)
    logging.getLogger("shop.stock").warning("by %s", "logging", extra={"left": 3})
    context.logger.info("by the context", size=1)
    return name


async def test_json_logs_name_the_run_the_path_and_the_trace(logs, spans):
    read = logs("json")
    context = WorkflowContext("request-7", metadata={"tenant": "acme"})
    await (work >> str.title).named("orders").execute("ada", context)
    found = events(read())
    assert [event["event"] for event in found] == [
        "by structlog",
        "by logging",
        "by the context",
        "workflow_complete",
    ]
    by_path = {span.attributes["plait.path"]: span for span in spans()}
    span = by_path["orders/1:work"]
    for event in found[:3]:
        assert event["run_id"] == event["correlation_id"] == "request-7"
        assert event["path"] == "orders/1:work"
        assert event["metadata"] == {"tenant": "acme"}
        assert event["trace_id"] == trace.format_trace_id(span.context.trace_id)
        assert event["span_id"] == trace.format_span_id(span.context.span_id)
        assert {"timestamp", "level", "logger"} <= set(event)
    assert (found[0]["order"], found[1]["left"], found[2]["size"]) == (7, 3, 1)
    assert found[1]["level"] == "warning"


async def test_a_nodes_own_logger_names_the_trace_whatever_logging_is_configured(spans, caplog):
    @step
    async def complain(_, context: WorkflowContext) -> None:
        context.logger.warning("odd")

    await complain(1)
    span = spans()[0].context
    assert caplog.records[0].trace_id == trace.format_trace_id(span.trace_id)
    assert caplog.records[0].span_id == trace.format_span_id(span.span_id)


async def test_a_run_ends_with_an_event(logs):
    read = logs("json")
    await (step(str.split) >> len).named("words").execute("to be", WorkflowContext("request-7"))
    (event,) = events(read())
    assert event["event"] == "workflow_complete"
    assert event["correlation_id"] == "request-7"
    assert event["workflow"] == event["path"] == "words"
    assert event["steps_completed"] == 2
    assert 0 < event["duration_ms"] < 10_000


async def test_a_run_that_fails_or_is_cancelled_says_so(logs):
    read = logs("json")
    with pytest.raises(OSError, match="down"):
        await (step(len) >> MockPrimitive("broken", side_effect=OSError("down"))).named("w")("a")
    with anyio.move_on_after(0.01):
        await step(anyio.sleep)(60)
    failed, cancelled = events(read())
    assert (failed["event"], failed["level"]) == ("workflow_failed", "error")
    assert (failed["error"], failed["steps_completed"]) == ("OSError('down')", 1)
    assert (cancelled["event"], cancelled["path"]) == ("workflow_cancelled", "sleep")


async def test_what_is_out_of_the_ordinary_is_a_warning(logs):
    @step
    async def report(_, context: WorkflowContext) -> None:
        context.report("retry", attempt=1, error="OSError('down')")
        context.report("cache_hit")
        context.report("progress", done=1, message="half")

    read = logs("json")
    await report(1)
    retry, _ = events(read())
    assert (retry["event"], retry["level"], retry["attempt"]) == ("retry", "warning", 1)
    assert (retry["path"], retry["error"]) == ("report", "OSError('down')")


async def test_details_are_there_where_they_are_asked_for(logs):
    @step
    async def report(_, context: WorkflowContext) -> None:
        context.report("signal", name="approved")
        context.progress(1, 2, "half")

    read = logs("json", level="DEBUG")
    await report(1)
    signal, progress = [event for event in events(read()) if event["logger"] == "plait"][:2]
    assert (signal["event"], signal["signal_name"]) == ("signal", "approved")
    assert (progress["progress_message"], progress["done"]) == ("half", 1)


async def test_console_logs_are_for_people(logs):
    read = logs("console")
    await work("ada")
    lines = read().splitlines()
    assert len(lines) == 4
    assert "by structlog" in lines[0]
    assert "order=7" in lines[0]
    assert "path=work" in lines[0]
    assert "\x1b" not in read()


async def test_errors_are_in_json_with_their_traceback(logs):
    @step
    async def complain(_):
        try:
            raise OSError("down")
        except OSError:
            structlog.get_logger().exception("it failed")

    read = logs("json")
    await complain(1)
    assert "OSError: down" in events(read())[0]["exception"]


class UnspeakableError(Exception):
    def __str__(self):
        raise KeyError("nothing to say")

    __repr__ = __str__


@pytest.mark.parametrize("style", ["console", "json"])
async def test_what_no_stream_can_write_is_written_all_the_same(style, capsys):
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    handler = configure_logging(style, stream=output)
    try:
        with pytest.raises(UnspeakableError):
            await MockPrimitive("broken", side_effect=UnspeakableError())(1)
        await MockPrimitive("file", return_value=1).execute(1, WorkflowContext("half \udc80"))
    finally:
        logging.getLogger().removeHandler(handler)
        structlog.reset_defaults()
    output.flush()
    text = output.buffer.getvalue().decode()
    assert "workflow_failed" in text
    assert "UnspeakableError: str() raised KeyError" in text
    assert "half \\udc80" in text
    if style == "json":
        assert events(text)[-1]["correlation_id"] == "half \udc80"
    # What the standard library says of a line that could not be written.
    assert "Logging error" not in capsys.readouterr().err


async def test_what_has_no_text_is_named_by_its_class_in_json(logs):
    read = logs("json")
    await MockPrimitive("done", return_value=1).execute(
        1, WorkflowContext(metadata={"odd": UnspeakableError()})
    )
    (event,) = events(read())
    assert event["metadata"]["odd"].endswith("UnspeakableError: str() raised KeyError>")


async def test_outside_of_a_run_logs_are_as_they_were(logs):
    read = logs("json")
    structlog.get_logger("shop").info("started")
    (event,) = events(read())
    assert set(event) == {"event", "level", "logger", "timestamp"}


async def test_without_opentelemetry_logs_name_the_run(logs, monkeypatch):
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    read = logs("json")
    await work("ada")
    event = events(read())[0]
    assert event["path"] == "work"
    assert "trace_id" not in event


async def test_configuring_twice_logs_the_end_of_a_run_once_a_handler(logs):
    logs("json")
    read = logs("json")
    await work("ada")
    ends = [event for event in events(read()) if event["event"] == "workflow_complete"]
    assert len(ends) == 2


async def test_a_style_that_is_none_is_refused():
    with pytest.raises(ValueError, match="style='xml'"):
        configure_logging("xml")


async def test_the_processor_leaves_what_an_event_says_itself(spans):
    @step
    async def said(_):
        return add_run(None, "info", {"event": "x", "run_id": "mine"})

    event = await said(1)
    assert event["run_id"] == "mine"
    assert event["path"] == "said"


async def test_standard_logging_has_the_fields_by_a_filter(spans, caplog):
    caplog.handler.addFilter(filter := RunFilter())
    try:

        @step
        async def log(_):
            logging.getLogger("shop").warning("inside")

        await log(1)
        logging.getLogger("shop").warning("outside")
    finally:
        caplog.handler.removeFilter(filter)
    inside, outside = caplog.records
    assert (inside.path, len(inside.trace_id)) == ("log", 32)
    assert (outside.path, outside.run_id, outside.trace_id) == ("", "", "")


def test_nothing_is_logged_until_logging_is_configured():
    script = (
        "from plait import WorkflowContext, observability, step\n"
        "@step\n"
        "async def complain(_, context: WorkflowContext):\n"
        "    context.logger.error('odd')\n"
        "observability.add_instrument(observability.RunLog())\n"
        "complain.run_sync(1)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
