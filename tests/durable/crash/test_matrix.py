"""A process that is killed at any moment loses no finished step, repeats none, is never stuck.

Each scenario is about one feature. It is carried out once to its end; then again and again, by a
process that gets SIGKILL at the first, the second, the third ... moment (see `Moments`), and after
each by another process that must come to the same end. Some are killed once more on their way.

PLAIT_CRASHES says how much of that is done: the number of moments of each scenario that are tried,
spread at random by a fixed seed, or "all".
"""

import json
import os
import random
import re
import signal
import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from shutil import rmtree
from tempfile import TemporaryDirectory

import pytest
import scenarios
from forks import Forks

from plait.durable._stored import Kind

_CHOSEN = os.environ.get("PLAIT_CRASHES", "6")


@pytest.fixture(scope="module")
def processes():
    """Programs to fork processes from, one for each at once."""
    free = SimpleQueue()
    with Forks() as first, Forks() as second:
        free.put(first)
        free.put(second)
        yield free


@pytest.fixture
def memory():
    """A folder in memory, where there is one: what a killed process wrote, the kernel keeps."""
    place = Path("/dev/shm")
    with TemporaryDirectory(dir=place if place.is_dir() else None) as folder:
        yield Path(folder)


RECORDED = "SELECT run_id, path, kind FROM records JOIN runs ON records.run = runs.key"


class Case:
    """One scenario in one folder, which a process begins and others carry on."""

    def __init__(self, name, backend, folder, forks, **more):
        self.scenario = scenarios.SCENARIOS[name]
        self._arguments = {"name": name, "backend": backend, "folder": folder, **more}
        self._folder = folder
        self._forks = forks
        folder.mkdir(exist_ok=True)

    def begin(self, kill_at=0, generation=0):
        """Carry it out; whether it came to its end."""
        code = self._forks.run(
            "process:carry_out", **self._arguments, kill_at=kill_at, generation=generation
        )
        assert code in {0, -signal.SIGKILL}, f"moment {kill_at}: ended with {code}"
        return code == 0

    def carry_on(self, kill_at=0):
        """Carry it on in another process, and look at what that one does."""
        finished, before = self.finished(), len(self.effects())
        has_ended = self.begin(kill_at, generation=1)
        for effect in self.effects()[before:]:
            again = [f for f in finished if is_at_or_below(effect[2:], f)]
            assert not again, f"{effect} was executed again, and {again} is recorded"
        return has_ended

    def outcome(self):
        return json.loads((self._folder / "outcome").read_text())["outcome"]

    def moments(self):
        return json.loads((self._folder / "outcome").read_text())["moments"]

    def effects(self):
        """What was done to the world, in order: key, attempt, run, path."""
        file = self._folder / "effects"
        lines = file.read_text().splitlines() if file.exists() else []
        return [tuple(line.split("\t")) for line in lines]

    def finished(self):
        """The nodes that the journal says have ended, as runs and paths."""
        ended = {Kind.VALUE} if self.scenario.is_resumed else {Kind.VALUE, Kind.ERROR}
        return {(run_id, path) for run_id, path, kind in self._recorded() if kind in ended}

    def _recorded(self):
        file = self._folder / "runs.db"
        if not file.exists():
            return []
        connection = sqlite3.connect(file)
        try:
            return connection.execute(RECORDED).fetchall()
        except sqlite3.OperationalError:
            return []  # killed before there were tables
        finally:
            connection.close()


def is_at_or_below(node, other):
    """Whether a node is another one or below it; a map that has finished stands for all of it."""
    (run_id, path), (other_run, other_path) = node, other
    if run_id != other_run or path.endswith("/compensation"):
        return node == other  # what has finished is undone later
    return path == other_path or path.startswith((f"{other_path}/", f"{other_path}["))


def crash(name, backend, folder, processes, expected, kills, made=Case):
    """Kill a scenario, at each of some moments, and carry it on: what was wrong at its end."""
    forks = processes.get()
    case = made(name, backend, folder, forks)
    try:
        count = 0
        for number, kill_at in enumerate(kills):
            has_ended = case.carry_on(kill_at) if number else case.begin(kill_at)
            count += not has_ended
            if has_ended:
                break
        else:
            assert case.carry_on()
        check(case, expected, count)
    except AssertionError as error:
        return f"killed at {kills}: {error}"
    else:
        rmtree(folder)
    finally:
        processes.put(forks)
    return None


def check(case, expected, kills):
    """It came to the same end, having done the same to the world."""
    scenario = case.scenario
    assert case.outcome() == expected.outcome()
    done = Counter(key(e) for e in case.effects() if label(e) not in scenario.may_vary)
    again = done.total() - len(done)
    assert again <= scenario.at_once * kills, f"{again} steps were executed again: {done}"
    assert steps(case) == steps(expected)


def key(effect):
    """What stays the same however often a node is executed, for one attempt at it."""
    return effect[:2]


def steps(case):
    """How many nodes there were of each step, of those of which that is certain."""
    # What a call is numbered may differ where tasks interleave, and so may a key: not how many.
    names = {key(effect): label(effect) for effect in case.effects()}
    return Counter(known for known in names.values() if known not in case.scenario.may_vary)


def label(effect):
    return re.split("[:/]", effect[3])[-1].partition("[")[0]


def chosen(name, count, many=_CHOSEN):
    """The moments at which a scenario is killed: one at a time, and some twice."""
    moments = random.Random(name)
    if many == "all":
        once = range(1, count + 1)
    else:
        once = sorted(moments.sample(range(1, count + 1), min(count, int(many))))
    twice = [(kill, moments.randint(1, max(1, count - kill))) for kill in once]
    return [*((kill,) for kill in once), *moments.sample(twice, (len(twice) + 2) // 3)]


BOTH = {"sequence", "parallel", "map", "imperative", "signal_late", "cancel", "child_awaited"}
CASES = [
    pytest.param(name, backend, id=f"{name}-{backend}")
    for name in scenarios.SCENARIOS
    for backend in ("asyncio", "trio")
    if backend == "asyncio" or name in BOTH
]


@pytest.mark.parametrize(("name", "backend"), CASES)
def test_a_killed_process_is_carried_on_to_the_same_end(name, backend, processes, memory):
    wrong = crash_everywhere(name, backend, processes, memory)
    assert not wrong, "\n".join(wrong)


def crash_everywhere(name, backend, processes, memory, many=_CHOSEN, made=Case):
    """Carry a scenario out to its end, then kill it at many moments: what came out otherwise."""
    forks = processes.get()
    expected = made(name, backend, memory / "whole", forks)
    assert expected.begin()
    processes.put(forks)
    certain = [e for e in expected.effects() if label(e) not in expected.scenario.may_vary]
    assert len(certain) == len(set(map(key, certain))), "executed again, and nothing was killed"
    kills = chosen(name, expected.moments(), many)
    with ThreadPoolExecutor(processes.qsize()) as threads:
        found = threads.map(
            lambda numbered: crash(
                name, backend, memory / str(numbered[0]), processes, expected, numbered[1], made
            ),
            enumerate(kills),
        )
        return list(filter(None, found))
