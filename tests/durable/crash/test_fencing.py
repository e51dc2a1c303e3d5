"""A process that was stopped for longer than its lease, and one that is only busy."""

import signal
import subprocess
import sys
import time

import anyio
import pytest

from plait import step
from plait.durable import DurableRunner, SqliteJournal

PROGRAM = """
import sys, time, anyio, logging
from pathlib import Path
from plait import step
from plait.durable import DurableRunner, SqliteJournal

FOLDER, HOLDS = Path(sys.argv[1]), sys.argv[2]
logging.basicConfig(level=logging.WARNING)

@step
async def work(number):
    print("working", flush=True)
    if HOLDS == "loop":
        time.sleep(4)
        return number
    while number == 1:
        with open(FOLDER / "ticks", "a") as ticks:
            ticks.write("tick\\n")
        await anyio.sleep(0.01)
    return number

flow = work.named("flow")

async def main():
    journal = SqliteJournal(FOLDER / "runs.db", lease_seconds=float(sys.argv[4]))
    async with DurableRunner(journal, workflows=[flow]) as runner:
        run = await runner.start(flow, 1, run_id="run")
        print("ended", await run.result(), flush=True)
        print("second", await runner.run(flow, 2), flush=True)

anyio.run(main, backend=sys.argv[3])
"""


@step
async def work(number: int) -> str:
    return "done elsewhere"


flow = work.named("flow")


def program(folder, holds, backend, lease):
    command = [sys.executable, "-c", PROGRAM, str(folder), holds, backend, str(lease)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


async def taken_over(file):
    """What the run comes to in a runner of this process."""
    async with DurableRunner(SqliteJournal(file), workflows=[flow]) as runner:
        with anyio.fail_after(20):
            return await (await runner.get("run")).result()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_process_that_was_stopped_ends_what_it_executes_and_goes_on_anew(tmp_path, backend):
    ticks = tmp_path / "ticks"
    with program(tmp_path, "nothing", backend, 0.6) as process:
        try:
            assert process.stdout.readline() == "working\n"
            process.send_signal(signal.SIGSTOP)
            found = anyio.run(taken_over, tmp_path / "runs.db", backend=backend)
            assert found == "done elsewhere"
            process.send_signal(signal.SIGCONT)
            assert process.stdout.readline() == "ended done elsewhere\n"
            ticked = ticks.read_text()
            assert process.stdout.readline() == "working\n"
            assert process.communicate(timeout=30)[0] == "second 2\n"
        finally:
            process.kill()
    assert ticks.read_text() == ticked


def test_a_loop_that_is_blocked_does_not_keep_the_lease_from_being_renewed(tmp_path):
    with program(tmp_path, "loop", "asyncio", 1.5) as process:
        try:
            assert process.stdout.readline() == "working\n"
            began = time.monotonic()
            assert anyio.run(taken_over, tmp_path / "runs.db") == 1
            assert time.monotonic() - began > 2
            assert process.communicate(timeout=30)[0].startswith("ended 1\n")
        finally:
            process.kill()
