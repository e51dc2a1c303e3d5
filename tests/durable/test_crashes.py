"""A process that is killed, at any moment, loses no finished step and repeats none."""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("crashing.py")
RESULT = "((696, 696), {'prepared': {'count': 20, 'done': True}})"
NODES = 20 * 2 + 14


class Process:
    """The program over one journal, as often as it takes."""

    def __init__(self, folder, backend):
        self.journal = folder / "runs.db"
        self.effects = folder / "effects"
        self._command = [sys.executable, PROGRAM, self.journal, self.effects, backend]
        self.finished = set()
        self.seen = 0

    def executed(self):
        """The paths at which steps were executed, in order."""
        return self.effects.read_text().splitlines() if self.effects.exists() else []

    def recorded(self):
        """The paths that are in the journal."""
        if not self.journal.exists():
            return set()
        connection = sqlite3.connect(self.journal)
        try:
            rows = connection.execute("SELECT path FROM records").fetchall()
        except sqlite3.OperationalError:
            rows = []  # killed before there were tables
        connection.close()
        return {path for (path,) in rows}

    def start(self):
        self.finished, self.seen = self.recorded(), len(self.executed())
        return subprocess.Popen(self._command, stdout=subprocess.PIPE)

    def run(self, *kill):
        self.finished, self.seen = self.recorded(), len(self.executed())
        return subprocess.run(
            [*self._command, *kill], stdout=subprocess.PIPE, timeout=30, check=False
        )

    def check(self):
        """Nothing that was finished has been executed again."""
        assert self.finished.isdisjoint(self.executed()[self.seen :])

    def complete(self):
        """Run it to its end, which must be the same as ever."""
        ended = self.run()
        assert (ended.returncode, ended.stdout.decode()) == (0, RESULT)
        self.check()
        assert len(set(self.executed())) == NODES


@pytest.fixture(params=["asyncio", "trio"])
def process(tmp_path, request):
    return Process(tmp_path, request.param)


def test_a_process_that_is_not_killed_executes_each_step_once(process):
    process.complete()
    assert len(process.executed()) == NODES


MOMENTS = [
    "-workflow/1:prepare",
    "+workflow/1:prepare",
    "-workflow/2:sequential[7]/2:work",
    "+workflow/2:sequential[19]/1:work",
    "+workflow/4:parallel/1:blocking",
    "+workflow/6:flaky/attempt 2",
    "+workflow/7:broken/primary",
    "+workflow/7:broken/fallback 1",
    "-workflow/8:conditional/then/2:work",
    "+workflow/10:finish",
]


def test_a_process_may_be_killed_again_and_again(process):
    for moment in MOMENTS:
        killed = process.run(moment)
        assert killed.returncode == -signal.SIGKILL
        assert (moment[1:] in process.executed()) == (moment[0] == "+")
        process.check()
    process.complete()


@pytest.mark.parametrize("seed", range(2))
def test_a_process_may_be_killed_from_outside_at_any_moment(process, seed):
    moments = random.Random(seed)
    for _ in range(3):
        with process.start() as running:
            until = len(process.executed()) + moments.randrange(12)
            while len(process.executed()) < until and running.poll() is None:
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.02))
            running.kill()
        process.check()
    process.complete()


def test_two_processes_do_not_execute_one_run_both(process):
    with process.start() as first, process.start() as second:
        results = [running.communicate(timeout=30)[0].decode() for running in (first, second)]
    assert results == [RESULT, RESULT]
    assert len(process.executed()) == NODES


MAPPING = """
import os, signal, sys, anyio
from plait import MapPrimitive, step
from plait.durable import DurableRunner

@step
async def names(_):
    return {"ada", "bob", "eve", "joe", "sue"}

@step
async def wait(greetings):
    if len(sys.argv) > 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return sorted(greetings)

workflow = (names >> MapPrimitive(str.title) >> wait).named("workflow")

async def main():
    async with DurableRunner(sys.argv[1]) as runner:
        print(await runner.run(workflow, None, run_id="run"))

anyio.run(main)
"""


def test_a_set_may_be_mapped_over_although_each_process_has_an_order_of_its_own(journal):
    command = [sys.executable, "-c", MAPPING, journal]
    first = subprocess.run([*command, "kill"], env={"PYTHONHASHSEED": "1"}, check=False)
    second = subprocess.run(command, env={"PYTHONHASHSEED": "2"}, check=False, capture_output=True)
    assert first.returncode == -signal.SIGKILL
    assert second.stdout == b"['Ada', 'Bob', 'Eve', 'Joe', 'Sue']\n"
