"""What the steps of runs do, written down where it outlives the process that did it."""

import os
import signal
from pathlib import Path

import anyio

from plait import WorkflowContext

FILE = "PLAIT_TEST_EFFECTS"


def effect(context: WorkflowContext, stage: int) -> None:
    """Write down that a step of a run began; of a run that is to die at it, kill the process.

    Steps of one stage may begin in any order, those of a later one only when all of it have ended.
    """
    line = f"{context.run_id} {stage} {context.path}\n"
    file = os.open(os.environ[FILE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)
    if effects_of(context.run_id).count_all() == context.data.get("die_at"):
        os.kill(os.getpid(), signal.SIGKILL)


class Effects:
    """What the steps of one run did."""

    def __init__(self, lines: list[tuple[int, str]]):
        self.lines = lines

    def count_all(self) -> int:
        return len(self.lines)

    @property
    def paths(self) -> list[str]:
        return [path for _, path in self.lines]

    def check_nothing_finished_ran_again(self) -> None:
        reached = 0
        for stage, path in self.lines:
            assert stage >= reached, (
                f"{path} ran again after stage {reached} had begun: {self.lines}"
            )
            reached = stage

    def check_each_ran_once(self) -> None:
        assert len(set(self.lines)) == len(self.lines), self.lines


def effects_of(run_id: str) -> Effects:
    file = Path(os.environ[FILE])
    lines = file.read_text().splitlines() if file.exists() else []
    found = (line.split(" ", 2) for line in lines)
    return Effects([(int(stage), path) for run, stage, path in found if run == run_id])


async def until_begun(run, count):
    """Wait until steps of a run have begun."""
    for _ in range(2000):
        if effects_of(run.run_id).count_all() >= count:
            return
        await anyio.sleep(0.01)
    msg = f"{run} has not come so far"
    raise TimeoutError(msg)
