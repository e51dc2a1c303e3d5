"""What the crash tests carry out: the scenarios, each about one feature of the durable runner."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from plait import WorkflowContext, WorkflowPrimitive, step


class World:
    """What the steps of this process are in.

    Attributes:
        runner: The runner that executes them.
        generation: Which version of the program this is: 0 at first, 1 where it was started anew.
    """

    def begin(self, moments, runner, folder, generation):
        self.runner = runner
        self.generation = generation
        self.effect = moments.effect
        self._folder = folder

    def done(self):
        """Where something was done to the world, in order, over all processes of a scenario."""
        file = self._folder / "effects"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line.rpartition("\t")[2] for line in lines]

    def is_mended(self):
        """Whether what was broken has been mended: the same for all processes of a scenario."""
        return (self._folder / "mended").exists()

    def mend(self):
        (self._folder / "mended").touch()


world = World()


@dataclass
class Scenario:
    """One feature, in something that can be killed and carried out again from its start.

    Attributes:
        workflows: What the runner is given.
        drive: Does it all, and returns what must be the same however often it was killed.
        options: For the runner.
        at_once: How many steps are under way at the most, and so may be executed again for each
            time that the process is killed.
        may_vary: The steps of which some may be executed or not, depending on the time.
        is_resumed: Whether it has failures done again.
        has_blobs: Whether large payloads go to a folder.
    """

    workflows: Sequence[WorkflowPrimitive[Any, Any]]
    drive: Callable[[Any], Any]
    options: dict[str, Any] = field(default_factory=dict)
    at_once: int = 1
    may_vary: frozenset[str] = frozenset()
    is_resumed: bool = False
    has_blobs: bool = False


SCENARIOS: dict[str, Scenario] = {}


def scenario(name, workflow, given, *others, **options):
    """Add one that runs a workflow; the others are those that it starts."""
    workflow = workflow.named(name)

    async def drive(runner):
        return await runner.run(workflow, given, run_id="run")

    SCENARIOS[name] = Scenario([workflow, *others], drive, **options)


def driven(*workflows, **options):
    """Add one that is driven by the function below."""

    def add(drive):
        name = drive.__name__
        SCENARIOS[name] = Scenario(workflows, drive, **options)
        return drive

    return add


@step
async def work(number, context: WorkflowContext):
    """What most steps are here: something done to the world, some time, and a result."""
    world.effect(context)
    await anyio.sleep(0.001)
    return number + 1


@step(thread=True)
def block(number, context: WorkflowContext):
    world.effect(context)
    return number + 1


@step
async def spread(count, context: WorkflowContext):
    world.effect(context)
    return list(range(count))


@step
async def last(context: WorkflowContext):
    world.effect(context)
    await anyio.sleep_forever()


@step
async def undo(number, context: WorkflowContext):
    world.effect(context)
    await anyio.sleep(0.001)
    return -number


@step
async def total(numbers, context: WorkflowContext):
    world.effect(context)
    return sum(numbers)


def dallying():
    """A short time, in seconds, that is another one whenever the program is executed."""
    return os.urandom(1)[0] / 100_000


def dallied(call):
    """A call made after such a time."""

    async def made():
        await anyio.sleep(dallying())
        return await call

    return made()


import compensations  # noqa: E402, F401 - they add themselves
import compositions  # noqa: E402, F401
import lifecycles  # noqa: E402, F401
