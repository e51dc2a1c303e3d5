import anyio
import pytest
from interruption import Gate, carry_on, fail, interrupt, resume
from waiting import runner_of

from plait import (
    CachePrimitive,
    CompensationPrimitive,
    FallbackPrimitive,
    ParallelPrimitive,
    RetryPrimitive,
    TimeoutPrimitive,
    WorkflowContext,
    step,
    workflow,
)
from plait.durable import DurableRunner, SqliteJournal
from plait.recovery import constant
from plait.testing import assert_crash_safe

pytestmark = pytest.mark.anyio


class World:
    """What was done, and what was undone, in order."""

    def __init__(self):
        self.events = []

    def doing(self, name, undone_through=None):
        """A step that does something, with what undoes it."""

        @step(name=name)
        async def do(value):
            self.events.append(name)
            return value

        @step(name=f"undo {name}")
        async def undo(value):
            self.events.append(f"undo {name}")

        if undone_through is not None:
            undo = step(undone_through) >> undo
        return CompensationPrimitive(do, undo)


@pytest.fixture
def world():
    return World()


@step
async def broken(_):
    raise LookupError("broken")


async def end_of(journal, workflow):
    with pytest.raises(LookupError, match="broken"):
        await carry_on(journal, workflow)


async def test_a_failed_run_undoes_what_had_finished(world, journal):
    run = (world.doing("a") >> world.doing("b") >> broken).named("run")
    await fail(journal, run, 1)
    assert world.events == ["a", "b", "undo b", "undo a"]


async def test_a_run_interrupted_before_it_failed_undoes_what_an_earlier_process_did(
    world, journal
):
    gate = Gate()
    run = (world.doing("a") >> world.doing("b") >> gate >> broken).named("run")
    await interrupt(journal, run, 1, gate)
    assert world.events == ["a", "b"]
    await end_of(journal, run)
    assert world.events == ["a", "b", "undo b", "undo a"]


async def test_a_run_interrupted_in_its_compensations_carries_on_with_those_left(world, journal):
    gate = Gate()
    run = (
        world.doing("a") >> world.doing("b", undone_through=gate) >> world.doing("c") >> broken
    ).named("run")
    await interrupt(journal, run, 1, gate)
    assert world.events == ["a", "b", "c", "undo c"]
    await end_of(journal, run)
    assert world.events == ["a", "b", "c", "undo c", "undo b", "undo a"]


@pytest.mark.parametrize(
    "around",
    [
        lambda inner: inner.named("inner"),
        lambda inner: TimeoutPrimitive(inner, 60),
        lambda inner: RetryPrimitive(inner, 0),
        lambda inner: CachePrimitive(inner, 60),
        lambda inner: FallbackPrimitive(broken, [inner]),
        lambda inner: ParallelPrimitive([inner]) >> (lambda results: results[0]),
    ],
    ids=["sequence", "timeout", "retry", "cache", "fallback", "parallel"],
)
async def test_what_finished_inside_of_something_else_is_known_again(around, world, journal):
    gate = Gate()
    inner = world.doing("a") >> world.doing("b")
    run = (around(inner) >> gate >> broken).named("run")
    await interrupt(journal, run, 1, gate)
    await end_of(journal, run)
    assert world.events == ["a", "b", "undo b", "undo a"]


async def test_compensations_are_interrupted_inside_of_nodes_whose_failure_is_handled(
    world, journal
):
    gate = Gate()
    attempt = world.doing("a", undone_through=gate) >> world.doing("b") >> broken
    run = (
        world.doing("before")
        >> FallbackPrimitive(attempt, [world.doing("other")])
        >> world.doing("after")
    ).named("run")
    await interrupt(journal, run, 1, gate)
    assert await carry_on(journal, run) == 1
    assert world.events == ["before", "a", "b", "undo b", "undo a", "other", "after"]


