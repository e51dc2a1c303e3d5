"""Runs that do nothing but wait leave memory, and come back when what they wait for is there."""

import gc
import time
import weakref
from dataclasses import dataclass

import anyio
import pytest
from interruption import Gate
from waiting import SOON, runner_of, until, until_status, until_waiting

from plait import (
    ParallelPrimitive,
    RetryPrimitive,
    SignalPrimitive,
    SleepPrimitive,
    StepTimeoutError,
    TimeoutPrimitive,
    WorkflowContext,
    step,
    workflow,
)
from plait.durable import SqliteJournal
from plait.durable._stored import Kind
from plait.recovery import constant

pytestmark = pytest.mark.anyio

DAY = 86_400


@dataclass
class Held:
    """Something that a test looks for in memory."""

    __hash__ = object.__hash__


@workflow
async def hold(_: None, context: WorkflowContext) -> str:
    context.data["said"] = "before"
    held = Held()
    hold.seen.add(held)
    answer = await context.wait_for("go", str)
    del held
    return answer


async def test_nothing_of_a_waiting_run_is_held(journal):
    hold.seen = weakref.WeakSet()
    async with runner_of(journal, hold) as runner:
        runs = [await runner.start(hold, None, run_id=f"run-{n}") for n in range(5)]
        runtimes = weakref.WeakSet(
            execution.runtime for execution in runner._executor.executions.values()
        )
        assert len(runtimes) > 0
        await until_waiting(runner, *(run.run_id for run in runs))

        def is_gone():
            gc.collect()
            return not hold.seen and not runtimes and not runner._executor.executions

        await until(is_gone)
        for run in runs:
            await run.signal("go", run.run_id)
            assert await run.result() == run.run_id


async def test_those_who_wait_for_a_run_do_not_hold_it(journal):
    hold.seen = weakref.WeakSet()
    async with runner_of(journal, hold) as runner, anyio.create_task_group() as tasks:
        run = await runner.start(hold, None, run_id="run")
        tasks.start_soon(run.result)
        await until_waiting(runner, "run")

        def is_gone():
            gc.collect()
            return not hold.seen

        await until(is_gone)
        assert not hold.seen
        await run.signal("go", "now")


async def test_a_run_says_where_it_waits(journal):
    @workflow
    async def order(_: None, context: WorkflowContext) -> None:
        await context.step("reserve", str, 1)
        await context.gather(context.wait_for("approval", timeout=DAY), context.sleep(2 * DAY))

    async with runner_of(journal, order) as runner:
        await runner.start(order, None, run_id="run")
        info = await until_waiting(runner, "run")
    signal, sleep = sorted(info.waits, key=lambda wait: wait.until)
    assert (signal.path, signal.signal) == ("order/1#signal:approval", "approval")
    assert (sleep.path, sleep.signal) == ("order/1#sleep", None)
    assert 0.9 * DAY < (sleep.until - signal.until).total_seconds() < 1.1 * DAY


async def test_a_run_that_does_something_meanwhile_stays(journal):
    gate = Gate()
    both = ParallelPrimitive([gate, SignalPrimitive("go")]).named("both")
    async with runner_of(journal, both) as runner:
        run = await runner.start(both, 1, run_id="run")
        await gate.reached.wait()
        await anyio.sleep(5 * SOON)
        assert (await run.info()).status == "running"
        gate.open()
        await until_waiting(runner, "run")
        await run.signal("go", 2)
        assert await run.result() == (1, 2)
    assert gate.passed == 1


async def test_a_step_that_waits_stays_in_memory(journal):
    calls = []

    @step
    async def nap(value, context: WorkflowContext):
        calls.append(value)
        await context.sleep(10 * SOON)
        return value

    async with runner_of(journal, nap) as runner:
        assert await runner.run(nap, 42) == 42
    assert calls == [42]


async def test_a_timer_is_kept_to_out_of_memory(journal):
    @workflow
    async def nap(seconds: float, context: WorkflowContext) -> float:
        began = context.now().timestamp()
        await context.sleep(seconds)
        await context.step("note", str, 1)
        return began

    async with runner_of(journal, nap) as runner:
        run = await runner.start(nap, 0.5, run_id="run")
        await until_waiting(runner, "run")
        began = await run.result()
        assert time.time() - began >= 0.5


async def test_a_timer_is_kept_to_over_a_restart(journal):
    nap = (SleepPrimitive(0.6) >> str).named("nap")
    async with runner_of(journal, nap) as runner:
        started = time.time()
        await runner.start(nap, 42, run_id="run")
        info = await until_waiting(runner, "run")
    (wait,) = info.waits
    assert 0 <= wait.until.timestamp() - started - 0.6 < 0.5
    async with runner_of(journal, nap) as runner:
        assert (await runner.info("run")).waits == info.waits
        assert await (await runner.get("run")).result() == "42"
    assert time.time() >= wait.until.timestamp()


