"""Workflows that the tests have a Restate server carry."""

import asyncio
import math
import os
from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

import anyio
from effects import effect

from plait import (
    BatchPrimitive,
    CachePrimitive,
    CircuitBreakerPrimitive,
    CompensationPrimitive,
    ConcurrencyLimitPrimitive,
    ConditionalPrimitive,
    FallbackPrimitive,
    HedgePrimitive,
    MapPrimitive,
    ParallelPrimitive,
    RateLimitPrimitive,
    ReducePrimitive,
    RetryPrimitive,
    RouterPrimitive,
    SignalPrimitive,
    SleepPrimitive,
    StepTimeoutError,
    TimeoutPrimitive,
    WorkflowContext,
    WorkflowPrimitive,
    step,
    workflow,
)
from plait.recovery import constant


def staged(name, stage, function):
    """A step that writes down that it began."""

    async def execute(value, context: WorkflowContext):
        effect(context, stage)
        await asyncio.sleep(0.005)
        return function(value)

    return step(name=name)(execute)


def failing(name, stage, error):
    async def execute(value, context: WorkflowContext):
        effect(context, stage)
        raise error

    return step(name=name)(execute)


@step
async def flaky(n: int, context: WorkflowContext) -> int:
    effect(context, 5 + context.attempt)
    if context.attempt < 3:
        raise ConnectionError(f"attempt {context.attempt}")
    return n


@step
async def remember(n: int, context: WorkflowContext) -> int:
    effect(context, 11)
    context.data.setdefault("seen", []).append(n)
    return n


@step
async def recall(n: int, context: WorkflowContext) -> list:
    effect(context, 12)
    return [n, *context.data["seen"]]


# Steps, branches, a map and a fold, retries, a timer, a fallback, data: 16 effects in all.
journey = (
    staged("inc", 1, lambda n: n + 1)
    >> staged("inc", 2, lambda n: n + 1)
    >> (staged("double", 3, lambda n: 2 * n) | staged("negate", 3, lambda n: -n))
    >> staged("sum", 4, sum)
    >> range
    >> MapPrimitive(staged("square", 5, lambda n: n * n))
    >> ReducePrimitive(lambda total, n: total + n, 0)
    >> RetryPrimitive(flaky, 2, backoff=constant(0.01))
    >> SleepPrimitive(0.05)
    >> FallbackPrimitive(
        failing("refused", 9, PermissionError("not today")),
        [staged("other", 10, lambda n: n + 100)],
    )
    >> remember
    >> recall
).named("journey")
JOURNEY_INPUT, JOURNEY_RESULT, JOURNEY_EFFECTS = 2, [114, 114], 16


@dataclass
class Order:
    number: int
    total: Decimal


@step
async def twice(order: Order) -> Order:
    return Order(order.number, order.total * 2)


typed = (twice >> twice).named("typed")

chosen = (
    ConditionalPrimitive(lambda n: n > 5, staged("high", 1, str), staged("low", 1, repr))
    >> RouterPrimitive(
        {"1": str.upper, "9": str.title, "small": str.lower}, lambda text: text, default="small"
    )
).named("chosen")

collected = ParallelPrimitive(
    {"fine": staged("fine", 1, str), "bad": failing("bad", 1, KeyError("bad"))}, errors="collect"
).named("collected")

_met = defaultdict(lambda: (set(), anyio.Event()))


@step
async def meet(n: int, context: WorkflowContext) -> int:
    """Ends only when three of it are under way at the same time."""
    met, have_met = _met[context.run_id]
    met.add(context.path)
    if len(met) == 3:
        have_met.set()
    with anyio.fail_after(5):
        await have_met.wait()
    return n


at_once = ((meet | meet | meet) >> sum).named("at_once")
mapped_at_once = MapPrimitive(meet).named("mapped_at_once")


async def _numbers(count):
    for number in range(count):
        yield number


@workflow
async def streamed(count: int) -> list[int]:
    doubled = MapPrimitive(staged("double", 1, lambda n: 2 * n), max_concurrency=2)
    return await doubled(_numbers(count))


@step
async def cancels_itself(n: int) -> int:
    raise asyncio.CancelledError


self_cancelled = cancels_itself.named("self_cancelled")


@step
async def crash_with_own_error(n: int) -> int:
    class UnheardError(Exception):
        pass

    raise UnheardError(f"number {n}")