async def test_a_failure_that_was_handled_is_not_compensated_again(world, journal):
    gate = Gate()
    flaky = world.doing("a") >> fails_at_first
    run = (RetryPrimitive(flaky, backoff=constant(0)) >> gate).named("run")
    await interrupt(journal, run, 1, gate)
    assert await carry_on(journal, run) == 1
    assert world.events == ["a", "undo a", "a"]


@step
async def fails_at_first(value: int, context: WorkflowContext) -> int:
    if context.attempt == 1:
        raise LookupError("broken")
    return value


async def test_a_suspended_run_is_not_undone(world, journal):
    gate = Gate()
    run = (world.doing("a") >> gate >> world.doing("b")).named("run")
    await interrupt(journal, run, 1, gate)
    assert await carry_on(journal, run) == 1
    assert world.events == ["a", "b"]


@step
async def hang(_):
    await anyio.sleep_forever()


async def test_a_deadline_undoes_what_had_finished_before_it(world, journal):
    late = TimeoutPrimitive(world.doing("a") >> hang, 0.05)
    run = FallbackPrimitive(late, [world.doing("other")]).named("run")
    async with DurableRunner(journal, workflows=[run]) as runner:
        assert await runner.run(run, 1) == 1
    assert world.events == ["a", "undo a", "other"]


async def test_the_body_of_a_workflow_says_what_undoes_it(world, journal):
    gate = Gate()

    @step
    async def undo(name):
        world.events.append(f"undo {name}")

    @workflow
    async def run(value: int, context: WorkflowContext) -> None:
        context.compensate(undo, "first")
        await world.doing("a")(value)
        context.compensate(undo, name="second")
        await context.step("gate", gate, value)
        await context.step("broken", broken, value)

    await interrupt(journal, run, 1, gate)
    await end_of(journal, run)
    assert world.events == ["a", "undo second", "undo a", "undo first"]


async def test_one_that_fails_is_recorded_and_does_not_stop_the_others(world, journal):
    async def refuse(_):
        raise PermissionError("no refund")

    run = (world.doing("a") >> world.doing("b", undone_through=refuse) >> broken).named("run")
    error = await fail(journal, run, 1)
    assert isinstance(error, LookupError)
    assert "PermissionError('no refund')" in error.__notes__[1]
    assert world.events == ["a", "b", "undo a"]


async def test_a_resumed_run_does_again_what_was_undone_and_all_that_built_on_it(world, journal):
    outcomes = [LookupError("broken"), "shipped"]

    @step
    async def count(value):
        world.events.append("count")
        return value + len(world.events)

    @step
    async def ship(value):
        world.events.append("ship")
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    run = (count >> world.doing("a") >> count >> ship).named("run")
    await fail(journal, run, 1)
    assert world.events == ["count", "a", "count", "ship", "undo a"]
    assert await resume(journal, run) == "shipped"
    assert world.events[5:] == ["a", "count", "ship"]


async def test_a_resumed_workflow_starts_anew_where_it_said_itself_what_undoes_it(world, journal):
    outcomes = [LookupError("broken"), "shipped"]

    @step
    async def undo(name):
        world.events.append(f"undo {name}")

    @step
    async def do(name):
        world.events.append(name)

    @step
    async def ship(value):
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    @workflow
    async def book(value: int, context: WorkflowContext) -> str:
        await do("a")
        context.compensate(undo, "a")
        return await ship(value)

    run = (do >> book).named("run")
    await fail(journal, run, "before")
    assert await resume(journal, run) == "shipped"
    assert world.events == ["before", "a", "undo a", "a"]


async def test_what_was_undone_below_a_handled_failure_is_left_alone_by_resume(world, journal):
    outcomes = [LookupError("broken"), "shipped"]

    @step
    async def ship(value):
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    handled = FallbackPrimitive(world.doing("a") >> broken, [world.doing("other") >> str])
    run = (handled >> ship).named("run")
    await fail(journal, run, 1)
    assert world.events == ["a", "undo a", "other", "undo other"]
    assert await resume(journal, run) == "shipped"
    assert world.events[4:] == ["other"]


