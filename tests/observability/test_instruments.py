"""What isn't OpenTelemetry is told of every node too, and sees no payloads unless asked to."""

import gc
from contextvars import Context, copy_context
from dataclasses import dataclass
from decimal import Decimal

import anyio
import pytest
from opentelemetry.context import get_current

from plait import FallbackPrimitive, MockPrimitive, WorkflowContext, observability, step, workflow
from plait.durable import DurableRunner
from plait.observability import (
    Instrument,
    Node,
    Payloads,
    add_instrument,
    redact_secrets,
    remove_instrument,
)
from plait.observability._instrument import current_node
from plait.observability._runtime import ObservingRuntime

pytestmark = pytest.mark.anyio


class Notebook(Instrument):
    """Writes down all that it is told."""

    def __init__(self):
        self.lines = []
        self.nodes = []

    def on_start(self, node):
        self.nodes.append(node)
        self.lines.append(("start", node.context.path, node.state))
        return node.context.path

    def on_end(self, node, started):
        assert started == node.context.path
        self.lines.append(("end", node.context.path, node.state))

    def on_event(self, node, event, attributes):
        self.lines.append((event, node.context.path, dict(attributes)))

    def on_replayed(self, node):
        self.lines.append(("replayed", node.context.path, node.state))


@pytest.fixture
def notebook():
    made = Notebook()
    add_instrument(made)
    return made


@step
async def double(number: int) -> int:
    return number * 2


async def test_an_instrument_is_told_of_the_beginning_and_the_end_of_every_node(notebook):
    await (double >> str).named("w")(1)
    assert notebook.lines == [
        ("start", "w", "running"),
        ("start", "w/1:double", "running"),
        ("end", "w/1:double", "completed"),
        ("start", "w/2:str", "running"),
        ("end", "w/2:str", "completed"),
        ("end", "w", "completed"),
    ]
    assert all(node.seconds > 0 for node in notebook.nodes)
    assert repr(notebook.nodes[1]) == "<Node 'w/1:double'>"


async def test_an_instrument_is_told_how_a_node_failed_and_where_the_error_began(notebook):
    broken = MockPrimitive("broken", side_effect=OSError("down"))
    await FallbackPrimitive(broken >> double, [double]).named("w")(1)
    states = {line[1]: line[2] for line in notebook.lines if line[0] == "end"}
    assert states == {
        "w": "completed",
        "w/primary": "failed",
        "w/primary/1:broken": "failed",
        "w/fallback 1": "completed",
    }
    begun = {node.context.path for node in notebook.nodes if node.raised_here}
    assert begun == {"w/primary/1:broken"}


async def test_an_instrument_is_told_of_a_cancelled_node(notebook):
    with anyio.move_on_after(0.01):
        await step(anyio.sleep)(60)
    assert notebook.lines[-1] == ("end", "sleep", "cancelled")


async def test_an_instrument_is_told_what_happens_at_a_node(notebook):
    @step
    async def upload(_, context: WorkflowContext) -> None:
        context.progress(1, 2, "half")

    await upload(1)
    assert notebook.lines[1] == ("progress", "upload", {"done": 1, "total": 2, "message": "half"})


async def test_an_instrument_that_was_removed_is_told_nothing(notebook):
    remove_instrument(notebook)
    assert WorkflowContext()._runtime is None
    assert await double(1) == 2
    assert notebook.lines == []


async def test_an_instrument_that_fails_fails_no_run(caplog):
    class Broken(Instrument):
        def __init__(self, part):
            self.part = part

        def fail(self, part):
            if part == self.part:
                raise KeyError(part)

        def on_start(self, node):
            self.fail("start")

        def on_end(self, node, started):
            self.fail("end")

        def on_event(self, node, event, attributes):
            self.fail("event")

    @step
    async def upload(_, context: WorkflowContext) -> str:
        context.progress(1)
        context.progress(2)
        return "done"

    for part in ("start", "end", "event"):
        add_instrument(Broken(part))
    assert await (upload >> str).named("w")(1) == "done"
    # Once each, not once a node.
    assert len(caplog.records) == 3
    assert {record.exc_info[0] for record in caplog.records} == {KeyError}


