"""Runs that wait, and runners that let go of them soon."""

import inspect
from contextlib import asynccontextmanager, suppress

import anyio

from plait.durable import DurableRunner, RunNotFoundError

SOON = 0.02
"""How long a run that does nothing but wait stays in memory here, in seconds."""


@asynccontextmanager
async def runner_of(journal, *workflows, **options):
    """A runner that lets go of waiting runs soon, and does not wait when it is left."""
    given = {"suspend_after": SOON, "grace_seconds": 0, **options}
    with anyio.fail_after(100):
        async with DurableRunner(journal, workflows=workflows, **given) as runner:
            yield runner


async def until(condition, seconds=20):
    """Wait until something is so; `condition` may be async."""
    with anyio.fail_after(seconds):
        while True:
            found = condition()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return
            await anyio.sleep(0.005)


async def until_status(runner, run_id, *statuses):
    """Wait until a run has one of these statuses; what is known of it then."""

    async def has_it():
        with suppress(RunNotFoundError):
            return (await runner.info(run_id)).status in statuses
        return False

    await until(has_it)
    return await runner.info(run_id)


async def until_waiting(runner, *run_ids):
    """Wait until runs have left memory; what is known of the last one."""
    for run_id in run_ids:
        info = await until_status(runner, run_id, "waiting")
    return info
