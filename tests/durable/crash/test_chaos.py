"""Runner processes on one journal that are killed and stopped at random until all runs have ended.

PLAIT_CHAOS_SECONDS says over how long the runs are spread.
"""

import os
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress

import chaos
import pytest
from forks import Forks

RUNS = 500
PROCESSES = 3
SECONDS = float(os.environ.get("PLAIT_CHAOS_SECONDS", "12"))


class Runner:
    """A process that takes part, and is started again whenever it has died."""

    def __init__(self, share, folder, forks):
        self.pid = 0
        self.codes = Counter()
        self._backend = ("asyncio", "trio")[share % 2]
        self._arguments = {"share": share, "shares": PROCESSES, "count": RUNS, "folder": folder}
        self._forks = forks
        self._thread = threading.Thread(target=self._keep_going, daemon=True)
        self._thread.start()

    @property
    def has_ended(self):
        return not self._thread.is_alive()

    def _keep_going(self):
        begun = time.monotonic()
        while self.codes.keys() <= {-signal.SIGKILL, chaos.FENCED}:
            seconds = max(0.0, begun + SECONDS - time.monotonic())
            self.pid = self._forks.start(
                "chaos:carry_out", **self._arguments, seconds=seconds, backend=self._backend
            )
            self.codes[self._forks.wait()] += 1
            self.pid = 0

    def send(self, number):
        with suppress(ProcessLookupError):
            if self.pid:
                os.kill(self.pid, number)


def disturb(runners, moments):
    """Kill one, or stop it until its lease is over, and let it go on; whether it was stopped."""
    time.sleep(moments.uniform(0, 0.6))
    chosen = moments.choice(runners)
    if moments.random() < 0.8:
        chosen.send(signal.SIGKILL)
        return False
    chosen.send(signal.SIGSTOP)
    time.sleep(chaos.LEASE_SECONDS * moments.uniform(1, 1.5))
    chosen.send(signal.SIGCONT)
    return True


@pytest.mark.timeout(60 + 4 * SECONDS)
def test_runs_end_as_ever_whichever_of_their_runners_die(tmp_path):
    moments, stops = random.Random(1), 0
    with ExitStack() as stack:
        forks = [stack.enter_context(Forks()) for _ in range(PROCESSES)]
        assert forks[0].run("chaos:prepare", folder=tmp_path) == 0
        runners = [Runner(share, tmp_path, fork) for share, fork in enumerate(forks)]
        give_up = time.monotonic() + 30 + 3 * SECONDS
        while not all(runner.has_ended for runner in runners):
            assert time.monotonic() < give_up, unended(tmp_path)
            if time.monotonic() < give_up - 30 - SECONDS:
                stops += disturb(runners, moments)
            else:
                time.sleep(0.1)
    codes = sum((runner.codes for runner in runners), Counter())
    assert codes.keys() <= {0, -signal.SIGKILL, chaos.FENCED}, codes
    check(tmp_path, stops)


def read(folder, statement):
    connection = sqlite3.connect(folder / "runs.db")
    found = connection.execute(statement).fetchall()
    connection.close()
    return found


def unended(folder):
    return read(
        folder,
        "SELECT run_id, status, runner, wakes FROM runs"
        " WHERE status NOT IN ('completed', 'failed', 'cancelled')",
    )


def check(folder, stops):
    assert read(folder, "SELECT status, count(*) FROM runs GROUP BY status") == [
        ("completed", RUNS)
    ]
    effects = [line.split("\t") for line in (folder / "effects").read_text().splitlines()]
    # A process may be stopped where it was sure of its lease and has not yet begun with the step.
    done_again = [(key, path) for key, path, recorded in effects if int(recorded)]
    assert len(done_again) <= stops
    steps = Counter(key.partition(":")[0] for key in {key for key, _, _ in effects})
    for number in range(RUNS):
        assert steps[f"run {number}"] == chaos.STEPS[number % len(chaos.STEPS)]
    # What a runner wrote that another has taken over from would be there twice.
    twice = "SELECT run, path FROM records WHERE kind < 2 GROUP BY run, path HAVING count(*) > 1"
    assert read(folder, twice) == []
    entered = [number for (number,) in read(folder, "SELECT number FROM entered ORDER BY number")]
    assert entered == numbers_of("entering")
    counted = read(folder, "SELECT json_extract(state, '$.fields.runs') FROM entities")
    assert sum(count for (count,) in counted) == len(numbers_of("imperative"))


def numbers_of(workflow):
    names = [known.name for known in chaos.WORKFLOWS]
    return [number for number in range(RUNS) if names[number % len(names)] == workflow]