async def test_a_timer_that_ended_while_nobody_was_there_is_over(journal):
    nap = (SleepPrimitive(0.1) >> str).named("nap")
    async with runner_of(journal, nap) as runner:
        await runner.start(nap, 42, run_id="run")
        await until_waiting(runner, "run")
    await anyio.sleep(0.15)
    async with runner_of(journal, nap) as runner:
        assert await (await runner.get("run")).result() == "42"


async def test_a_deadline_goes_on_out_of_memory(journal):
    review = TimeoutPrimitive(SignalPrimitive("approval"), 0.2).named("review")
    async with runner_of(journal, review) as runner:
        run = await runner.start(review, 42, run_id="run")
        info = await until_waiting(runner, "run")
        assert sorted(wait.path for wait in info.waits) == [
            "review/timed#deadline",
            "review/timed#signal:approval",
        ]
        with pytest.raises(StepTimeoutError, match=r"within 0\.2 s"):
            await run.result()


async def test_a_wait_that_is_soon_over_is_not_worth_leaving_for(journal):
    nap = (SleepPrimitive(0.3) >> str).named("nap")
    async with runner_of(journal, nap, suspend_after=0.2) as runner:
        run = await runner.start(nap, 42, run_id="run")
        assert await run.result() == "42"
        assert run.replayed == 0


async def test_the_wait_before_another_attempt_needs_no_memory(journal):
    attempts = []

    @step
    async def call(value, context: WorkflowContext):
        attempts.append(context.attempt)
        if len(attempts) < 3:
            raise ConnectionError
        return value

    retried = RetryPrimitive(call, backoff=constant(0.1), jitter=False).named("retried")
    async with runner_of(journal, retried) as runner:
        run = await runner.start(retried, 42, run_id="run")
        await until_status(runner, "run", "waiting")
        assert await run.result() == 42
    assert attempts == [1, 2, 3]


async def test_code_of_a_body_that_cleans_up_does_nothing_when_its_run_leaves(journal):
    """Leaving memory looks like a cancellation to the code; it is not how the run ends."""
    undone = []

    @workflow
    async def careful(_: None, context: WorkflowContext) -> str:
        try:
            return await context.wait_for("go", str)
        finally:
            with anyio.CancelScope(shield=True):
                await context.step("clean up", undone.append, 1)

    async with runner_of(journal, careful) as runner:
        run = await runner.start(careful, None, run_id="run")
        await until_waiting(runner, "run")
        assert undone == []
        await run.signal("go", "now")
        assert await run.result() == "now"
    assert undone == [1]


@pytest.mark.parametrize("is_failing", [False, True])
async def test_what_a_body_makes_of_leaving_memory_is_not_its_result(journal, is_failing):
    @workflow
    async def stubborn(_: None, context: WorkflowContext) -> str:
        try:
            return await context.wait_for("go", str)
        except BaseException:  # noqa: BLE001 - what this is about
            if is_failing:
                raise ValueError("was interrupted") from None
            return "was interrupted"

    async with runner_of(journal, stubborn) as runner:
        run = await runner.start(stubborn, None, run_id="run")
        await until_waiting(runner, "run")
        await run.signal("go", "now")
        assert await run.result() == "now"


async def test_a_run_that_is_left_while_it_waits_goes_on_with_the_next_runner(journal):
    order = SignalPrimitive("approval").named("order")
    async with runner_of(journal, order, suspend_after=60) as runner:
        await runner.start(order, 42, run_id="run")
    async with runner_of(journal, order) as runner:
        await until_waiting(runner, "run")
        await runner.signal("run", "approval", "ada")
        assert await (await runner.get("run")).result() == "ada"


async def test_leaving_does_not_wait_for_runs_that_wait(journal):
    order = SignalPrimitive("approval").named("order")
    async with runner_of(journal, order, grace_seconds=60) as runner:
        await runner.start(order, 42, run_id="run")
    async with runner_of(journal) as runner:
        assert (await runner.info("run")).status == "waiting"


async def test_leaving_waits_for_what_is_under_way_and_begins_nothing(journal):
    gate = Gate()
    work = step(gate).named("work")
    async with runner_of(journal, work, grace_seconds=20) as runner:
        await runner.start(work, 42, run_id="run")
        await runner.start(work, 43, run_id="later", delay=0.1)
        await gate.reached.wait()
        async with anyio.create_task_group() as tasks:

            async def open_later():
                await anyio.sleep(0.2)
                gate.open()

            tasks.start_soon(open_later)
            await runner._executor.leave(20)
        assert await (await runner.get("run")).result() == 42
        assert (await runner.info("later")).status == "queued"


