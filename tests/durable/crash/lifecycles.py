"""Scenarios about what the world outside does to runs, and runs to each other."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

import anyio
from scenarios import dallying, driven, last, scenario, total, undo, work, world

from plait import FallbackPrimitive, SignalPrimitive, WorkflowContext, step, workflow
from plait.durable import Queue, RunCancelledError, RunConflictError, RunEndedError, TransactionStep

_SOON_SUSPENDED = {"suspend_after": 0.02}


async def send(runner, name, payload, signal_id):
    """Send a signal once, however often this is carried out."""
    with suppress(RunEndedError):
        await runner.signal("run", name, payload, signal_id=signal_id)


async def left_memory(run):
    """Wait until a run has left memory to wait, or has ended since."""
    while (await run.info()).status in {"queued", "running"}:  # noqa: ASYNC110
        await anyio.sleep(0.005)


@workflow
async def child(number):
    return await work(await work(number))


@workflow
async def parent(number):
    first = await work(number)
    started = [await world.runner.start(child, first + n) for n in range(2)]
    return await total([await run.result() for run in started])


scenario("child_awaited", parent, 1, child, at_once=2)


@workflow
async def launcher(number):
    run = await world.runner.start(child, await work(number))
    await work(number)
    return run.run_id


@driven(launcher, child, at_once=2)
async def child_detached(runner):
    run_id = await runner.run(launcher, 1, run_id="run")
    return [run_id, await (await runner.get(run_id)).result()]


@workflow
async def failing_child(number, context: WorkflowContext):
    await work(number)
    raise LookupError(number)


@workflow
async def parent_of_failure(number):
    run = await world.runner.start(failing_child, number)
    try:
        await run.result()
    except LookupError as error:
        return [await work(number), repr(error)]


scenario("child_failed", parent_of_failure, 1, failing_child)


@workflow
async def reads_two(number, context: WorkflowContext):
    number = await work(number)
    first = await context.wait_for("news", int)
    number = await work(number + first)
    second = await context.wait_for("news", int)
    return [first, second, await work(number + second)]


@driven(reads_two)
async def signals_early(runner):
    run = await runner.start(reads_two, 1, run_id="run")
    await send(runner, "news", 10, "first")
    await send(runner, "news", 20, "second")
    return await run.result()


awaits_one = (
    work >> SignalPrimitive("news", int, timeout=60, combine=lambda a, b: a + b) >> work
).named("awaits_one")


@driven(awaits_one, options=_SOON_SUSPENDED)
async def signal_late(runner):
    run = await runner.start(awaits_one, 1, run_id="run")
    await left_memory(run)
    await send(runner, "news", 10, "first")
    return await run.result()


gives_up = (work >> FallbackPrimitive(SignalPrimitive("news", int, timeout=0.05), [work])).named(
    "gives_up"
)


@driven(gives_up, options=_SOON_SUSPENDED)
async def signal_too_late(runner):
    return await runner.run(gives_up, 1, run_id="run")


@workflow
async def hasty(count: int, context: WorkflowContext):
    """Gives waits up in any moment, also in that in which the signal is taken."""
    got = []
    while len(got) < count:
        with suppress(TimeoutError):
            got.append(await asyncio.wait_for(context.wait_for("item", int), dallying()))
    return await total(got)


@driven(hasty)
async def signals_given_up(runner):
    run = await runner.start(hasty, 5, run_id="run")
    for number in range(5):
        await send(runner, "item", 10**number, str(number))
        await anyio.sleep(dallying())
    return await run.result()


@workflow
async def announces(number, context: WorkflowContext):
    await context.set_event("ready", await work(number))
    answer = await context.wait_for("answer", int)
    await context.set_event("ready", await work(answer))
    return answer


@driven(announces, options=_SOON_SUSPENDED)
async def events(runner):
    run = await runner.start(announces, 1, run_id="run")
    heard = await run.event("ready")
    await send(runner, "answer", 7, "answer")
    return [heard in {2, 8}, await run.result(), await run.event("ready")]


@dataclass
class Ledger:
    lines: list[int] = field(default_factory=list)


@workflow
async def books(number, context: WorkflowContext):
    async with context.entity(Ledger, "ada") as ledger:
        ledger.lines.append(await work(number))
        count = len(ledger.lines)
        await work(number)
    return count


@workflow
async def audit(_, context: WorkflowContext):
    async with context.entity(Ledger, "ada") as ledger:
        return list(ledger.lines)


@driven(books, audit, options=_SOON_SUSPENDED)
async def entities(runner):
    runs = [await runner.start(books, n, run_id=f"books {n}") for n in range(3)]
    counts = sorted([await run.result() for run in runs])
    return [counts, sorted(await runner.run(audit, None, run_id="audit"))]


@TransactionStep
def book(seat, database):
    database.execute("CREATE TABLE IF NOT EXISTS seats (seat INTEGER)")
    database.execute(f"INSERT INTO seats VALUES ({seat})")  # as any database takes it
    return seat


@TransactionStep
def booked(_, database):
    return [seat for (seat,) in database.execute("SELECT seat FROM seats ORDER BY seat")]


scenario("transactions", work >> book >> work >> (book | work) >> booked, 1, at_once=2)


@workflow
async def trip(number, context: WorkflowContext):
    hotel = await work(number)
    try:
        await context.set_event("booked", hotel)
        return await last()
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):
            await undo(await undo(hotel))
        raise


@driven(trip, may_vary=frozenset({"last"}))
async def cancel(runner):
    run = await runner.start(trip, 1, run_id="run")
    with suppress(RunEndedError):
        await run.event("booked")
    await run.cancel()
    with suppress(RunCancelledError):
        return await run.result()
    return [(await run.info()).status]


waits_forever = (work >> SignalPrimitive("never")).named("waits_forever")


@driven(waits_forever, options=_SOON_SUSPENDED)
async def cancel_what_waits(runner):
    run = await runner.start(waits_forever, 1, run_id="run")
    await left_memory(run)
    await run.cancel()
    with suppress(RunCancelledError):
        return await run.result()
    return [(await run.info()).status]


@step
async def mendable(number, context: WorkflowContext):
    world.effect(context)
    if not world.is_mended():
        raise ConnectionError("not yet")
    return number + 1


fails_at_first = (work >> (work.named("sibling") | mendable) >> total >> work).named(
    "fails_at_first"
)


@driven(fails_at_first, at_once=2, may_vary=frozenset({"mendable", "sibling"}), is_resumed=True)
async def resume(runner):
    run = await runner.start(fails_at_first, 1, run_id="run")
    with suppress(ConnectionError):
        return await run.result()
    world.mend()
    # A run that was killed between a failure and its end may have to be resumed once more.
    with suppress(ConnectionError):
        return await (await run.resume()).result()
    return await (await run.resume()).result()


three = (work >> work >> work).named("three")


@driven(three)
async def fork(runner):
    first = await runner.run(three, 1, run_id="run")
    try:
        forked = await runner.fork("run", before="three/2:work", new_run_id="forked")
    except RunConflictError:
        forked = await runner.get("forked")
    return [first, await forked.result()]


@driven(three, child, options={"listeners": {"news": [three, child]}}, at_once=2)
async def publish(runner):
    runs = await runner.publish("news", 1, event_id="only")
    return [await run.result() for run in runs]


@driven(three, options={"queues": [Queue("few", max_concurrent=2)]}, at_once=2)
async def queue(runner):
    runs = [
        await runner.start(three, n, run_id=f"run {n}", queue="few", priority=n) for n in range(4)
    ]
    return [await run.result() for run in runs]


@driven(three)
async def delayed(runner):
    return await runner.run(three, 1, run_id="run", delay=0.05)


@workflow
async def fails(number, context: WorkflowContext):
    await work(number)
    async with context.entity(Ledger, "bob") as ledger:
        ledger.lines.append(number)
        raise LookupError(await work(number))


@driven(fails)
async def failure(runner):
    run = await runner.start(fails, 1, run_id="run")
    with suppress(LookupError):
        return await run.result()
    return [(await run.info()).status]
