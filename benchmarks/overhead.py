"""What composing costs, beside a plain await, `asyncio.TaskGroup`, LCEL and pydantic-graph.

    uv run --group bench benchmarks/overhead.py

Each table is one run: the cases take turns, and the figures are medians over their turns.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

from _measure import Case, medians, row
from _peers import graph_chain, lcel_chain, lcel_fan_out

from plait import (
    MapPrimitive,
    ParallelPrimitive,
    ReducePrimitive,
    SequentialPrimitive,
    WorkflowContext,
    WorkflowPrimitive,
    step,
)

Run = Callable[[int], Awaitable[Any]]


class Increment(WorkflowPrimitive[int, int]):
    """A step that is a class."""

    async def execute(self, input_data: int, context: WorkflowContext) -> int:
        return input_data + 1


class PlainIncrement:
    """The same without plait."""

    async def execute(self, input_data: int, context: WorkflowContext) -> int:
        return input_data + 1


async def increment(number: int) -> int:
    return number + 1


async def suspend(number: int) -> int:
    await asyncio.sleep(0)
    return number + 1


def plain_functions(steps: int) -> Run:
    functions = [increment] * steps

    async def run(number: int) -> int:
        for function in functions:
            number = await function(number)
        return number

    return run


def plain_methods(steps: int) -> Run:
    objects = [PlainIncrement() for _ in range(steps)]
    context = WorkflowContext()

    async def run(number: int) -> int:
        for one in objects:
            number = await one.execute(number, context)
        return number

    return run


def task_group(branches: int) -> Run:
    async def run(number: int) -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(suspend(number)) for _ in range(branches)]
        return [task.result() for task in tasks]

    return run


def in_plait(primitive: WorkflowPrimitive[int, Any]) -> Run:
    context = WorkflowContext()

    def run(number: int) -> Awaitable[Any]:
        return primitive.execute(number, context)

    return run


def repeated(run: Run, times: int) -> Case:
    async def case() -> None:
        for _ in range(times):
            await run(0)

    return case


def at_once(run: Run, times: int) -> Case:
    async def case() -> None:
        await asyncio.gather(*(run(0) for _ in range(times)))

    return case


def of_classes(steps: int) -> WorkflowPrimitive[int, int]:
    return SequentialPrimitive[int, int]([Increment() for _ in range(steps)])


def of_functions(steps: int) -> WorkflowPrimitive[int, int]:
    return SequentialPrimitive[int, int]([step(increment) for _ in range(steps)])


async def table(
    title: str, base: str, unit: int, runs: dict[str, tuple[Case, int]], rounds: int
) -> None:
    """Measure cases that do a different number of units, and print seconds a unit."""
    seconds = await medians({name: case for name, (case, _) in runs.items()}, rounds=rounds)
    each = {name: seconds[name] / count / unit for name, (_, count) in runs.items()}
    print(f"\n{title}, median of {rounds} interleaved rounds")
    for name, spent in each.items():
        row(name, f"{spent * 1e9:,.0f} ns", spent / each[base], base)
    if base.startswith("plain") and "LCEL" in each:
        plait = max(spent for name, spent in each.items() if name.startswith("plait"))
        ratio = (each["LCEL"] - each[base]) / (plait - each[base])
        print(f"LCEL adds {ratio:,.0f} times what plait adds to a plain await")


async def chains() -> None:
    for steps, times in ((10, 1_000), (100, 100)):
        await table(
            f"a step of a chain of {steps}",
            "plain functions",
            steps,
            {
                "plain functions": (repeated(plain_functions(steps), times), times),
                "plain methods": (repeated(plain_methods(steps), times), times),
                "plait, class steps": (repeated(in_plait(of_classes(steps)), times), times),
                "plait, function steps": (repeated(in_plait(of_functions(steps)), times), times),
                "pydantic-graph": (repeated(graph_chain(increment, steps), 2), 2),
                "LCEL": (repeated(lcel_chain(increment, steps), 2), 2),
            },
            rounds=25,
        )
    await table(
        "a step of 1,000 chains of 10 at once",
        "plain functions",
        10,
        {
            "plain functions": (at_once(plain_functions(10), 1_000), 1_000),
            "plait, class steps": (at_once(in_plait(of_classes(10)), 1_000), 1_000),
            "LCEL": (at_once(lcel_chain(increment, 10), 20), 20),
        },
        rounds=15,
    )


async def fan_outs() -> None:
    for branches, times in ((10, 200), (1_000, 3)):
        parallel = ParallelPrimitive[int, Any]([step(suspend)] * branches)
        await table(
            f"a branch of a fan-out of {branches:,}",
            "TaskGroup",
            branches,
            {
                "TaskGroup": (repeated(task_group(branches), times), times),
                "plait, parallel": (repeated(in_plait(parallel), times), times),
                "LCEL": (repeated(lcel_fan_out(suspend, branches), 1), 1),
            },
            rounds=25,
        )


async def memory(workflows: int = 10_000) -> None:
    gate = asyncio.Event()

    async def wait(number: int) -> int:
        await gate.wait()
        return number

    async def plain(number: int) -> int:
        return await wait(await increment(number))

    print(f"\nbytes a workflow, {workflows:,} asleep in their second step")
    kinds: dict[str, Run] = {"plain coroutines": plain, "plait": step(increment) >> step(wait)}
    held: dict[str, float] = {}
    for name, run in kinds.items():
        gate.clear()
        tracemalloc.start()
        tasks = [asyncio.ensure_future(run(0)) for _ in range(workflows)]
        await asyncio.sleep(0.05)
        held[name] = tracemalloc.get_traced_memory()[0] / workflows
        tracemalloc.stop()
        gate.set()
        await asyncio.gather(*tasks)
        row(name, f"{held[name]:,.0f} B", held[name] / held["plain coroutines"], "plain")


async def stream(elements: int = 1_000_000) -> None:
    async def numbers() -> Any:
        for number in range(elements):
            yield number

    def add(total: int, number: int) -> int:
        return total + number

    fold = MapPrimitive(step(increment), max_concurrency=100) >> ReducePrimitive(add, 0)
    tracemalloc.start()
    assert await fold(numbers()) == elements * (elements + 1) // 2
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"\na map of {elements:,} streamed elements into a reduce: peak {peak / 1e6:.2f} MB")


async def imports() -> None:
    def loading(module: str) -> Case:
        async def case() -> None:
            subprocess.run([sys.executable, "-c", f"import {module}"], check=True)  # noqa: ASYNC221

        return case

    names = {"import langchain_core.runnables": "langchain_core.runnables", "import plait": "plait"}
    cases = {name: loading(module) for name, module in names.items()}
    seconds = await medians(cases, rounds=5)
    print("\nseconds of a process that imports, median of 5 interleaved rounds")
    for name, spent in seconds.items():
        row(name, f"{spent:.2f} s", spent / next(iter(seconds.values())), "langchain_core")


async def main() -> None:
    await chains()
    await fan_outs()
    await memory()
    await stream()
    await imports()


if __name__ == "__main__":
    asyncio.run(main())
