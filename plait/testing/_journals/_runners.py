"""Runners over a journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from plait.durable import DurableRunner
from plait.primitives import WorkflowContext, step
from plait.testing._journals._suite import Suite, on_event_loops

if TYPE_CHECKING:
    from plait.testing._journals._suite import MakeJournal


@on_event_loops
class Runners(Suite):
    """What runners make of a journal."""

    async def test_a_runner_goes_on_over_it(self, reopen: MakeJournal) -> None:
        executed: list[str] = []
        reached, gate = anyio.Event(), anyio.Event()

        async def work(number: int, context: WorkflowContext) -> int:
            executed.append(context.path)
            context.data[context.path] = [number]
            return number + 1

        async def wait(number: int) -> int:
            reached.set()
            await gate.wait()
            return number

        workflow = (step(work) >> work >> wait >> work).named("flow")
        async with DurableRunner(reopen(), grace_seconds=0) as runner:
            await runner.start(workflow, 0, run_id="run")
            with anyio.fail_after(10):
                await reached.wait()
        gate.set()
        async with DurableRunner(reopen(), workflows=[workflow]) as runner:
            run = await runner.get("run")
            assert await run.result() == 3
            assert (await run.info()).status == "completed"
        assert executed == ["flow/1:work", "flow/2:work", "flow/4:work"]
