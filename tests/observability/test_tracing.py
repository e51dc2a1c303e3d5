"""A span for every node where the application has set up OpenTelemetry, and nothing elsewhere."""

import subprocess
import sys

import anyio
import anyio.lowlevel
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor

from plait import (
    FallbackPrimitive,
    MapPrimitive,
    MockPrimitive,
    RetryPrimitive,
    WorkflowContext,
    step,
    workflow,
)
from plait.durable import DurableRunner, WorkflowChangedError
from plait.recovery import constant

pytestmark = pytest.mark.anyio


def tree(spans):
    """Each span's path, with its parent's."""
    paths = {span.context.span_id: span.attributes["plait.path"] for span in spans}
    return {
        span.attributes["plait.path"]: paths.get(span.parent.span_id) if span.parent else None
        for span in spans
    }


@step
async def double(number: int) -> int:
    return number * 2


async def test_spans_are_nested_as_the_tree_is(spans):
    pipeline = (double >> (double | str) >> MapPrimitive(str)).named("pipeline")
    await pipeline(1)
    assert tree(spans()) == {
        "pipeline": None,
        "pipeline/1:double": "pipeline",
        "pipeline/2:parallel": "pipeline",
        "pipeline/2:parallel/1:double": "pipeline/2:parallel",
        "pipeline/2:parallel/2:str": "pipeline/2:parallel",
        "pipeline/3:str": "pipeline",
        "pipeline/3:str[0]": "pipeline/3:str",
        "pipeline/3:str[1]": "pipeline/3:str",
    }
    assert len({span.context.trace_id for span in spans()}) == 1


async def test_a_span_is_named_as_its_primitive_and_says_where_it_is(spans):
    await (double >> str).named("pipeline").execute(1, WorkflowContext("request-7"))
    (first, *_) = spans()
    assert first.name == "double"
    assert dict(first.attributes) == {
        "plait.path": "pipeline/1:double",
        "plait.primitive": "Step",
        "plait.run_id": "request-7",
        "plait.attempt": 1,
        "plait.workflow": "pipeline",
        "code.function.name": "test_tracing.double",
    }


async def test_the_calls_of_an_imperative_workflow_are_spans(spans):
    @workflow
    async def quadruple(number: int) -> int:
        return await double(await double(number))

    assert await quadruple(1) == 4
    assert tree(spans()) == {
        "quadruple": None,
        "quadruple/1:double": "quadruple",
        "quadruple/2:double": "quadruple",
    }


async def test_a_span_is_current_while_its_step_runs(spans, provider):
    @step
    async def query(_):
        with provider.get_tracer("database").start_as_current_span("SELECT"):
            await anyio.lowlevel.checkpoint()

    await query(None)
    statement, node = spans()
    assert statement.parent.span_id == node.context.span_id


