"""What processes do to each other on one journal, and what differs from one to another."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from forks import Forks
from test_matrix import Case, key


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_two_processes_do_not_execute_one_run_both(tmp_path, backend):
    with Forks() as first, Forks() as second, ThreadPoolExecutor() as threads:
        folder = tmp_path / "shared"
        cases = [Case("map", backend, folder, forks) for forks in (first, second)]
        assert list(threads.map(Case.begin, cases)) == [True, True]
    effects = [key(effect) for effect in cases[0].effects()]
    assert len(set(effects)) == len(effects) == 1 + 2 * 5 + 1
    assert cases[0].outcome() == "20"


def _stop(process, file):
    """Stop a process, but not while it holds the lock that all others would wait for."""
    while True:
        os.kill(process, signal.SIGSTOP)
        with contextlib.closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                os.kill(process, signal.SIGCONT)
                time.sleep(0.01)
            else:
                return


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_process_that_was_stopped_begins_no_step_that_another_has_executed(tmp_path, backend):
    arguments = {"name": "nap", "folder": tmp_path, "backend": backend, "lease_seconds": 0.3}
    effects = tmp_path / "effects"
    with Forks() as first, Forks() as second:
        stopped = first.start("process:carry_out", **arguments)
        while not effects.exists() or len(effects.read_text().splitlines()) < 1:
            time.sleep(0.01)
        time.sleep(0.1)  # it has gone to sleep between its steps
        _stop(stopped, tmp_path / "runs.db")
        try:
            assert second.run("process:carry_out", **arguments) == 0
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert first.wait() == 0  # it waits for what the other has made of the run
    paths = [line.rpartition("\t")[2] for line in effects.read_text().splitlines()]
    assert paths == ["nap/1:work", "nap/3:work"]


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
