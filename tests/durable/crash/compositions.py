"""Scenarios about primitives, and about what a step or a body of code asks its context for."""

from dataclasses import dataclass

import anyio
from scenarios import block, dallied, driven, scenario, spread, total, work, world

from plait import (
    CachePrimitive,
    ConditionalPrimitive,
    FallbackPrimitive,
    MapPrimitive,
    ParallelPrimitive,
    ReducePrimitive,
    RetryPrimitive,
    RouterPrimitive,
    SleepPrimitive,
    TimeoutPrimitive,
    WorkflowContext,
    step,
    workflow,
)
from plait.durable import StepInterruptedError
from plait.recovery import constant

scenario("sequence", work >> block >> work >> work, 1)

scenario("parallel", work >> (work | block | work >> work) >> total, 1, at_once=3)


@step
async def keep(value, context: WorkflowContext):
    world.effect(context)
    return value


@step
async def broken(_, context: WorkflowContext):
    world.effect(context)
    raise LookupError("always")


scenario(
    "collected",
    ParallelPrimitive([work, broken, work], errors="collect") >> keep,
    1,
    at_once=3,
)


def is_small(number, context: WorkflowContext):
    world.effect(context)
    return number < 10


def route(number, context: WorkflowContext):
    world.effect(context)
    return ["left", "right"] if number < 10 else "left"


scenario(
    "decisions",
    ConditionalPrimitive(is_small, work >> work, block)
    >> RouterPrimitive({"left": work, "right": work >> work}, route)
    >> (lambda results: sum(results.values()))
    >> work,
    1,
    at_once=2,
)

scenario("map", spread >> MapPrimitive(work >> work, max_concurrency=3) >> total, 5, at_once=3)

scenario(
    "map_and_reduce",
    spread
    >> MapPrimitive(work >> work, max_concurrency=3)
    >> ReducePrimitive(lambda state, number: [*state, number], [])
    >> total,
    5,
    at_once=3,
)

scenario(
    "maps_in_a_map",
    spread >> MapPrimitive(spread >> MapPrimitive(work) >> total, max_concurrency=2) >> total,
    4,
    at_once=6,
)


@step
async def flaky(number, context: WorkflowContext):
    world.effect(context)
    if context.attempt < 3:
        raise ConnectionError(f"attempt {context.attempt}")
    return number + context.attempt


scenario("retry", work >> RetryPrimitive(flaky, backoff=constant(0.002)) >> work, 1)

scenario("fallback", work >> FallbackPrimitive(work >> broken, [broken, work >> work]) >> work, 1)


@step
async def slow(_, context: WorkflowContext):
    world.effect(context)
    await anyio.sleep_forever()


scenario(
    "timeout",
    TimeoutPrimitive(work >> work, 60)
    >> FallbackPrimitive(TimeoutPrimitive(work >> slow, 0.05), [work])
    >> work,
    1,
    may_vary=frozenset({"work", "slow"}),
)


@step
async def repeat(_, context: WorkflowContext):
    world.effect(context)
    return [1, 2, 1, 1, 2, 3]


scenario(
    "cache",
    repeat >> MapPrimitive(CachePrimitive(work, 60), max_concurrency=2) >> total,
    None,
    at_once=3,
    may_vary=frozenset({"miss"}),
)


@step
async def double(number: int, context: WorkflowContext) -> int:
    world.effect(context)
    return 2 * number


@step
async def both(left: int, right: int, context: WorkflowContext) -> int:
    world.effect(context)
    return left + right


@step
async def hand_on(number: int, context: WorkflowContext):
    world.effect(context)
    return both.future(double.future(number), double.future(number + 1))


@workflow
async def futures(number: int):
    shared = double.future(number)
    found = await both.future(shared, both.future(shared, double.future(3)))
    return hand_on.future(found)


scenario("futures", futures, 1, at_once=3)