unknown_error = (crash_with_own_error >> str).named("unknown_error")
exhausted = RetryPrimitive(
    failing("always", 1, ConnectionError("down")), 2, backoff=constant(0.01)
).named("exhausted")
unencodable = step(name="unencodable")(lambda _: object())


@step
async def undo(n: int, context: WorkflowContext) -> None:
    effect(context, 100)


def undone(name, stage):
    return CompensationPrimitive(staged(name, stage, lambda n: n + 1), undo)


saga = (
    undone("reserve", 1) >> undone("pay", 2) >> failing("ship", 3, ValueError("no truck"))
).named("saga")
approval = (undone("reserve", 1) >> SignalPrimitive("approved", bool, timeout=30)).named("approval")
impatient = (undone("reserve", 1) >> SignalPrimitive("never", timeout=0.1)).named("impatient")


@step
async def stuck(n: int, context: WorkflowContext) -> int:
    effect(context, 2)
    try:
        await anyio.sleep(30)
    finally:
        effect(context, 3)
    return n


timed_out = FallbackPrimitive(TimeoutPrimitive(stuck, 0.1), [staged("late", 4, str)]).named(
    "timed_out"
)
stuck_run = (undone("reserve", 1) >> stuck).named("stuck_run")
stuck_branches = (undone("reserve", 1) >> (stuck | failing("bad", 2, ValueError("bad")))).named(
    "stuck_branches"
)


@workflow
async def imperative(n: int, context: WorkflowContext) -> dict:
    """Whatever the body of a workflow may ask for."""
    told = context.now()
    first = await recorded(n)
    context.data["first"] = first
    await context.set_event("begun", first)
    await context.set_event("begun", first + 1)
    left, right = await context.gather(recorded(1), recorded(2))
    await context.sleep(0.05)
    await asyncio.sleep(0)
    await context.sleep(0)
    signals = [await context.wait_for("item") for _ in range(2)]
    try:
        await context.wait_for("never", timeout=0.05)
    except StepTimeoutError as error:
        signals.append(str(error))
    later = await summed.future(recorded.future(3), recorded.future(4))
    return {
        "results": [first, left, right, later],
        "signals": signals,
        "waited": 0.1 <= (context.now() - told).total_seconds() < 20,
        "uuid": str(context.uuid()),
        "random": context.random.random(),
        "data": dict(context.data),
        "patched": context.patched("new way"),
        "attempt": context.attempt,
    }


@step
async def recorded(n: int, context: WorkflowContext) -> int:
    effect(context, 1)
    # A step has a clock, a deadline and random numbers of its own, and may wait.
    await context.sleep(0.001)
    assert abs(context.now().timestamp() - context.time()) < 60
    return n + context.random.randrange(1)


@step
def summed(left: int, right: int) -> int:
    return left + right


@workflow
async def from_both_sides(n: int, context: WorkflowContext) -> list:
    """Branches that wait for signals of one name, each of which one of them takes."""
    calls = [context.wait_for("item") for _ in range(n)]
    return sorted(await context.gather(*calls))


class Twice(WorkflowPrimitive[int, int]):
    """A composite of the user's own."""

    def __init__(self, inner):
        self.inner = inner

    @property
    def children(self):
        return (self.inner,)

    async def execute(self, input_data, context):
        return await self.inner.execute(await self.inner.execute(input_data, context), context)


custom = Twice(staged("inc", 1, lambda n: n + 1)).named("custom")

guarded = (
    CachePrimitive(staged("cached", 1, lambda n: n + 1), 60)
    >> RateLimitPrimitive(staged("limited", 2, lambda n: n + 1), 1000, 1)
    >> ConcurrencyLimitPrimitive(CircuitBreakerPrimitive(staged("held", 3, lambda n: n + 1)), 2)
    >> BatchPrimitive(lambda items: [item + 1 for item in items], 10, 0.001)
    >> HedgePrimitive(staged("hedged", 4, lambda n: n + 1), 5)
).named("guarded")


@step(at_most_once=True)
async def once(n: int, context: WorkflowContext) -> int:
    effect(context, 2)
    return n


careful = (staged("inc", 1, lambda n: n + 1) >> once).named("careful")
large = (step(name="grow")(lambda size: "x" * size) >> len).named("large")
many = MapPrimitive(step(name="same")(lambda n: n)).named("many")

