"""News that comes in the very moment in which a run leaves memory is not missed."""

import random

import anyio
import pytest

from plait import SignalPrimitive, WorkflowContext, step, workflow
from plait.durable import DurableRunner

pytestmark = pytest.mark.anyio

RUNS = 60


async def test_a_branch_goes_on_while_another_one_waits(journal):
    went_on = set()

    @step
    async def go_on(number: int, context: WorkflowContext) -> int:
        went_on.add(context.run_id)
        return number

    branches = (SignalPrimitive("a", int) >> go_on) | (SignalPrimitive("b", int) >> go_on)
    await ask(journal, branches.named("branches"), ["a"], lambda: len(went_on) == RUNS)
    assert len(went_on) == RUNS


async def test_a_run_that_is_sent_one_signal_after_the_other_ends(journal):
    ended = set()

    @step
    async def work(number: int) -> int:
        return number + 1

    @step
    async def end(number: int, context: WorkflowContext) -> None:
        ended.add(context.run_id)

    @workflow
    async def asking(number: int, context: WorkflowContext) -> None:
        number = await work(number) + await context.wait_for("a", int)
        number = await work(number) + await context.wait_for("b", int)
        await end(number)

    await ask(journal, asking, ["a", "b"], lambda: len(ended) == RUNS)
    assert len(ended) == RUNS


async def ask(journal, workflow, signals, are_done):
    """Send runs signals about when they leave memory, and wait for what they do then."""
    moments = random.Random(1)
    async with DurableRunner(journal, suspend_after=0.01, grace_seconds=0) as runner:

        async def one(number):
            run = await runner.start(workflow, number, run_id=f"run {number}")
            for signal in signals:
                await anyio.sleep(moments.uniform(0.005, 0.03))
                await run.signal(signal, 1)

        async with anyio.create_task_group() as tasks:
            for number in range(RUNS):
                tasks.start_soon(one, number)
        with anyio.fail_after(5):
            while not are_done():  # noqa: ASYNC110
                await anyio.sleep(0.01)
