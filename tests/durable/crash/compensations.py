"""Scenarios about what is undone, and in which order."""

from contextlib import suppress

import anyio
from scenarios import driven, last, undo, work, world

from plait import CompensationPrimitive, FallbackPrimitive, TimeoutPrimitive, WorkflowContext, step
from plait.durable import RunCancelledError


@step
async def breaks(number, context: WorkflowContext):
    world.effect(context)
    raise LookupError(f"broken at {number}")


def doing(name):
    return CompensationPrimitive(work.named(name), undo)


undone = (
    doing("a")
    >> FallbackPrimitive(doing("b") >> doing("c") >> breaks, [doing("d")])
    >> TimeoutPrimitive(doing("e") >> doing("f"), 60)
    >> breaks
).named("undone")


@driven(undone)
async def compensation(runner):
    run = await runner.start(undone, 0, run_id="run")
    with suppress(LookupError):
        return await run.result()
    return [(await run.info()).status, list(dict.fromkeys(world.done()))]


undone_when_cancelled = (doing("a") >> doing("b") >> last).named("undone_when_cancelled")


@driven(undone_when_cancelled, may_vary=frozenset({"last"}))
async def compensation_when_cancelled(runner):
    run = await runner.start(undone_when_cancelled, 0, run_id="run")
    while not any("last" in path for path in world.done()):  # noqa: ASYNC110
        await anyio.sleep(0.002)
    await run.cancel()
    with suppress(RunCancelledError):
        return await run.result()
    undone = [path for path in world.done() if path.endswith("compensation")]
    return [(await run.info()).status, list(dict.fromkeys(undone))]
