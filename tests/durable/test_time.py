"""Timers and deadlines keep the time they were set for, also while nothing runs."""

import sqlite3
import time

import anyio
import pytest
from interruption import Gate, carry_on, interrupt

from plait import (
    FallbackPrimitive,
    MockPrimitive,
    RetryPrimitive,
    StepTimeoutError,
    TimeoutPrimitive,
    WorkflowContext,
    step,
)
from plait.durable import DurableRunner
from plait.recovery import RetryBudget, constant

pytestmark = pytest.mark.anyio

HOUR = 3600


def let_pass(file, seconds):
    """Have time pass for the timers and deadlines that a journal keeps."""
    with sqlite3.connect(file) as connection:
        cursor = connection.execute(
            "UPDATE records SET payload = CAST(CAST(CAST(payload AS TEXT) AS REAL) - ? AS BLOB)"
            " WHERE kind = 2",
            (seconds,),
        )
        assert cursor.rowcount
    connection.close()


async def suspend_soon(journal, workflow):
    async with DurableRunner(journal, grace_seconds=0.1) as runner:
        await runner.start(workflow, 42, run_id="run")


async def test_a_wait_that_is_over_is_not_waited_for_again(journal, file):
    workflow = MockPrimitive("wait", return_value="done", delay=24 * HOUR)
    await suspend_soon(journal, workflow)
    let_pass(file, 25 * HOUR)
    assert await carry_on(journal, workflow) == "done"


async def test_a_wait_has_only_left_what_is_left(journal, file):
    workflow = MockPrimitive("wait", return_value="done", delay=24 * HOUR)
    await suspend_soon(journal, workflow)
    let_pass(file, 24 * HOUR - 0.6)
    started = time.monotonic()
    assert await carry_on(journal, workflow) == "done"
    assert 0.2 < time.monotonic() - started < 5


async def test_each_wait_of_a_step_has_its_own_time(journal, file):
    naps = []

    @step
    async def nap(value, context: WorkflowContext):
        for seconds in (0.01, HOUR):
            await context.sleep(seconds)
            naps.append(seconds)
        return value

    await suspend_soon(journal, nap)
    let_pass(file, HOUR)
    assert await carry_on(journal, nap) == 42
    assert naps == [0.01, 0.01, HOUR]


async def test_the_wait_before_a_retry_has_only_left_what_is_left(journal, file):
    attempts = []

    @step
    async def call(value, context: WorkflowContext):
        attempts.append(context.attempt)
        if context.attempt == 1:
            raise ConnectionError
        return value

    workflow = RetryPrimitive(call, backoff=constant(HOUR), jitter=False).named("workflow")
    await suspend_soon(journal, workflow)
    let_pass(file, HOUR)
    assert await carry_on(journal, workflow) == 42
    assert attempts == [1, 2]


async def test_a_deadline_that_passed_meanwhile_has_passed(journal, file):
    gate = Gate()
    workflow = TimeoutPrimitive(gate, HOUR).named("workflow")
    await interrupt(journal, workflow, 42, gate)
    let_pass(file, 2 * HOUR)
    closed = TimeoutPrimitive(Gate(), HOUR).named("workflow")
    with pytest.raises(StepTimeoutError, match="'Gate' did not finish within 3600 s"):
        await carry_on(journal, closed)


async def test_what_had_finished_before_its_deadline_has_finished_in_time(journal, file):
    done, gate = [], Gate()

    @step
    async def work(value):
        done.append(value)
        return value

    workflow = TimeoutPrimitive(work >> gate, HOUR).named("workflow")
    await interrupt(journal, workflow, 42, gate)
    with sqlite3.connect(file) as connection:
        connection.execute(
            "INSERT INTO records (run, path, kind, digest, payload, data)"
            " SELECT run, 'workflow/timed/2:Gate', kind, digest, payload, data FROM records"
            " WHERE path = 'workflow/timed/1:work'"
        )
    connection.close()
    let_pass(file, 2 * HOUR)
    assert await carry_on(journal, workflow) == 42
    assert (done, gate.passed) == ([42], 0)


async def test_a_deadline_is_kept_while_there_is_time_left(journal):
    gate = Gate()
    workflow = TimeoutPrimitive(gate, HOUR).named("workflow")
    await interrupt(journal, workflow, 42, gate)
    assert await carry_on(journal, workflow) == 42


async def test_a_deadline_that_passed_and_was_handled_stays_passed(journal):
    gate, nap, calls = Gate(), [HOUR], []

    @step
    async def work(value):
        calls.append(value)
        await anyio.sleep(nap[0])

    timed = TimeoutPrimitive(work, 0.02)
    workflow = (FallbackPrimitive(timed, ["{} late".format]) >> gate).named("workflow")
    await interrupt(journal, workflow, 42, gate)
    nap[0] = 0
    assert await carry_on(journal, workflow) == "42 late"
    assert calls == [42]


async def test_a_step_that_waits_in_the_middle_of_a_workflow_goes_on(journal):
    @step
    async def nap(value, context: WorkflowContext):
        await context.sleep(0.1)
        return await context.within(60, lambda: later(value))

    async def later(value):
        await gate(value)
        return value

    gate = Gate()
    workflow = (step(abs) >> (nap | str) >> list).named("workflow")
    await interrupt(journal, workflow, 42, gate)
    assert await carry_on(journal, workflow) == [42, "42"]


async def test_a_step_knows_what_is_left_of_a_deadline(file, journal):
    gate = Gate()

    @step
    async def time_left(_: object, context: WorkflowContext) -> float:
        return context.deadline - context.time()

    run = TimeoutPrimitive(gate >> time_left, 24 * HOUR).named("run")
    await interrupt(journal, run, 1, gate)
    let_pass(file, 20 * HOUR)
    assert 3.9 * HOUR < await carry_on(journal, run) < 4.1 * HOUR


async def test_an_attempt_that_was_made_is_not_told_of_again(journal):
    told = []
    gate = Gate()
    budget = RetryBudget(max_tokens=2)
    flaky = MockPrimitive("flaky", side_effect=[OSError, "done"])
    retry = RetryPrimitive(flaky >> gate, backoff=constant(0), on_retry=told.append, budget=budget)
    budget.succeed()
    with pytest.raises(OSError):  # noqa: PT011 - the budget does not last for a second attempt
        async with DurableRunner(journal) as runner:
            await runner.run(retry.named("other"), 1)
    assert told == []


async def test_a_retry_that_had_gone_on_does_so_again_whatever_its_budget(journal):
    told = []
    gate = Gate()
    budget = RetryBudget(max_tokens=4)
    flaky = MockPrimitive("flaky", side_effect=[OSError, "done"])
    retry = RetryPrimitive(flaky >> gate, backoff=constant(0), on_retry=told.append, budget=budget)
    run = retry.named("run")
    await interrupt(journal, run, 1, gate)
    for _ in range(4):
        budget.fail()
    assert await carry_on(journal, run) == "done"
    assert [attempt.attempt for attempt in told] == [1]