@workflow
async def imperative(number: int, context: WorkflowContext):
    first = await work(number)

    async def branch(start):
        reached = await dallied(work(start))
        try:
            await dallied(broken(reached))
        except LookupError:
            reached = await work(reached)
        return await work(reached)

    results = await context.gather(*[dallied(branch(first + 10 * n)) for n in range(3)])
    with anyio.move_on_after(60):
        results.append(await context.step("named", work, 5))
    return await total(results)


scenario("imperative", imperative, 1, at_once=3)


@step
async def nest(number, context: WorkflowContext):
    """A step that calls steps."""
    inner = await work(number)
    world.effect(context)
    return await work(inner)


scenario("steps_in_steps", work >> nest >> work, 1, at_once=2)


@dataclass
class Basket:
    items: list[int]


@step
async def put(number, context: WorkflowContext):
    world.effect(context)
    basket = context.data.setdefault("basket", Basket([]))
    basket.items.append(number)
    context.data.setdefault("nested", {}).setdefault("deep", []).append({"number": number})
    context.data.pop("last", None) if number % 2 else context.data.update(last=number)
    return number + 1


@step
async def tell(_, context: WorkflowContext):
    return context.data


scenario("data", put >> put >> TimeoutPrimitive(put >> put, 60) >> put >> tell, 1)


@step
async def chance(_, context: WorkflowContext):
    world.effect(context)
    return [str(context.uuid()), context.random.random()]


@workflow
async def clock_and_chance(_, context: WorkflowContext):
    known = [str(context.now()), str(context.uuid()), context.random.random()]
    kept = await keep(known)
    drawn = await chance(None)
    again = [await keep(str(context.now())), str(context.uuid())]
    return [kept == known, drawn, kept[1:], again[1:], await keep(again) == again]


scenario("clock_and_chance", clock_and_chance, None)


@workflow
async def inner(number):
    return await work(await work(number))


@workflow
async def sub_workflows(number):
    return await inner(await inner(number))


scenario("sub_workflows", (work >> work).named("first") >> sub_workflows >> inner, 1)


@workflow
async def naps(number, context: WorkflowContext):
    number = await work(number)
    await context.sleep(0.08)
    return await work(number)


scenario("sleep", work >> SleepPrimitive(0.08) >> naps >> work, 1, options={"suspend_after": 0.02})


scenario("nap", work >> SleepPrimitive(0.6) >> work, 1)


@step(at_most_once=True)
async def once(number, context: WorkflowContext):
    world.effect(context)
    await anyio.sleep(0.001)
    return "done"


@step
async def ask(_, context: WorkflowContext):
    world.effect(context)
    return "interrupted"


charged = (work >> FallbackPrimitive(once, [ask], fallback_on=StepInterruptedError) >> keep).named(
    "charged"
)


@driven(charged, may_vary=frozenset({"primary", "fallback 1"}))
async def at_most_once(runner):
    outcome = await runner.run(charged, 1, run_id="run")
    times = sum(path.endswith("/primary") for path in world.done())
    return [outcome in {"done", "interrupted"}, times <= 1]


scenario(
    "durability_async",
    spread >> MapPrimitive(work >> work) >> total >> work >> work,
    4,
    at_once=20,
    options={"durability": "async"},
)

scenario(
    "durability_exit",
    spread >> MapPrimitive(work >> work) >> total >> work >> work,
    4,
    at_once=20,
    options={"durability": "exit"},
)


@step
async def write_long(number, context: WorkflowContext):
    world.effect(context)
    context.data["long"] = str(number) * 70_000
    return str(number) * 80_000


@step
async def measure(text, context: WorkflowContext):
    world.effect(context)
    return len(text) + len(context.data["long"])


scenario("blobs", work >> write_long >> measure, 1, has_blobs=True)


@workflow
async def patched(number, context: WorkflowContext):
    number = await work(number)
    if world.generation == 0 or not context.patched("better"):
        number = await work(number)
    else:
        number = await block(number)
    return await work(number)


scenario("patched", patched, 1, may_vary=frozenset({"work", "block"}))
