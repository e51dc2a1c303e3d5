"""Steps that need what not every runner has, and the runners that have it."""

import signal
import subprocess
import sys
import time

import anyio
import pytest
from waiting import runner_of, until_waiting

from plait import (
    CachePrimitive,
    ConcurrencyLimitPrimitive,
    Future,
    StepTimeoutError,
    TimeoutPrimitive,
    WorkflowContext,
    step,
    workflow,
)
from plait.durable import DurableRunner, RunCancelledError, SqliteJournal

pytestmark = pytest.mark.anyio


@step(needs="gpu")
async def fit(number: int) -> int:
    return number * 10


@pytest.fixture
def steps():
    """What was executed, in order."""
    return []


@pytest.fixture
def train(steps):
    """A workflow whose second step needs a gpu."""

    @step
    async def load(number: int) -> int:
        steps.append("load")
        return number + 1

    @step(needs="gpu")
    async def fit(number: int) -> int:
        steps.append("fit")
        return number * 10

    @step
    async def save(number: int) -> str:
        steps.append("save")
        return f"saved {number}"

    return (load >> fit >> save).named("train")


def waits_of(info):
    return {(wait.path, wait.needs) for wait in info.waits}


async def test_a_step_that_needs_something_waits_for_a_runner_that_has_it(file, train, steps):
    async with runner_of(SqliteJournal(file), train, suspend_after=30) as plain:
        run = await plain.start(train, 1, run_id="run")
        info = await until_waiting(plain, "run")
        assert waits_of(info) == {("train/2:fit", frozenset({"gpu"}))}
        await anyio.sleep(0.05)
        assert steps == ["load"]
        async with runner_of(SqliteJournal(file), train, capabilities="gpu") as able:
            with anyio.fail_after(20):
                assert await run.result() == "saved 20"
            assert (await able.get("run")).run_id == "run"
    assert steps == ["load", "fit", "save"]


async def test_a_runner_that_has_it_executes_the_step_like_any_other(file, train, steps):
    async with runner_of(SqliteJournal(file), train, capabilities=["gpu", "large"]) as able:
        assert await able.run(train, 1) == "saved 20"
    assert steps == ["load", "fit", "save"]


async def test_in_process_a_step_is_executed_whatever_it_needs(train, steps):
    assert await train.execute(1, WorkflowContext()) == "saved 20"
    assert steps == ["load", "fit", "save"]


async def test_what_was_executed_elsewhere_is_replayed_by_any_runner(file, train, steps):
    async with runner_of(SqliteJournal(file), train, capabilities="gpu") as able:
        await able.run(train, 1, run_id="run")
    async with runner_of(SqliteJournal(file), train) as plain:
        assert (await plain.verify("run")).fits
        copy = await plain.fork("run", before="train/3:save", new_run_id="copy")
        assert await copy.result() == "saved 20"
    assert steps == ["load", "fit", "save", "save"]


async def test_branches_with_different_needs_are_executed_where_each_can_be(file):
    where = []

    def branch(tag):
        @step(name=tag, needs=tag)
        async def execute(number: int) -> str:
            where.append(tag)
            return f"{tag} {number}"

        return execute

    both = (branch("gpu") | branch("tpu")).named("both")
    async with runner_of(SqliteJournal(file), both) as plain:
        run = await plain.start(both, 7, run_id="run")
        info = await until_waiting(plain, "run")
        needs = [frozenset({"gpu"}), frozenset({"tpu"})]
        assert waits_of(info) == set(zip(["both/1:gpu", "both/2:tpu"], needs, strict=True))
        async with runner_of(SqliteJournal(file), both, capabilities="tpu"):
            while len(info.waits) != 1 or not info.waits[0].path.endswith("gpu"):
                info = await until_waiting(plain, "run")
                await anyio.sleep(0.005)
            assert where == ["tpu"]
        async with runner_of(SqliteJournal(file), both, capabilities="gpu"):
            with anyio.fail_after(20):
                assert await run.result() == ("gpu 7", "tpu 7")
    assert where == ["tpu", "gpu"]