async def test_an_instrument_is_told_of_what_a_resumed_run_found_done(notebook, tmp_path, caplog):
    class Broken(Instrument):
        def on_replayed(self, node):
            raise KeyError

    add_instrument(Broken())
    flaky = MockPrimitive("flaky", side_effect=[OSError("down"), "done"])
    pipeline = (double >> flaky).named("w")
    async with DurableRunner(f"sqlite:///{tmp_path}/runs.db", workflows=[pipeline]) as runner:
        run = await runner.start(pipeline, 1)
        with pytest.raises(OSError, match="down"):
            await run.result()
        notebook.lines.clear()
        assert await (await run.resume()).result() == "done"
    assert notebook.lines == [
        ("start", "w", "running"),
        ("replayed", "w/1:double", "running"),
        ("start", "w/2:flaky", "running"),
        ("end", "w/2:flaky", "completed"),
        ("end", "w", "completed"),
    ]
    assert notebook.nodes[-2].root.steps_completed == 2
    assert len(caplog.records) == 1


async def test_what_a_workflow_reports_again_as_it_is_replayed_is_told_once(notebook, tmp_path):
    flaky = MockPrimitive("flaky", side_effect=[OSError("down"), "done"])

    @workflow
    async def report(number: int, context: WorkflowContext) -> str:
        context.progress(0)
        await double(number)
        context.progress(1)
        done = await context.step("flaky", flaky, number)
        context.progress(2)
        return done

    async with DurableRunner(f"sqlite:///{tmp_path}/runs.db", workflows=[report]) as runner:
        run = await runner.start(report, 1)
        with pytest.raises(OSError, match="down"):
            await run.result()
        assert await (await run.resume()).result() == "done"
    # Before the first call, nothing tells a workflow that is replayed from one that begins.
    told = [line[2]["done"] for line in notebook.lines if line[0] == "progress"]
    assert told == [0, 1, 0, 2]


async def test_a_composite_that_a_resumed_run_found_failed_counts_as_no_step(notebook, tmp_path):
    broken = MockPrimitive("broken", side_effect=OSError("down"))
    flaky = MockPrimitive("flaky", side_effect=[OSError("down"), "done"])
    pipeline = (FallbackPrimitive(double >> broken, [double]) >> flaky).named("w")
    async with DurableRunner(f"sqlite:///{tmp_path}/runs.db", workflows=[pipeline]) as runner:
        run = await runner.start(pipeline, 1)
        with pytest.raises(OSError, match="down"):
            await run.result()
        notebook.lines.clear()
        assert await (await run.resume()).result() == "done"
    replayed = [line[1] for line in notebook.lines if line[0] == "replayed"]
    assert replayed == ["w/1:sequential/primary", "w/1:sequential/fallback 1"]


async def test_what_is_reported_outside_of_any_node_is_told_to_nobody(notebook):
    context = WorkflowContext()
    context.report("progress", done=1)
    assert notebook.lines == []


async def test_a_node_of_another_run_is_not_the_parent(notebook):
    @step
    async def outer(_) -> int:
        return await double.execute(1, WorkflowContext("other"))

    await outer(1)
    inner = notebook.nodes[1]
    assert (inner.parent, inner.caller.context.path) == (None, "outer")
    assert inner.root is inner


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_run_that_is_closed_leaves_nothing_current(notebook, spans):
    @workflow
    async def waits(_):
        await anyio.sleep(60)

    before = get_current()
    run = waits.execute(1, WorkflowContext())
    run.send(None)
    run.close()
    gc.collect()
    assert current_node.get() is None
    assert get_current() == before
    assert notebook.lines[-1] == ("end", "waits", "cancelled")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_run_may_be_closed_in_a_context_that_is_not_its_own(notebook, spans, caplog):
    @step
    async def waits(_):
        await anyio.sleep(60)

    run = waits.execute(1, WorkflowContext())
    copy_context().run(run.send, None)
    Context().run(run.close)
    assert notebook.lines[-1] == ("end", "waits", "cancelled")
    assert [span.name for span in spans()] == ["waits"]
    assert not caplog.records


