"""What the code of a run decides by what comes first, it decides again when it is replayed."""

import asyncio
import random
from contextvars import ContextVar

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interruption import Gate, carry_on, interrupt
from waiting import until

from plait import StepTimeoutError, TimeoutPrimitive, WorkflowContext, step, workflow
from plait.durable import DurableRunner
from plait.testing._lives import live, storage
from plait.testing._mortal import MortalJournal
from plait.testing._surroundings import virtual_time

pytestmark = pytest.mark.anyio


@step
async def fetch(name: str, seconds: float) -> str:
    await anyio.sleep(seconds)
    return name


@step
async def note(seen: list) -> int:
    return len(seen)


@step
async def hang(name: str) -> str:
    await anyio.sleep_forever()
    return name


@step
async def pause(seconds: float) -> str:
    await anyio.sleep(seconds)
    return "paused"


both = (pause | pause).named("both")


async def decided_twice(body, journal):
    """What a body saw come, before the run is interrupted and when it is replayed."""
    gate, decided = Gate(), []

    @workflow
    async def race(_: None, context: WorkflowContext) -> list:
        seen = await body(context)
        decided.append(seen)
        return await context.step("gate", gate, seen)

    await interrupt(journal, race, None, gate)
    assert await carry_on(journal, race) == decided[0]
    return decided


