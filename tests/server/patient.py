"""Serves with little patience: run by the tests that talk to it over bare sockets."""

import shop

from plait import WorkflowContext, workflow
from plait.durable import DurableRunner, MemoryJournal
from plait.server import Limits, app, serve


@workflow
async def chatter(size: int, context: WorkflowContext) -> str:
    """Say more than a connection holds, and wait."""
    for number in range(20):
        context.progress(number, 20, "x" * size)
        await context.step("say", str, "x" * size)
    return await context.wait_for("never", str)


runner = DurableRunner(MemoryJournal(), workflows=[shop.double, chatter])
limits = Limits(header_seconds=1, unread_seconds=0.5, streams=1)
serve(app(runner, limits=limits), port=0, announce=print)
