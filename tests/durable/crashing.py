"""A program that runs one durable workflow, and may kill itself on the way.

    python crashing.py JOURNAL EFFECTS BACKEND [KILL]

Each step appends the path that it was executed at to the file EFFECTS. KILL is a path with a sign
before it: the process gets SIGKILL just before ("-") or just after ("+") the step there has done
so. What the workflow returns is printed.
"""

import os
import signal
import sys

import anyio

from plait import (
    ConditionalPrimitive,
    FallbackPrimitive,
    MapPrimitive,
    ReducePrimitive,
    RetryPrimitive,
    TimeoutPrimitive,
    WorkflowContext,
    step,
)
from plait.durable import DurableRunner
from plait.recovery import constant


def kill_at(moment):
    if sys.argv[4:] == [moment]:
        os.kill(os.getpid(), signal.SIGKILL)


def effect(context):
    """What a step does to the world."""
    kill_at(f"-{context.path}")
    file = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{context.path}\n".encode())
    os.close(file)
    kill_at(f"+{context.path}")


@step
async def prepare(count, context: WorkflowContext):
    effect(context)
    context.data["prepared"] = {"count": count}
    return list(range(count))


@step
async def work(number, context: WorkflowContext):
    effect(context)
    await anyio.sleep(0.002)
    return number + 1


@step
async def flaky(number, context: WorkflowContext):
    effect(context)
    if context.attempt < 3:
        raise ConnectionError(f"attempt {context.attempt}")
    return number


@step
async def broken(_, context: WorkflowContext):
    effect(context)
    raise LookupError("always")


@step(thread=True)
def blocking(number, context: WorkflowContext):
    effect(context)
    return number * 2


@step
async def finish(pair, context: WorkflowContext):
    effect(context)
    context.data["prepared"]["done"] = True
    return pair, context.data


workflow = (
    prepare
    >> MapPrimitive(work >> work, max_concurrency=4)
    >> ReducePrimitive(lambda total, number: total + number, 0)
    >> (blocking | TimeoutPrimitive(work >> work, 60))
    >> sum
    >> RetryPrimitive(flaky, backoff=constant(0.001))
    >> FallbackPrimitive(broken, [work])
    >> ConditionalPrimitive(lambda number: number > 0, work >> work)
    >> (work | work)
    >> finish
).named("workflow")


async def main():
    async with DurableRunner(f"sqlite:///{sys.argv[1]}", workflows=[workflow]) as runner:
        return await runner.run(workflow, 20, run_id="run")


if __name__ == "__main__":
    sys.stdout.write(repr(anyio.run(main, backend=sys.argv[3])))
