"""What a run has done, as a tree for those who look at it."""

import math
import time

import anyio
import pytest
from cryptography.fernet import Fernet
from pydantic import BaseModel

from plait import FallbackPrimitive, RetryPrimitive, WorkflowContext, step, workflow
from plait.durable import DurableRunner, EncryptedCodec, JsonCodec, MemoryJournal, RunCancelledError
from plait.durable._history import mark_of
from plait.durable._readable import as_json, readable
from plait.durable._stored import Kind, NewRun, Record, StoredRun, Wait
from plait.durable._timeline import parents, tree, tree_of
from plait.primitives import Failure
from plait.recovery import constant

pytestmark = pytest.mark.anyio
is_down = [False]


class Letter(BaseModel):
    to: str


@step
async def write(to: str) -> Letter:
    return Letter(to=to)


@step
async def post(letter: Letter) -> str:
    if is_down[0]:
        raise ConnectionError("the post is closed")
    return letter.to


@step
async def forever(_: object) -> None:
    await anyio.sleep_forever()


@workflow
async def patient(_: object, context: WorkflowContext) -> str:
    await context.step("wait", step(forever).named("wait"), None)
    return "done"


@workflow
async def hurried(_: object, context: WorkflowContext) -> str:
    with anyio.move_on_after(0.02):
        await forever(None)
    return await post(Letter(to="ada"))


letters = (write >> post).named("letters")
nested = (step(str.title, name="title") >> (write >> post).named("inner")).named("nested")
steady = FallbackPrimitive(letters, [step(str, name="instead")]).named("steady")
ALL = [letters, nested, steady, patient, hurried]


def states(root):
    return {node.path: node.state for node in root.walk()}


async def test_a_tree_of_what_was_done():
    is_down[0] = False
    async with DurableRunner(MemoryJournal(), workflows=ALL) as runner:
        await runner.run(nested, "ada", run_id="n")
        root = await tree_of(runner, "n")
        assert states(root) == {
            "nested": "done",
            "nested/1:title": "done",
            "nested/2:inner": "done",
            "nested/2:inner/1:write": "done",
            "nested/2:inner/2:post": "done",
        }
        # A type that goes by the step's annotation is shown without it.
        assert root.children[1].children[0].outcome.value == {"to": "Ada"}


async def test_failures_and_what_became_of_them():
    is_down[0] = True
    async with DurableRunner(MemoryJournal(), workflows=ALL) as runner:
        with pytest.raises(ConnectionError):
            await runner.run(nested, "ada", run_id="n")
        assert states(await tree_of(runner, "n"))["nested/2:inner/2:post"] == "failed"
        await runner.run(steady, "ada", run_id="s")
        found = states(await tree_of(runner, "s"))
        assert found["steady"] == "done"
        assert "handled" in found.values()
        is_down[0] = False
        run = await runner.resume("n")
        await run.result()
        assert states(await tree_of(runner, "n"))["nested"] == "done"


async def test_calls_that_are_under_way_or_were_cancelled():
    is_down[0] = False
    async with DurableRunner(MemoryJournal(), workflows=ALL, grace_seconds=0) as runner:
        await runner.run(hurried, None, run_id="h")
        found = states(await tree_of(runner, "h"))
        assert found["hurried/1:forever"] == "cancelled"
        run = await runner.start(patient, None, run_id="p")
        with anyio.fail_after(5):
            await anyio.sleep(0.1)
        assert states(await tree_of(runner, "p"))["patient"] == "running"
        await run.cancel()
        with pytest.raises(Exception, match="was cancelled"):
            await run.result()
        assert states(await tree_of(runner, "p"))["patient"] == "cancelled"


async def test_a_part_that_has_begun_is_under_way():
    is_down[0] = False
    stuck = (write >> (post >> forever).named("inner")).named("stuck")
    async with DurableRunner(MemoryJournal(), workflows=[stuck], grace_seconds=0) as runner:
        await runner.start(stuck, "ada", run_id="s")
        with anyio.move_on_after(20):
            while states(await tree_of(runner, "s")).get("stuck/2:inner") != "running":  # noqa: ASYNC110
                await anyio.sleep(0.01)
        assert states(await tree_of(runner, "s"))["stuck/2:inner"] == "running"


def test_a_path_has_those_above_it():
    assert parents("orders") == ["orders"]
    assert parents("a/1:b#signal:x") == ["a", "a/1:b", "a/1:b#signal:x"]


