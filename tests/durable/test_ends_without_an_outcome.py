"""What is no exception of a workflow's - an interrupt, an exit - is no outcome of a run either."""

import pytest
from interruption import Gate, carry_on
from waiting import runner_of, until, until_waiting

from plait import WorkflowContext, step, workflow
from plait.durable import DurableRunner, Queue, RunCancelledError, WorkflowChangedError

pytestmark = pytest.mark.anyio


class Panic(BaseException):
    """What means to end the whole program."""


def panics_in(error):
    """What a task group raised, without the groups."""
    if isinstance(error, BaseExceptionGroup):
        return [found for inner in error.exceptions for found in panics_in(inner)]
    return [error]


async def test_a_panic_ends_the_runner_and_its_run_is_carried_on(journal):
    calls = []

    @step
    async def panic(number):
        calls.append(number)
        if len(calls) == 1:
            raise Panic
        return number

    async def run():
        async with DurableRunner(journal, grace_seconds=0) as runner:
            await runner.run(panic, 42, run_id="run")

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - looked into below
        await run()
    assert any(isinstance(error, Panic) for error in panics_in(caught.value))
    assert await carry_on(journal, panic) == 42
    assert calls == [42, 42]


async def test_a_panic_during_a_verification_is_the_callers(journal):
    is_panicking = []

    @workflow
    async def order(number: int, context: WorkflowContext) -> int:
        if is_panicking:
            raise Panic
        return number

    async with DurableRunner(journal, workflows=[order]) as runner:
        await runner.run(order, 42, run_id="run")
        is_panicking.append(True)
        with pytest.raises(Panic):
            await runner.verify("run")
        is_panicking.clear()
        assert (await runner.verify("run")).fits


async def test_a_run_that_was_left_as_it_is_may_be_cancelled(journal):
    """Its runner no longer executes it, and goes on with others."""

    other, line = step(str).named("other"), Queue("line", 1)
    gate = Gate()
    first = (step(str).named("first") >> step(gate).named("gate")).named("order")
    async with runner_of(journal, first) as runner:
        await runner.start(first, 1, run_id="run")
        await gate.reached.wait()
    changed = (step(str).named("second") >> step(str).named("gate")).named("order")
    async with (
        runner_of(journal, changed, other, queues=[line]) as runner,
        runner_of(journal) as elsewhere,
    ):
        run = await runner.get("run")
        with pytest.raises(WorkflowChangedError):
            await run.result()
        assert await elsewhere.cancel("run")

        async def is_flagged():
            return await runner._journal.cancelled() == ["run"]

        await until(is_flagged)
        for number in range(2):
            queued = await runner.start(other, number, queue="line")
            assert await queued.result() == str(number)
        assert (await run.info()).status == "running"
    gate.open()
    async with runner_of(journal, first) as runner:
        with pytest.raises(RunCancelledError):
            await (await runner.get("run")).result()


async def test_what_code_returns_as_it_is_let_go_of_is_not_its_result(journal):
    @workflow
    async def stubborn(_: None, context: WorkflowContext) -> str:
        try:
            return await context.wait_for("answer", str)
        except BaseException:  # noqa: BLE001 - what nobody should write
            return "swallowed"

    async with runner_of(journal, stubborn) as runner:
        run = await runner.start(stubborn, None, run_id="run")
        await until_waiting(runner, "run")
        await run.signal("answer", "yes")
        assert await run.result() == "yes"
