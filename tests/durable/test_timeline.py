"""What a run has done, as a tree for those who look at it."""

import math

import anyio
import pytest
from pydantic import BaseModel

from plait import FallbackPrimitive, WorkflowContext, step, workflow
from plait.durable import DurableRunner, MemoryJournal
from plait.durable._readable import as_json, readable
from plait.durable._timeline import parents, tree_of
from plait.primitives import Failure

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
        with anyio.fail_after(5):
            while states(await tree_of(runner, "s")).get("stuck/2:inner") != "running":  # noqa: ASYNC110
                await anyio.sleep(0.01)


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


async def test_what_cannot_be_read_is_an_error():
    assert readable(b"3", Locked()) == 3
    assert readable(b'{"a":1}', Locked()) == {"a": 1}
    async with DurableRunner(MemoryJournal(), workflows=ALL) as runner:
        is_down[0] = False
        await runner.run(letters, "ada", run_id="l")
        runner._codec = Locked()
        root = await tree_of(runner, "l")
        assert root.children[0].outcome.value == {"to": "ada"}
        from plait.durable._journal import Record
        from plait.durable._timeline import tree

        stored = await runner._find("l")
        broken = [Record(stored.key, "letters/1:write", 0, b"", b"\xff", None)]
        assert isinstance(tree(stored, broken, Locked()).children[0].outcome, Failure)