async def test_an_error_is_recorded_once_where_it_was_raised(spans):
    broken = MockPrimitive("broken", side_effect=ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await (double >> broken).named("pipeline")(1)
    failed = {span.name: span for span in spans() if not span.status.is_ok}
    assert set(failed) == {"broken", "pipeline"}
    assert [event.name for event in failed["broken"].events] == ["exception"]
    assert not failed["pipeline"].events
    assert failed["broken"].status.description == "ValueError: no"


async def test_each_attempt_is_a_span_with_its_number(spans):
    flaky = MockPrimitive("flaky", side_effect=[OSError("down"), "done"])
    await RetryPrimitive(flaky, backoff=constant(0))(1)
    attempts = [span for span in spans() if span.name == "flaky"]
    assert [span.attributes["plait.attempt"] for span in attempts] == [1, 2]


@pytest.mark.parametrize("as_context", [False, True])
async def test_a_run_hangs_under_the_span_that_its_context_names(spans, provider, as_context):
    caller = provider.get_tracer("application").start_span("request")
    parent = trace.set_span_in_context(caller) if as_context else caller
    await (double >> str).execute(1, WorkflowContext(parent_span=parent))
    (root,) = (span for span in spans() if span.name == "sequential")
    assert root.parent.span_id == caller.get_span_context().span_id
    assert tree(spans())["sequential/1:double"] == "sequential"


async def test_nodes_that_a_resumed_run_finds_done_are_no_spans_again(spans, tmp_path):
    flaky = MockPrimitive("flaky", side_effect=[OSError("down"), "done"])
    pipeline = (double >> flaky).named("pipeline")
    async with DurableRunner(f"sqlite:///{tmp_path}/runs.db", workflows=[pipeline]) as runner:
        run = await runner.start(pipeline, 1)
        with pytest.raises(OSError, match="down"):
            await run.result()
        before = len(spans())
        assert await (await run.resume()).result() == "done"
    assert [span.name for span in spans()[before:]] == ["flaky", "pipeline"]


async def test_fallbacks_are_spans_beside_what_they_stand_in_for(spans):
    broken = MockPrimitive("broken", side_effect=OSError())
    await FallbackPrimitive(broken, [double])(1)
    assert tree(spans()) == {
        "broken": None,
        "broken/primary": "broken",
        "broken/fallback 1": "broken",
    }


async def test_without_a_provider_nothing_is_traced():
    @step
    async def current(_):
        return trace.get_current_span()

    assert await current(None) is trace.INVALID_SPAN


def test_importing_sets_nothing_up_and_loads_no_sdk(tmp_path):
    script = (
        "import sys, threading, plait, plait.durable\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'opentelemetry', 'starlette', 'typer', 'rich', 'psycopg', 'redis'}\n"
        "assert threading.active_count() == 1\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, cwd=tmp_path, capture_output=True
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    assert not list(tmp_path.iterdir())


async def test_spans_that_cannot_be_made_fail_no_run(provider, caplog):
    class Broken(SpanProcessor):
        def on_start(self, span, parent_context=None):
            raise KeyError

    @step
    async def upload(_, context: WorkflowContext) -> str:
        context.progress(1)
        return "done"

    provider.add_span_processor(Broken())
    assert await upload(1) == "done"
    assert len(caplog.records) == 1


class UnspeakableError(Exception):
    def __str__(self):
        raise KeyError("nothing to say")


async def test_an_error_without_a_text_is_told_by_its_class(spans):
    broken = MockPrimitive("broken", side_effect=UnspeakableError())
    with pytest.raises(UnspeakableError):
        await (double >> broken).named("w")(1)
    failed = {span.name: span for span in spans()}["broken"]
    (event,) = failed.events
    assert event.attributes["exception.type"] == f"{__name__}.UnspeakableError"
    assert event.attributes["exception.message"].endswith(
        "UnspeakableError: str() raised KeyError>"
    )
    assert tree(spans()) == {"w": None, "w/1:double": "w", "w/2:broken": "w"}


async def test_metadata_without_a_text_costs_no_span(spans):
    await double.execute(1, WorkflowContext(metadata={"odd": UnspeakableError(), "plain": 1}))
    (span,) = spans()
    assert span.attributes["plait.metadata.odd"].endswith(
        "UnspeakableError: str() raised KeyError>"
    )
    assert span.attributes["plait.metadata.plain"] == 1


async def test_texts_that_a_receiver_would_refuse_are_cut(spans):
    with pytest.raises(ValueError, match=r"x+ the end"):
        await MockPrimitive("broken", side_effect=ValueError(f"x{'x' * 5_000_000} the end"))(1)
    (span,) = spans()
    (event,) = span.events
    message = event.attributes["exception.message"]
    assert len(message) < 20_000
    assert message.startswith("xxx")
    assert "characters are left out" in message
    assert message.endswith(" the end")
    assert len(span.status.description) < 20_000
    assert event.attributes["exception.stacktrace"].startswith("Traceback")
    assert len(event.attributes["exception.stacktrace"]) < 20_000


async def test_a_run_that_its_journal_stops_says_why(spans, tmp_path):
    journal = f"sqlite:///{tmp_path}/runs.db"
    flaky = MockPrimitive("flaky", side_effect=OSError("down"))
    before = (double >> flaky).named("pipeline")
    async with DurableRunner(journal, workflows=[before]) as runner:
        with pytest.raises(OSError, match="down"):
            await runner.run(before, 1, run_id="r")
    after = (step(abs) >> flaky).named("pipeline")
    async with DurableRunner(journal, workflows=[after]) as runner:
        with pytest.raises(WorkflowChangedError):
            await (await runner.resume("r")).result()
    (*_, stopped) = spans()
    assert stopped.attributes["error.type"] == "plait.durable.WorkflowChangedError"
    assert "'pipeline/1:" in stopped.status.description


async def test_a_child_of_a_run_without_a_trace_has_no_link(spans):
    await double.execute(1, WorkflowContext(parent_span={"plait-parent-run": "order-42"}))
    assert not spans()[0].links
