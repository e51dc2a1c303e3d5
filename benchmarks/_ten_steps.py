"""The run that durable runners are measured by: ten steps, some runs of them at once, in turns."""

from __future__ import annotations

import asyncio
import itertools

import _dbos
from _measure import Case

from plait import SequentialPrimitive, step
from plait.durable import DurableRunner

STEPS = 10
_prefixes = itertools.count()


@step
async def increment(number: int) -> int:
    return number + 1


ten_steps = SequentialPrimitive[int, int]([increment] * STEPS).named("ten steps")
hundred_steps = SequentialPrimitive[int, int]([increment] * 100).named("hundred steps")


def durable(
    runner: DurableRunner,
    runs: int,
    turns: int,
    workflow: SequentialPrimitive[int, int] = ten_steps,
) -> Case:
    async def run_all() -> None:
        for _ in range(turns):
            started = await asyncio.gather(*(runner.start(workflow, 0) for _ in range(runs)))
            for run in started:
                assert await run.result() == len(workflow.children)

    return run_all


def dbos(runs: int, turns: int) -> Case:
    async def run_all() -> None:
        # A name is of one run, however often the case is measured.
        await _dbos.run_all(runs, turns, f"{runs}-{next(_prefixes)}")

    return run_all
