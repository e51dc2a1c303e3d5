"""Three workers on one journal, killed and added at random: every run ends, none is done twice."""

import contextlib
import json
import os
import random

import anyio
import pytest
from helping import working
from working import QUEUE, ten_steps

from plait.durable import DurableRunner

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

KILLS = 6
RUNS = int(os.environ.get("PLAIT_WORKER_RUNS", "500"))


async def test_every_run_ends_though_workers_are_killed(new_journal, postgres, schema, tmp_path):
    effects = tmp_path / "effects"
    async with (
        DurableRunner(new_journal(), queues=[QUEUE], grace_seconds=0) as runner,
        anyio.create_task_group() as tasks,
    ):
        for number in range(RUNS):
            tasks.start_soon(start, runner, f"run {number}")
    chance, killed = random.Random(7), 0
    with contextlib.ExitStack() as stack:
        workers = [add(stack, postgres, schema, effects) for _ in range(3)]
        try:
            while left(postgres, schema):
                await anyio.sleep(chance.uniform(0.3, 1))
                if killed == KILLS:
                    continue
                busy = (
                    effects.read_text().splitlines()[-1].split("\t")[4] if effects.exists() else ""
                )
                for worker in [worker for worker in workers if str(worker.pid) == busy]:
                    worker.kill()
                    killed += 1
                    workers.remove(worker)
                    workers.append(add(stack, postgres, schema, effects))
        finally:
            for worker in workers:
                worker.kill()
    assert killed > 1
    recorded = {
        (run, path): (json.loads(payload), at)
        for run, path, payload, at in postgres.ask(
            f"SELECT run_id, path, convert_from(payload, 'UTF8'), at FROM {schema}.records"
            f" JOIN {schema}.runs ON key = run"
        )
    }
    assert len(recorded) == RUNS * 10
    busy = set()
    for line in effects.read_text().splitlines():
        run, path, token, began, pid = line.split("\t")
        busy.add(pid)
        kept, at = recorded[run, path]
        # What was executed again had not been finished, and what was finished not again.
        assert kept == token or float(began) < at
    assert {token for token, _ in recorded.values()} <= tokens(effects)
    assert len(busy) > 2


async def start(runner, run_id):
    await runner.start(ten_steps, 0, run_id=run_id, queue=QUEUE.name)


def add(stack, postgres, schema, effects):
    return stack.enter_context(working(postgres.address, schema, effects))


def left(postgres, schema):
    ((many,),) = postgres.ask(f"SELECT count(*) FROM {schema}.runs WHERE status <> 'completed'")
    return many


def tokens(effects):
    return {line.split("\t")[2] for line in effects.read_text().splitlines()}