async def test_a_call_of_imperative_code_moves_too_and_so_does_a_tail_call(file):
    @step(needs="gpu")
    async def fit_later(number: int) -> Future[int]:
        return fit.future(number + 1)

    @workflow
    async def train(number: int) -> list[int]:
        return [await fit(number), await fit_later(number)]

    async with (
        runner_of(SqliteJournal(file), train) as plain,
        runner_of(SqliteJournal(file), train, capabilities="gpu"),
    ):
        assert await plain.run(train, 1) == [10, 20]


@pytest.mark.parametrize(
    "wrap", [lambda step: ConcurrencyLimitPrimitive(step, 1), lambda step: CachePrimitive(step, 60)]
)
async def test_what_keeps_a_run_in_memory_does_not_keep_it_from_moving(file, wrap):
    limited = wrap(step(needs="gpu")(str)).named("limited")
    async with runner_of(SqliteJournal(file), limited) as plain:
        run = await plain.start(limited, 1, run_id="run")
        await until_waiting(plain, "run")
        async with runner_of(SqliteJournal(file), limited, capabilities="gpu"):
            with anyio.fail_after(20):
                assert await run.result() == "1"


async def test_a_deadline_is_kept_while_no_runner_has_what_is_needed(file):
    late = TimeoutPrimitive(step(needs="gpu")(str), 0.2).named("late")
    async with runner_of(SqliteJournal(file), late) as plain:
        run = await plain.start(late, 1, run_id="run")
        await until_waiting(plain, "run")
        with anyio.fail_after(20), pytest.raises(StepTimeoutError):
            await run.result()


async def test_a_run_that_waits_for_a_runner_can_be_cancelled(file, train, steps):
    async with runner_of(SqliteJournal(file), train) as plain:
        run = await plain.start(train, 1, run_id="run")
        await until_waiting(plain, "run")
        assert await run.cancel()
        with anyio.fail_after(20), pytest.raises(RunCancelledError):
            await run.result()
    assert steps == ["load"]


@pytest.mark.parametrize("tag", ["", " ", "gpu,large", 3])
def test_a_tag_is_a_name(journal, tag):
    with pytest.raises(ValueError, match=r"needs= of step 'str' has .* which is no tag"):
        step(needs=[tag])(str)
    with pytest.raises(ValueError, match=r"capabilities= has .* which is no tag"):
        DurableRunner(journal, capabilities=[tag])


WORKER = """
import os, signal, sys, anyio
from plait import step
from plait.durable import DurableRunner

FOLDER, TAGS, DIES_IN = sys.argv[1], sys.argv[2].split(), sys.argv[3]

def executed(what):
    with open(f"{FOLDER}/effects", "a") as effects:
        effects.write(f"{what} {TAGS}\\n")
    if what == DIES_IN:
        os.kill(os.getpid(), signal.SIGKILL)

@step
async def load(number):
    executed("load")
    return number

@step(needs="gpu")
async def fit(number):
    executed("fit")
    return number

@step
async def save(number):
    executed("save")
    return number

train = (load >> fit >> save).named("train")

async def main():
    async with DurableRunner(f"sqlite:///{FOLDER}/runs.db", workflows=[train],
                             capabilities=TAGS, suspend_after=0.05) as runner:
        if DIES_IN == "starts":
            await runner.start(train, 1, run_id="run")
        if TAGS:
            print(await (await runner.get("run")).result(), flush=True)
        else:
            await anyio.sleep_forever()

anyio.run(main)
"""


def test_a_run_goes_from_process_to_process_and_outlives_those_that_are_killed(tmp_path):
    def worker(tags, dies_in=""):
        command = [sys.executable, "-c", WORKER, str(tmp_path), tags, dies_in]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    effects = tmp_path / "effects"
    with worker("", "starts") as first:
        try:
            while not effects.exists():
                time.sleep(0.01)
            with worker("gpu large", "fit") as second:
                assert second.wait(60) == -signal.SIGKILL
            with worker("gpu") as third:
                assert third.communicate(timeout=60)[0] == "1\n"
        finally:
            first.kill()
    done = effects.read_text().splitlines()
    assert done == ["load []", "fit ['gpu', 'large']", "fit ['gpu']", "save ['gpu']"]