class Odd:
    def __repr__(self) -> str:
        return "<odd>"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"\xff", "/w=="),
        ([math.nan, math.inf], ["nan", "inf"]),
        ({1: Odd()}, {"1": "<odd>"}),
        (ValueError("no"), {"type": "ValueError", "message": "no"}),
        ([ValueError("no")], [{"type": "ValueError", "message": "no"}]),
        ([b"\xff"], "[b'\\xff']"),
    ],
)
def test_every_value_can_be_shown(value, shown):
    assert as_json(value) == shown


class Locked:
    def decode(self, payload, primitive=None):
        raise ValueError("no key decrypts it")


async def test_what_is_encrypted_is_shown_like_all_else():
    codec = EncryptedCodec(JsonCodec(), [Fernet.generate_key()])
    is_down[0] = False
    async with DurableRunner(MemoryJournal(), workflows=ALL, codec=codec) as runner:
        await runner.run(letters, "ada", run_id="l")
        root = await tree_of(runner, "l")
    # A type that goes by the step's annotation needs the step, and not only the key.
    assert [child.outcome.value for child in root.children] == [{"to": "ada"}, "ada"]


async def test_what_cannot_be_read_is_an_error():
    assert readable(b"3", Locked()) == 3
    assert readable(b'{"a":1}', Locked()) == {"a": 1}
    async with DurableRunner(MemoryJournal(), workflows=ALL) as runner:
        is_down[0] = False
        await runner.run(letters, "ada", run_id="l")
        runner._codec = Locked()
        root = await tree_of(runner, "l")
        assert root.children[0].outcome.value == {"to": "ada"}
        stored = await runner._find("l")
        broken = [(Record(stored.key, "letters/1:write", 0, b"", b"\xff", None), 1.0)]
        assert isinstance(tree(stored, broken, Locked(), 2.0).children[0].outcome, Failure)


@step
async def tick(number: int) -> int:
    await anyio.sleep(0.05)
    return number


@step
async def stutter(number: int, context: WorkflowContext) -> int:
    await anyio.sleep(0.01)
    if context.attempt < 2:
        raise ConnectionError("once more")
    return number


@workflow
async def asking(number: int, context: WorkflowContext) -> int:
    await context.step("inner", pair, number)
    await context.sleep(0.02)
    return await context.wait_for("answer", int, timeout=60)


pair = (tick >> tick).named("pair")
again = RetryPrimitive(stutter, 2, backoff=constant(0.01), jitter=False)
mixed = (tick >> (tick | tick).named("both") >> step(min) >> again).named("mixed")


async def test_nodes_say_when_they_began_and_ended():
    async with DurableRunner(MemoryJournal(), workflows=[mixed]) as runner:
        before = time.time()
        await runner.run(mixed, 1, run_id="m")
        root = await tree_of(runner, "m")
    nodes = {node.path: node for node in root.walk()}
    assert before <= root.began <= root.ended <= time.time()
    for node in nodes.values():
        assert root.began <= node.began <= node.ended <= root.ended + 0.001
    first, both = nodes["mixed/1:tick"], nodes["mixed/2:both"]
    assert first.ended - first.began >= 0.05
    assert both.began >= first.ended - 0.005
    left, right = both.children
    # Branches at the same time.
    assert max(left.began, right.began) < min(left.ended, right.ended)
    retried = nodes["mixed/4:stutter"]
    assert {it.path.rpartition("/")[2]: it.attempt for it in retried.walk()} == {
        "4:stutter": None,
        "attempt 1": 1,
        "attempt 1#sleep": 1,
        "attempt 2": 2,
    }
    attempt, sleep, last = retried.children[0], retried.children[0].children[0], retried.children[1]
    assert (attempt.state, sleep.label, last.state) == ("handled", "sleep", "done")
    assert attempt.began < sleep.began < sleep.ended <= last.began + 0.001


async def test_what_waits_began_and_has_not_ended():
    async with DurableRunner(MemoryJournal(), workflows=[asking]) as runner:
        run = await runner.start(asking, 1, run_id="a")
        nodes = {}
        while "asking/1#signal:answer" not in nodes:
            await anyio.sleep(0.01)
            nodes = {node.path: node for node in (await tree_of(runner, "a")).walk()}
        wait = nodes["asking/1#signal:answer"]
        assert (wait.label, wait.state, wait.ended) == ("signal:answer", "waiting", None)
        # Its own record says only that it was called; that the code went on, that it ended.
        inner, sleep = nodes["asking/1:inner"], nodes["asking/1#sleep"]
        assert inner.state == sleep.state == "done"
        assert inner.children[0].began <= inner.ended <= sleep.began + 0.001
        assert sleep.began <= sleep.ended <= sleep.began + 0.022
        await runner.signal("a", "answer", 2)
        await run.result()
        nodes = {node.path: node for node in (await tree_of(runner, "a")).walk()}
        assert nodes["asking/1#signal:answer"].state == "done"


