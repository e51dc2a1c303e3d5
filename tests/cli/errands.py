"""What the tests of the command run."""

from dataclasses import dataclass
from datetime import timedelta

import anyio

from plait import (
    RetryPrimitive,
    SignalPrimitive,
    WorkflowContext,
    step,
    workflow,
)
from plait.durable import DurableRunner, MemoryJournal, Schedule
from plait.recovery import constant
from plait.server import app

is_down = [False]


@dataclass
class Errand:
    what: str
    count: int = 1


@step
async def fetch(errand: Errand) -> list[str]:
    return [errand.what] * errand.count


@step
async def join(parts: list[str]) -> str:
    return " ".join(parts)


@step
async def bring(what: str) -> str:
    if is_down[0]:
        raise ConnectionError("the road is closed")
    return f"brought {what}"


@step
async def fail(_: object) -> str:
    raise ValueError("no such thing")


@step(name="a name that is as long as \x1b[31mnobody\x1b[0m would ever want it to be, 名前")
async def _shout(_: object) -> str:
    raise ValueError("\x1b[31mso much\n" * 20)


loud = (_shout >> str).named("loud")


@workflow
async def walk(steps: int, context: WorkflowContext) -> int:
    for number in range(steps):
        context.progress(number, steps, f"step {number}")
        await context.step("one", abs, -1)
    return steps


@step
async def dawdle(seconds: float) -> str:
    await anyio.sleep(seconds)
    return "at last"


@workflow
async def ask(question: str, context: WorkflowContext) -> str:
    answer = await context.wait_for("answered", str)
    return f"{question} {answer}"


@step(needs="gpu")
async def draw(what: str) -> str:
    return f"drew {what}"


errand = (fetch >> join >> bring).named("errand")
stubborn = RetryPrimitive(fail, 1, backoff=constant(0.01)).named("stubborn")
review = (bring >> SignalPrimitive("seen", bool)).named("review")
hourly = Schedule(bring, timedelta(hours=1), "milk", name="hourly")
runner = DurableRunner(MemoryJournal(), workflows=[errand], schedules=[hourly])
served = app(runner)
number = 3