async def test_a_step_that_fails_as_its_run_is_let_go_is_done_again(journal):
    calls = []
    reached = anyio.Event()

    @step
    async def sulk(value):
        calls.append(value)
        if len(calls) > 1:
            return value
        try:
            reached.set()
            await anyio.sleep_forever()
        except BaseException:  # noqa: BLE001 - what this is about
            raise ValueError("was interrupted") from None

    async with runner_of(journal, sulk) as runner:
        await runner.start(sulk, 42, run_id="run")
        await reached.wait()
    async with runner_of(journal, sulk) as runner:
        assert await (await runner.get("run")).result() == 42
    assert calls == [42, 42]


async def test_tasks_of_a_body_are_told_apart_by_what_they_did_before(journal):
    """A wait finds its own record again, in whichever order the tasks come to theirs."""
    gate = Gate()
    delays = {"slow": 0.1, "fast": 0.0}

    @step
    async def fetch(name):
        await anyio.sleep(delays[name])
        return name

    @workflow
    async def ask(_: None, context: WorkflowContext) -> list:
        async def one(name):
            found = await fetch(name)
            return found, await context.wait_for("answer")

        answers = await context.gather(one("slow"), one("fast"))
        await context.step("gate", gate, None)
        return answers

    async with runner_of(journal, ask, suspend_after=60) as runner:
        run = await runner.start(ask, None, run_id="run")
        await run.signal("answer", "to the fast one")
        await run.signal("answer", "to the slow one")
        await gate.reached.wait()
    gate.open()
    async with runner_of(journal, ask) as runner:
        assert await (await runner.get("run")).result() == [
            ("slow", "to the slow one"),
            ("fast", "to the fast one"),
        ]


async def test_deadlines_of_one_body_are_kept_apart(journal):
    @workflow
    async def rounds(_: None, context: WorkflowContext) -> list:
        ended = []
        for seconds in (0.05, 0.1):
            try:
                await context.within(seconds, lambda: context.wait_for("never"))
            except StepTimeoutError as error:
                ended.append(error.seconds)
        return ended

    async with runner_of(journal, rounds) as runner:
        assert await runner.run(rounds, None, run_id="run") == [0.05, 0.1]
        assert (await runner.verify("run")).fits


@workflow
async def child(_: None) -> str:
    return "child"


async def sleeps(context, runner):
    await context.sleep(SOON)


async def sets_an_event(context, runner):
    await context.set_event("ready", True)


async def begins_a_run(context, runner):
    await runner.start(child, None)


async def holds_an_entity(context, runner):
    async with context.entity(Held, "it"):
        pass


async def calls_a_primitive(context, runner):
    await TimeoutPrimitive(step(str), 10)(1)


@pytest.mark.parametrize(
    ("does", "slow"),
    [
        (sleeps, "append"),
        (calls_a_primitive, "append"),
        (sets_an_event, "set_event"),
        (holds_an_entity, "release"),
        (begins_a_run, "create"),
    ],
)
async def test_a_run_that_is_writing_is_not_let_go_of(journal, monkeypatch, does, slow):
    """What it waits for beside would not wake it when it is written."""
    goes_on = anyio.Event()
    method = getattr(SqliteJournal, slow)

    async def late(self, *arguments):
        await anyio.sleep(5 * SOON)
        return await method(self, *arguments)

    monkeypatch.setattr(SqliteJournal, slow, late)

    @workflow
    async def order(_: None, context: WorkflowContext) -> str:
        async def beside():
            await does(context, runner)
            goes_on.set()

        return (await context.gather(context.wait_for("go"), beside()))[0]

    async with runner_of(journal, order, child) as runner:
        run = await runner.start(order, None, run_id="run")
        with anyio.fail_after(10):
            await goes_on.wait()
        await run.signal("go", "went")
        assert await run.result() == "went"


async def test_a_step_does_not_wait_for_what_is_written_after_it(journal, monkeypatch):
    is_begun, is_noted, is_done = anyio.Event(), anyio.Event(), anyio.Event()
    append, happened = SqliteJournal.append, []

    def ordered(self, record):
        async def after(event, what):
            await event.wait()
            await append(self, record)
            happened.append(what)

        if record.path.endswith("first"):
            is_begun.set()
            return after(is_noted, "the step is written")
        if record.kind == Kind.CALL:
            is_noted.set()
            return after(is_done, "the call is written")
        return append(self, record)

    monkeypatch.setattr(SqliteJournal, "append", ordered)

    @workflow
    async def order(_: None, context: WorkflowContext) -> None:
        async def one():
            await context.step("first", str, 1)
            happened.append("the step is done")
            is_done.set()

        async def other():
            await is_begun.wait()
            await child(None)

        await context.gather(one(), other())

    async with runner_of(journal, order) as runner:
        with anyio.move_on_after(10):
            await runner.run(order, None)
    assert happened == ["the step is written", "the step is done", "the call is written"]