def at(path, kind, time, payload=b"", seconds=None, digest=b""):
    return Record(1, path, kind, digest, payload, None, seconds), time


def told(status, *timeline, now=100.0, waits=()):
    """The times and states of the nodes of a run that began at 10 and was last changed at 90."""
    new = NewRun("r", "flow@2", b"", b"", b"", 10.0)
    stored = StoredRun(1, new, status, 90.0, None, (), is_claimed=False, waits=waits)
    root = tree(stored, timeline, JsonCodec(), now)
    return {node.path: (node.state, node.began, node.ended) for node in root.walk()}


def test_a_sleep_ends_when_it_was_to_end_or_its_run_did():
    timeline = [at("flow#sleep", Kind.TIME, 20.0, b"95.0")]
    assert told("running", *timeline) == {
        "flow": ("running", 10.0, None),
        "flow#sleep": ("done", 20.0, 95.0),
    }
    assert told("running", *timeline, now=50.0)["flow#sleep"] == ("waiting", 20.0, None)
    assert told("failed", *timeline)["flow#sleep"] == ("done", 20.0, 90.0)


def test_what_waits_for_others_began_when_what_was_before_it_ended():
    timeline = [
        at("flow/1:pay", Kind.VALUE, 20.0, b"1", seconds=5.0),
        at("flow#signal:go", Kind.VALUE, 80.0, b"1"),
        at("flow#event:done", Kind.VALUE, 85.0, b"1"),
    ]
    assert told("completed", *timeline) == {
        "flow": ("done", 10.0, 90.0),
        "flow/1:pay": ("done", 15.0, 20.0),
        "flow#signal:go": ("done", 20.0, 80.0),
        "flow#event:done": ("done", 85.0, 85.0),
    }


def test_a_step_that_must_not_run_twice_says_that_it_has_begun():
    begun = at("flow/1:pay#begun", Kind.TIME, 20.0, b"20.0")
    assert told("running", begun)["flow/1:pay"] == ("running", 20.0, None)
    assert told("cancelled", begun)["flow/1:pay"] == ("cancelled", 20.0, None)
    ended = at("flow/1:pay", Kind.VALUE, 30.0, b"1", seconds=9.0)
    assert told("running", begun, ended)["flow/1:pay"] == ("done", 21.0, 30.0)


def test_a_run_that_has_left_memory_waits_since_it_did():
    wait = Wait("flow#signal:go", "signal:r:go", None)
    assert told("waiting", waits=[wait]) == {
        "flow": ("waiting", 10.0, None),
        "flow#signal:go": ("waiting", 90.0, None),
    }


def test_facts_about_a_run_are_no_nodes():
    # An application that traces leaves the trace of a run there.
    assert told("running", at("#trace", Kind.TIME, 20.0, b"00-1-1-01")) == {
        "flow": ("running", 10.0, None)
    }


def test_a_call_that_was_given_up_ended_then():
    timeline = [
        at("flow/1:look", Kind.CALL, 20.0, digest=b"0123456"),
        at("flow/1:look/1:ask", Kind.VALUE, 30.0, b"1", seconds=10.0),
    ]
    given_up = at("flow/1:look", Kind.CANCELLED, 40.0, digest=b"0123456")
    assert told("running", *timeline)["flow/1:look"] == ("running", 20.0, None)
    assert told("running", *timeline, given_up)["flow/1:look"] == ("cancelled", 20.0, 40.0)
    next_call = at("flow/2:ask", Kind.VALUE, 50.0, b"1", 5.0, mark_of("flow/1:look") + b"123")
    assert told("running", *timeline, next_call)["flow/1:look"] == ("done", 20.0, 30.0)


@workflow
async def outer(_: object) -> str:
    return await patient(None)


async def test_what_was_under_way_as_a_run_was_cancelled_is_cancelled_up_to_the_root():
    within = (step(str, name="first") >> outer).named("within")
    async with DurableRunner(MemoryJournal(), workflows=[within]) as runner:
        run = await runner.start(within, 1, run_id="run")
        with anyio.fail_after(10):
            while "within/2:outer/1:patient" not in states(await tree_of(runner, "run")):  # noqa: ASYNC110
                await anyio.sleep(0.005)
            await run.cancel()
            with pytest.raises(RunCancelledError):
                await run.result()
        found = states(await tree_of(runner, "run"))
    assert found["within/1:first"] == "done"
    assert found["within/2:outer"] == found["within/2:outer/1:patient"] == "cancelled"
    assert found["within"] == "cancelled"
