"""Steps that need what not every runner has: their run goes to one that does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from plait.durable._stored import Wait
from plait.durable._topics import needs_topic

if TYPE_CHECKING:
    from collections.abc import Collection

    from plait.durable._waits import Waits
    from plait.primitives import WorkflowContext


async def wait_for_another_runner(
    needs: Collection[str], runtime: Waits, context: WorkflowContext
) -> None:
    """Wait until the run is let go of, for a runner that has what a step needs."""
    # What is around the step, a limit say, and stays in memory otherwise, has nothing to lose yet.
    held = _held_around(context)
    for _ in range(held):
        runtime._end_work()
    try:
        with runtime._waiting(Wait(context.path, needs_topic(needs), None)):
            await anyio.sleep_forever()
    finally:
        for _ in range(held):
            runtime._begin_work()


def _held_around(context: WorkflowContext) -> int:
    """How many of the nodes around one keep a run in memory."""
    count, frame = 0, context._parent
    while frame is not None:
        primitive = frame._primitive
        if frame._cursor is None and primitive is not None and primitive._stays_in_memory:
            count += 1
        frame = frame._parent
    return count