async def test_nodes_are_executed_by_the_runtime_inside(runtime):
    context = WorkflowContext()
    context._runtime = ObservingRuntime([seen := Notebook()], inner=runtime)
    assert await (double >> str).named("w").execute(1, context) == "2"
    assert runtime.paths == [node.context.path for node in seen.nodes]


def test_a_node_that_no_other_is_above_hangs_where_it_is_executed():
    pipeline = double >> str
    caller = Node(double, WorkflowContext().open(double))
    stray = WorkflowContext().open(pipeline).enter(pipeline, 0).open(double)
    assert Node(double, stray, caller).parent is caller


@dataclass
class Card:
    holder: str
    card_number: str


async def test_no_payload_is_shown_unless_asked_for(notebook, spans):
    await step(str.title)("a secret of ada's")
    assert (notebook.nodes[0].input, notebook.nodes[0].result) == (None, None)
    assert "secret" not in spans()[0].to_json()


async def test_payloads_are_shown_redacted_where_they_are_asked_for(notebook, spans):
    @step
    async def pay(order: dict) -> Card:
        return Card("Ada", "4111 1111")

    with observability.configure(traces=False, metrics=False, payloads=Payloads()):
        await pay({"total": Decimal("9.90"), "headers": [{"X-Api-Key": "k-123"}]})
    shown = '{"total": "9.90", "headers": [{"X-Api-Key": "[redacted]"}]}'
    paid = '{"holder": "Ada", "card_number": "[redacted]"}'
    assert (notebook.nodes[0].input, notebook.nodes[0].result) == (shown, paid)
    assert spans()[0].attributes["plait.input"] == shown
    assert spans()[0].attributes["plait.result"] == paid


async def test_payloads_are_no_longer_shown_after_the_shutdown(notebook):
    with observability.configure(traces=False, metrics=False, payloads=Payloads()):
        pass
    await double(1)
    assert notebook.nodes[0].input is None


def test_payloads_are_cut_and_redacted_by_ones_own_function():
    payloads = Payloads(lambda data: {**data, "name": "***"}, max_chars=20)
    assert payloads.show({"name": "ada", "text": "x" * 100}) == '{"name": "***", "tex...'


def test_what_is_no_data_is_shown_by_its_class():
    class Socket:
        def __repr__(self):
            return "token=k-123"

    shown = Payloads().show([Socket(), {1, 2} - {1}, b"\xff"])
    assert shown.startswith('["<test_instruments.test_what')
    assert shown.endswith('Socket>", [2], "_w=="]')


def test_what_cannot_be_shown_says_so_and_quotes_nothing():
    def refuse(_):
        raise ValueError("k-123")

    assert Payloads(refuse).show(1) == "<builtins.int cannot be shown: ValueError>"


@pytest.mark.parametrize(
    "key", ["password", "API-Key", "accessToken", "client_secret", "Authorization", "pin", "cookie"]
)
def test_what_sounds_like_a_secret_is_redacted(key):
    assert redact_secrets([{"a": {key: "k-123"}}]) == [{"a": {key: "[redacted]"}}]


@pytest.mark.parametrize("key", ["name", "spin", "key", "passenger", "mapping"])
def test_what_does_not_is_shown(key):
    assert redact_secrets({key: 1}) == {key: 1}


def test_payloads_of_no_length_are_refused():
    with pytest.raises(ValueError, match="max_chars=0"):
        Payloads(max_chars=0)