async def in_order(*calls):
    """The results of calls, in the order in which they came."""
    seen = []

    async def add(call):
        seen.append(await call)
        await note(list(seen))

    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(add, call)
    return seen


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_first_completed_of_asyncio_stay_the_first(journal):
    async def body(context):
        times = {"slow": 0.06, "fast": 0, "middle": 0.03, "also fast": 0}
        pending = {asyncio.create_task(fetch(*each)) for each in times.items()}
        seen = []
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            seen.append(sorted(task.result() for task in done))
            await note(list(seen))
        return seen

    first, again = await decided_twice(body, journal)
    assert first == again
    assert first[-1] == ["slow"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_is_completed_comes_in_its_order_again(journal):
    async def body(context):
        times = {"late": 0.05, "early": 0, "soon": 0.02}
        return [await call for call in asyncio.as_completed([fetch(*t) for t in times.items()])]

    first, again = await decided_twice(body, journal)
    assert first == again == ["early", "soon", "late"]


async def test_what_came_first_in_a_task_group_comes_first_again(journal):
    async def body(context):
        return await in_order(fetch("slow", 0.06), fetch("middle", 0.03), fetch("fast", 0))

    first, again = await decided_twice(body, journal)
    assert first == again == ["fast", "middle", "slow"]


async def test_a_sleep_that_was_over_first_is_so_again(journal):
    async def body(context):
        async def nap(seconds):
            await context.sleep(seconds)
            return f"{seconds} s"

        return await in_order(fetch("late", 0.08), nap(0.04), fetch("early", 0))

    first, again = await decided_twice(body, journal)
    assert first == again == ["early", "0.04 s", "late"]


async def test_a_deadline_that_passed_later_does_so_again(journal):
    """What had come until then is not cut off by a deadline that has passed for long."""

    async def body(context):
        async def patience():
            try:
                await context.within(0.1, within)
            except StepTimeoutError:
                return "too late"

        async def within():
            await in_order(fetch("a", 0.03), fetch("b", 0))
            await hang("c")

        return await in_order(patience(), fetch("early", 0.05), fetch("late", 0.2))

    first, again = await decided_twice(body, journal)
    assert first == again == ["early", "too late", "late"]


async def test_signals_events_and_nested_workflows_keep_their_order(journal):
    gate = Gate()

    @workflow
    async def inner(name: str, context: WorkflowContext) -> str:
        await fetch(name, 0.02)
        return await fetch(name, 0.06 if name == "b" else 0)

    async def body(context):
        async def tell():
            await context.sleep(0.01)
            await context.set_event("told", 1)
            return "told"

        calls = inner("b"), inner("a"), context.wait_for("go", str), _first(both(0.04)), tell()
        return await in_order(*calls)

    decided = []

    @workflow
    async def race(_: None, context: WorkflowContext) -> list:
        decided.append(await body(context))
        return await context.step("gate", gate, decided[-1])

    async with DurableRunner(journal, workflows=[race], grace_seconds=0) as runner:
        run = await runner.start(race, None, run_id="run")
        await run.signal("go", "signal")
        await until(gate.reached.is_set)
    gate.open()
    assert await carry_on(journal, race) == decided[0]
    assert decided[0] == decided[1]


async def test_what_was_under_way_comes_after_all_that_had_finished(journal):
    gate, decided = Gate(), []

    @workflow
    async def race(_: None, context: WorkflowContext) -> list:
        seen = []
        decided.append(seen)

        async def add(call):
            seen.append(await call)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(add, context.step("gate", gate, "gate"))
            for name, seconds in (("b", 0.03), ("a", 0)):
                tasks.start_soon(add, fetch(name, seconds))
        return seen

    async with DurableRunner(journal, workflows=[race], grace_seconds=0) as runner:
        await runner.start(race, None, run_id="run")
        await until(lambda: decided and len(decided[0]) == 2)
    before = list(decided[0])
    gate.open()
    assert await carry_on(journal, race) == [*before, "gate"]


async def test_what_code_does_not_ask_for_any_more_holds_nothing_up(journal):
    """The replay waits for it as long as something happens, and then passes it over."""
    gate, is_first = Gate(), True

    @workflow
    async def race(_: None, context: WorkflowContext) -> list:
        calls = [fetch("c", 0.04), fetch("b", 0.02)]
        if is_first:
            calls.append(fetch("a", 0))
        seen = []

        async def add(call):
            seen.append(await call)

        async with anyio.create_task_group() as tasks:
            for call in calls:
                tasks.start_soon(add, call)
            tasks.start_soon(add, context.step("gate", gate, "gate"))
            if not is_first:
                # What is recorded at a point of the code has to be called there.
                tasks.start_soon(_call_late, 0.7, fetch("a", 0))
        return seen

    await interrupt(journal, race, None, gate)
    is_first = False
    assert sorted(await carry_on(journal, race)) == ["b", "c", "gate"]


async def _first(call):
    return (await call)[0]


async def _call_late(seconds, call):
    await anyio.sleep(seconds)
    await call


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_equal_calls_of_two_tasks_are_not_swapped(journal):
    """The second was faster: its record comes first, and is still not the first one's."""
    times = iter([0.05, 0])

    @step
    async def charge(order: int, context: WorkflowContext) -> str:
        await anyio.sleep(next(times))
        return context.idempotency_key

    async def body(context):
        return await context.gather(charge(1), charge(1))

    first, again = await decided_twice(body, journal)
    assert first == again
    assert len(set(first)) == 2


# What follows are programs at random, killed at a write at random, twice.

_seen: ContextVar[list] = ContextVar("seen")


class World:
    """How long steps take, otherwise in each life, and what the code has seen come."""

    random = random.Random(0)
    seen: list


@step
async def work(name: str) -> str:
    await anyio.sleep(World.random.choice([0, 0, 0.01, 0.02, 0.03]))
    return name


@step
async def fail(name: str) -> str:
    await anyio.sleep(World.random.choice([0, 0.01]))
    raise ValueError(name)


timed = TimeoutPrimitive(hang, 0.02).named("timed")
twice = (work >> work).named("twice")
stuck = (work >> hang).named("stuck")


@workflow
async def nested(program: list, context: WorkflowContext) -> None:
    await play(program, context)


async def act(kind, name, context):
    match kind:
        case [*program]:
            await nested(program)
        case "work":
            await work(name)
        case "twice":
            await twice(name)
        case "sleep":
            await context.sleep(0.02)
        case "event":
            await context.set_event(name, 1)
        case "note":
            await note(list(_seen.get()))
        case "fail":
            with pytest.raises(ValueError, match=name):
                await fail(name)
        case "timed":
            with pytest.raises(StepTimeoutError):
                await timed(name)
        case "within":
            with pytest.raises(StepTimeoutError):
                await context.within(0.01, lambda: stuck(name))


async def play(program, context):
    name, branches = program

    async def branch(number, kinds):
        await work(f"{name}{number}")  # tells tasks apart that begin in any order
        for count, kind in enumerate(kinds):
            await act(kind, f"{name}{number}.{count}", context)
            _seen.get().append(f"{name}{number}.{count}")

    async with anyio.create_task_group() as tasks:
        for number, kinds in enumerate(branches):
            tasks.start_soon(branch, number, kinds)


@workflow
async def programmed(program: list, context: WorkflowContext) -> int:
    _seen.set(World.seen)
    await play(program, context)
    return len(_seen.get())


_kinds = st.sampled_from(["work", "twice", "sleep", "event", "note", "fail", "timed", "within"])
_branches = st.lists(st.lists(_kinds, min_size=1, max_size=3), min_size=1, max_size=3)
_nested = st.tuples(st.just("nested "), _branches).map(list)
_programs = st.lists(
    st.lists(st.one_of(_kinds, _kinds, _nested), min_size=1, max_size=3), min_size=2, max_size=4
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(_programs, st.tuples(st.integers(1, 40), st.integers(1, 40)), st.integers())
async def test_a_run_that_is_killed_sees_again_what_it_saw(branches, kills, seed):
    async with virtual_time(), storage() as kept:
        before = []
        for life, kill in enumerate((*kills, 0)):
            World.random, World.seen = random.Random(seed + life), []
            seen, journal = World.seen, MortalJournal(kept)
            journal.dies_at = lambda write, _, kill=kill: write == kill
            with anyio.fail_after(100):
                outcome = (await live(programmed, ["", branches], journal)).outcome
            shared = min(len(seen), len(before)) if journal.is_dead else len(before)
            assert seen[:shared] == before[:shared]
            before = max(seen, before, key=len)
            if outcome is not None:
                break
        assert outcome.value == len(seen)
