"""What composing costs: a chain of ten steps beside a plain await of the same ten.

python benchmarks/overhead.py
"""

from __future__ import annotations

import asyncio

from _measure import Case, medians, row

from plait import SequentialPrimitive, WorkflowContext, WorkflowPrimitive, step

STEPS = 10
CHAINS = 2_000
ROUNDS = 40


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


def function_steps() -> Case:
    functions = [increment] * STEPS

    async def chains() -> None:
        for _ in range(CHAINS):
            number = 0
            for function in functions:
                number = await function(number)

    return chains


def method_steps() -> Case:
    steps = [PlainIncrement() for _ in range(STEPS)]

    async def chains() -> None:
        context = WorkflowContext()
        for _ in range(CHAINS):
            number = 0
            for one in steps:
                number = await one.execute(number, context)

    return chains


def workflow(chain: SequentialPrimitive[int, int]) -> Case:
    async def chains() -> None:
        context = WorkflowContext()
        for _ in range(CHAINS):
            await chain.execute(0, context)

    return chains


async def main() -> None:
    of_classes = SequentialPrimitive[int, int]([Increment() for _ in range(STEPS)])
    of_functions = SequentialPrimitive[int, int]([step(increment) for _ in range(STEPS)])
    cases = {
        "plain await of ten functions": function_steps(),
        "plain await of ten methods": method_steps(),
        "plait, ten class steps": workflow(of_classes),
        "plait, ten function steps": workflow(of_functions),
    }
    seconds = await medians(cases, rounds=ROUNDS)
    plain = seconds["plain await of ten functions"]
    print(f"nanoseconds a step, median of {ROUNDS} interleaved rounds of {CHAINS} chains")
    for name, spent in seconds.items():
        row(name, f"{spent / CHAINS / STEPS * 1e9:.0f} ns", spent / plain, "plain functions")


if __name__ == "__main__":
    asyncio.run(main())
