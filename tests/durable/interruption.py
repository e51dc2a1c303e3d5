"""Runs that are interrupted at a chosen place, without a process that dies."""

import anyio
import pytest

from plait.durable import DurableRunner


class Gate:
    """A step that does not end until it is opened: the place where a run is interrupted."""

    def __init__(self):
        self.reached = anyio.Event()
        self._opened = anyio.Event()
        self.passed = 0

    def open(self):
        self._opened.set()

    async def __call__(self, value):
        self.reached.set()
        await self._opened.wait()
        self.passed += 1
        return value


async def interrupt(journal, workflow, input_data, *gates, **options):
    """Start the run "run", suspend it once it has come to the gates, and open them."""
    async with DurableRunner(journal, workflows=[workflow], grace_seconds=0) as runner:
        run = await runner.start(workflow, input_data, run_id="run", **options)
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run.result)  # raises where the run never comes to the gates
                for gate in gates:
                    await gate.reached.wait()
                tasks.cancel_scope.cancel()
    for gate in gates:
        gate.open()


async def carry_on(journal, workflow):
    """What the run "run" returns when another runner carries it on."""
    async with DurableRunner(journal, workflows=[workflow]) as runner:
        run = await runner.get("run")
        with anyio.fail_after(10):
            return await run.result()


async def fail(journal, workflow, input_data):
    """What the run "run" fails with."""
    async with DurableRunner(journal, workflows=[workflow]) as runner:
        run = await runner.start(workflow, input_data, run_id="run")
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the caller looks at it
            await run.result()
    return caught.value


async def resume(journal, workflow):
    """What the failed run "run" returns when another runner resumes it."""
    async with DurableRunner(journal, workflows=[workflow]) as runner:
        run = await runner.resume("run")
        with anyio.fail_after(10):
            return await run.result()
