"""What steps write into `context.data` is seen again when a run goes on."""

from decimal import Decimal

import anyio
import pytest
from interruption import Gate, carry_on, interrupt, resume
from pydantic import SecretStr

from plait import (
    CachePrimitive,
    FallbackPrimitive,
    MapPrimitive,
    ParallelPrimitive,
    ReducePrimitive,
    RetryPrimitive,
    SequentialPrimitive,
    SerializationError,
    TimeoutPrimitive,
    WorkflowContext,
    step,
)
from plait.durable import DurableRunner
from plait.recovery import constant

pytestmark = pytest.mark.anyio


@step
async def read(_, context: WorkflowContext):
    return context.data


def writing(change):
    """A step that changes the data."""

    @step
    async def write(value, context: WorkflowContext):
        change(context.data)
        return value

    return write


async def data_after(journal, *changes, **options):
    """What a step sees that runs after an interruption that came after these changes."""
    gate = Gate()
    steps = [*map(writing, changes), gate, read]
    workflow = SequentialPrimitive(steps).named("workflow")
    await interrupt(journal, workflow, None, gate, **options)
    return await carry_on(journal, workflow)


async def test_a_key_that_was_set_is_there(journal):
    assert await data_after(journal, lambda data: data.update(user="ada")) == {"user": "ada"}


async def test_what_the_run_was_started_with_is_there(journal):
    data = await data_after(journal, lambda data: data.update(b=2), data={"a": 1})
    assert data == {"a": 1, "b": 2}


async def test_a_change_deep_inside_is_there(journal):
    data = await data_after(
        journal,
        lambda data: data.update(cart={"items": [1]}),
        lambda data: data["cart"]["items"].append(2),
    )
    assert data == {"cart": {"items": [1, 2]}}


async def test_a_key_that_was_removed_is_gone(journal):
    data = await data_after(
        journal, lambda data: data.update(b=2), lambda data: data.clear(), data={"a": 1}
    )
    assert data == {}


async def test_a_key_that_was_removed_and_set_again_is_there(journal):
    data = await data_after(
        journal, lambda data: data.pop("a"), lambda data: data.update(a=1), data={"a": 1}
    )
    assert data == {"a": 1}


async def test_types_are_kept(journal):
    value = {"pair": (1, b"2"), "total": Decimal("1.50"), "tags": {"new"}, 7: None}
    data = await data_after(journal, lambda data: data.update(value=value))
    assert data == {"value": value}


async def test_the_data_that_a_run_was_started_with_is_the_callers_own(journal):
    mine = {"list": [1]}
    await data_after(journal, lambda data: data["list"].append(2), data=mine)
    assert mine == {"list": [1]}


def calling(inner):
    """A step that calls another one."""

    @step
    async def call(value):
        return await inner(value)

    return call


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: TimeoutPrimitive(inner, 60),
        lambda inner: CachePrimitive(inner, 60),
        RetryPrimitive,
        calling,
        lambda inner: (lambda _: [1]) >> MapPrimitive(inner) >> ReducePrimitive(max, 0),
    ],
    ids=["timeout", "cache", "retry", "call", "reduce"],
)
async def test_what_was_written_inside_of_a_finished_node_is_there(journal, wrap):
    gate, inner = Gate(), writing(lambda data: data.update(a=1))
    workflow = SequentialPrimitive([wrap(inner), gate, read]).named("workflow")
    await interrupt(journal, workflow, None, gate)
    assert await carry_on(journal, workflow) == {"a": 1}


async def test_the_last_write_of_concurrent_steps_stays_the_last(journal):
    gate, first = Gate(), anyio.Event()

    @step
    async def slow(_, context: WorkflowContext):
        await first.wait()
        context.data["winner"] = "slow"

    @step
    async def fast(_, context: WorkflowContext):
        context.data["winner"] = "fast"

    async def go_on(_):
        first.set()

    branches = ParallelPrimitive([slow, fast >> go_on])
    workflow = (branches >> gate >> read).named("workflow")
    await interrupt(journal, workflow, None, gate)
    assert await carry_on(journal, workflow) == {"winner": "slow"}


async def test_what_a_handled_failure_wrote_is_there(journal):
    gate = Gate()

    @step
    async def fail(_, context: WorkflowContext):
        context.data["failed"] = True
        raise ConnectionError

    workflow = (FallbackPrimitive(fail, [str]) >> gate >> read).named("workflow")
    await interrupt(journal, workflow, None, gate)
    assert await carry_on(journal, workflow) == {"failed": True}


async def test_what_was_written_is_there_when_a_run_is_resumed(journal):
    is_down = [True]

    @step
    async def call(_):
        if is_down.pop():
            raise ConnectionError

    workflow = (writing(lambda data: data.update(a=1)) >> call >> read).named("workflow")
    async with DurableRunner(journal) as runner:
        with pytest.raises(ConnectionError):
            await runner.run(workflow, None, run_id="run")
    is_down.append(False)
    assert await resume(journal, workflow) == {"a": 1}


@pytest.mark.parametrize("value", [anyio.Path("/"), SecretStr("secret"), memoryview(b"")])
async def test_what_cannot_be_kept_fails_the_step_that_wrote_it(journal, value):
    write = writing(lambda data: data.update(bad=[value]))
    async with DurableRunner(journal) as runner:
        with pytest.raises(SerializationError) as caught:
            await runner.run(write, None)
    assert "context.data['bad'][0]" in str(caught.value)
    assert caught.value.__notes__[0].startswith("in step 'write' (write, run ")


async def test_what_was_written_beside_what_cannot_be_kept_is_there(journal):
    gate = Gate()

    @step
    async def spoil(_, context: WorkflowContext):
        context.data["good"] = 1
        context.data["bad"] = anyio.Path("/")

    mend = writing(lambda data: data.pop("bad"))
    workflow = (FallbackPrimitive(spoil, [mend]) >> gate >> read).named("workflow")
    await interrupt(journal, workflow, None, gate)
    assert await carry_on(journal, workflow) == {"good": 1}


async def test_what_a_finished_branch_wrote_while_another_failed_is_there(journal):
    attempts, has_written, has_failed = [], anyio.Event(), anyio.Event()

    @step
    async def write(_, context: WorkflowContext):
        context.data["a"] = 1
        has_written.set()
        await has_failed.wait()

    @step
    async def call(_, context: WorkflowContext):
        await has_written.wait()
        attempts.append(context.attempt)
        if len(attempts) == 2:
            has_failed.set()
            await anyio.sleep(0.05)
        if len(attempts) < 4:
            raise ConnectionError

    workflow = ((write | RetryPrimitive(call, 2, backoff=constant(0))) >> read).named("workflow")
    async with DurableRunner(journal) as runner:
        with pytest.raises(ConnectionError):
            await runner.run(workflow, None, run_id="run")
    assert await resume(journal, workflow) == {"a": 1}