# What is refused at the node, as nobody can see it before.


@workflow
async def waits_for_the_loop(n: int) -> int:
    await asyncio.sleep(0.01)
    return n


@workflow
async def gathers_tasks(n: int) -> list:
    return await asyncio.gather(recorded(n), recorded(n))


@workflow
async def sleeps_in_task(n: int, context: WorkflowContext) -> None:
    task = asyncio.create_task(context.sleep(1))
    await context.sleep(0.05)
    await task


@workflow
async def waits_for_nobody(n: int, context: WorkflowContext) -> None:
    await context.event().wait()


@workflow
async def holds_entity(n: int, context: WorkflowContext) -> None:
    async with context.entity(dict, "ada"):
        pass


@workflow
async def limits_more_than_a_step(n: int) -> int:
    return await ConcurrencyLimitPrimitive(recorded >> recorded, 1)(n)


@step
async def asks_too_much(what: str, context: WorkflowContext) -> None:
    if what == "signal":
        await context.wait_for("approved")
    elif what == "event":
        await context.set_event("begun", 1)
    else:
        async with context.entity(dict, "ada"):
            pass


asking = asks_too_much.named("asking")


@step
async def stubborn(n: int, context: WorkflowContext) -> int:
    effect(context, 1)
    try:
        await anyio.sleep(30)
    except asyncio.CancelledError:
        return n


finishes_late = (CompensationPrimitive(stubborn, undo) >> str).named("finishes_late")


@step
async def undo_slowly(n: int, context: WorkflowContext) -> None:
    effect(context, 100)
    await anyio.sleep(0.5)
    effect(context, 101)


undone_slowly = (
    CompensationPrimitive(staged("reserve", 1, lambda n: n), undo_slowly)
    >> failing("ship", 2, ValueError("no truck"))
).named("undone_slowly")
unhurried = TimeoutPrimitive(staged("inc", 1, lambda n: n + 1), math.inf).named("unhurried")


@workflow
async def folds(count: int, context: WorkflowContext) -> list[int]:
    folded = []

    async def deliver(number):
        folded.append(number)

    await context.fold([partial(recorded, number) for number in range(count)], 2, deliver)
    return folded


@workflow
async def returns_what_has_no_form(n: int) -> object:
    return object()


@workflow
async def swallows(n: int, context: WorkflowContext) -> list:
    """Handles what it is cancelled with, and goes on."""
    seen = []
    for seconds in (0.05, 30):
        try:
            await TimeoutPrimitive(TimeoutPrimitive(stuck, seconds), 0.2)(n)
        except StepTimeoutError as error:
            seen.append(error.seconds)
    return seen


VERSION = os.environ.get("PLAIT_TEST_VERSION", "1")
HELD = SignalPrimitive("go", combine=lambda value, _: value)


@dataclass
class Shipment:
    """A class that there is in the first version only."""

    number: int


if VERSION != "1":
    del Shipment

versioned = (HELD >> step(name=f"version{VERSION}")(lambda n: f"{n} by version {VERSION}")).named(
    "versioned"
)
renamed = (staged("inc" if VERSION == "1" else "increase", 1, lambda n: n + 1) >> HELD).named(
    "renamed"
)
rerouted = (
    RouterPrimitive(
        {"road": lambda n: n, "rail" if VERSION == "1" else "air": lambda n: -n},
        lambda n: "rail" if VERSION == "1" else "air",
    )
    >> HELD
).named("rerouted")


@step
def ship(number: int):
    return Shipment(number)


retyped = (ship >> HELD >> (lambda shipment: shipment.number)).named("retyped")

WORKFLOWS = [
    journey, typed, chosen, collected, at_once, mapped_at_once, streamed, unknown_error, exhausted,
    saga, approval, impatient, timed_out, stuck_run, stuck_branches, imperative, from_both_sides,
    custom, guarded, careful, large, many, waits_for_the_loop, gathers_tasks, sleeps_in_task,
    self_cancelled, waits_for_nobody, holds_entity, limits_more_than_a_step, asking, swallows,
    finishes_late, undone_slowly, unhurried, folds, returns_what_has_no_form, versioned, renamed,
    rerouted, retyped, unencodable,
]  # fmt: skip