async def test_what_is_cancelled_while_it_is_recorded_has_finished(world, file):
    class SlowJournal(SqliteJournal):
        async def append(self, record):
            if record.path.endswith("/forward"):
                await anyio.sleep(0.1)
            await super().append(record)

    late = TimeoutPrimitive(world.doing("a"), 0.02)
    run = FallbackPrimitive(late, [world.doing("other")]).named("run")
    async with DurableRunner(SlowJournal(file), workflows=[run]) as runner:
        assert await runner.run(run, 1) == 1
    assert world.events == ["a", "undo a", "other"]


async def test_a_hit_of_a_cache_is_another_runs_to_undo(world, journal):
    gate = Gate()
    cached = CachePrimitive(world.doing("a"), 60)
    assert await cached(1) == 1
    run = (cached >> gate >> broken).named("run")
    await interrupt(journal, run, 1, gate)
    await end_of(journal, run)
    assert world.events == ["a"]


async def test_a_run_that_fails_as_it_is_let_go_of_is_undone_when_it_goes_on(world, journal):
    gate = Gate()

    @step
    async def ship(value):
        try:
            await gate(value)
        except anyio.get_cancelled_exc_class():
            raise LookupError("let go of") from None
        raise LookupError("broken")

    run = (world.doing("a") >> ship).named("run")
    await interrupt(journal, run, 1, gate)
    assert world.events == ["a"]
    await end_of(journal, run)
    assert world.events == ["a", "undo a"]


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("around", [lambda it: it, lambda it: TimeoutPrimitive(it, 60)])
@pytest.mark.parametrize("is_sequence", [False, True])
async def test_what_finished_in_what_was_given_up_is_known_again(
    journal, is_sequence, around, is_restarted
):
    """The code above goes on without it, and what it left may have to be undone later."""
    gate, events = Gate(), []

    @step
    async def reserve(seat: int, context: WorkflowContext) -> str:
        context.data["seat"] = seat
        events.append("reserved")
        return f"seat {seat}"

    @step
    async def release(seat: str) -> None:
        events.append(f"released {seat}")

    reached = anyio.Event()

    @step
    async def hang(seat: str) -> None:
        reached.set()
        await anyio.sleep_forever()

    @workflow
    async def book(seat: int, context: WorkflowContext) -> None:
        reserved = await reserve(seat)
        context.compensate(release, reserved)
        await hang(reserved)

    booking = CompensationPrimitive(reserve, release) >> hang if is_sequence else book

    @workflow
    async def order(_: None, context: WorkflowContext) -> None:
        async def give_up(scope):
            await reached.wait()
            scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(give_up, tasks.cancel_scope)
            await around(booking)(12)
        await context.step("gate", gate, None)
        raise ConnectionError(context.data["seat"])

    async with runner_of(journal, order) as runner:
        run = await runner.start(order, None, run_id="run")
        await gate.reached.wait()
        if not is_restarted:
            gate.open()
            with pytest.raises(ConnectionError, match="12"):
                await run.result()
    gate.open()
    if is_restarted:
        async with runner_of(journal, order) as runner:
            with pytest.raises(ConnectionError, match="12"):
                await (await runner.get("run")).result()
    assert events == ["reserved", "released seat 12"]


@pytest.mark.parametrize("wrapper", [CachePrimitive, TimeoutPrimitive])
async def test_a_wrapper_that_is_the_whole_run_is_replayed(world, wrapper):
    around = wrapper(world.doing("a"), 60)
    forget = around.invalidate_all if wrapper is CachePrimitive else None
    await assert_crash_safe(around, 1, setup=forget)


async def test_what_was_kept_in_a_cache_and_not_recorded_is_the_runs_own_to_undo():
    held = set()

    @step
    async def reserve(seat: int) -> int:
        held.add(seat)
        return seat

    @step
    async def release(seat: int) -> None:
        held.discard(seat)

    reservation = CachePrimitive(CompensationPrimitive(reserve, release), 60)

    async def forget():
        held.clear()
        await reservation.invalidate_all()

    await assert_crash_safe(reservation >> broken, 12, setup=forget, state=lambda: held)
