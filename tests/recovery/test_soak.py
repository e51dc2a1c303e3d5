"""Many executions of nested wrappers against a dependency that fails, hangs and recovers.

    python tests/recovery/test_soak.py

runs it by itself and prints what became of them.
"""

import asyncio
import gc
import os
import random
import subprocess
import sys
import time
from collections import Counter

import anyio
import pytest
import sniffio
import trio

from plait import (
    CircuitBreakerPrimitive,
    CircuitOpenError,
    FallbackPrimitive,
    RetryPrimitive,
    StepTimeoutError,
    TimeoutPrimitive,
    WorkflowContext,
    step,
)
from plait.recovery import exponential
from plait.testing import VirtualClock

EXECUTIONS = 200_000
OUTCOMES = ["success", "StepTimeoutError", "CircuitOpenError", "ConnectionError"]
SEED = 20_261_121


class Dependency:
    """Goes up and down at random, and answers, fails or hangs accordingly."""

    def __init__(self, source):
        self._random = source
        self._until = 0.0
        self._state = "up"
        self.inside = 0
        self.calls = Counter()

    def state(self):
        now = anyio.current_time()
        if now >= self._until:
            self._until = now + self._random.uniform(1, 30)
            self._state = self._random.choice(["up", "up", "up", "failing", "hanging", "flaky"])
        return self._state

    async def call(self, number):
        state = self.state()
        if state == "flaky":
            state = self._random.choice(["up", "failing", "hanging"])
        self.inside += 1
        self.calls["started"] += 1
        try:
            await anyio.sleep(self._random.uniform(0, 0.2))
            if state == "failing":
                self.calls["failed"] += 1
                raise ConnectionError(number)
            if state == "hanging":
                await anyio.sleep_forever()
            self.calls["answered"] += 1
            return number
        except anyio.get_cancelled_exc_class():
            self.calls["cancelled"] += 1
            raise
        finally:
            self.inside -= 1


class Soak:
    def __init__(self, executions):
        self.executions = executions
        self.workers = executions // 1000
        self.outcomes = Counter()
        self.blocks = []
        source = random.Random(SEED)
        self.primary, self.replica = Dependency(source), Dependency(source)
        ways = FallbackPrimitive(
            TimeoutPrimitive(step(name="primary")(self.primary.call), 2),
            [step(name="replica")(self.replica.call)],
        )
        breaker = CircuitBreakerPrimitive(
            ways,
            failure_rate=0.5,
            window=10,
            minimum_calls=self.workers // 2,
            recovery_timeout=5,
        )
        self.workflow = TimeoutPrimitive(
            RetryPrimitive(breaker, 2, backoff=exponential(0.2).capped(2)), 5
        )
        self.tasks_left = 0

    async def worker(self, count):
        for number in range(count):
            try:
                assert (
                    await self.workflow.execute(number, WorkflowContext(correlation_id=f"{number}"))
                    == number
                )
            except (ConnectionError, CircuitOpenError, StepTimeoutError) as error:
                self.outcomes[type(error).__name__] += 1
            else:
                self.outcomes["success"] += 1
            await anyio.sleep(0.1)

    async def lap(self, executions):
        async with anyio.create_task_group() as tasks:
            for _ in range(self.workers):
                tasks.start_soon(self.worker, executions // self.workers)
        gc.collect()
        self.blocks.append(sys.getallocatedblocks())

    async def main(self):
        await self.lap(self.executions // 10)
        await self.lap(self.executions // 10)
        await self.lap(self.executions - 2 * (self.executions // 10))
        if sniffio.current_async_library() == "asyncio":
            self.tasks_left = len(asyncio.all_tasks()) - 1
        else:
            self.tasks_left = len(trio.lowlevel.current_task().child_nurseries)


def soak(backend, executions):
    made = Soak(executions)
    VirtualClock().run(made.main, backend=backend)
    return made


def check(done, executions):
    """Every execution is accounted for, nothing is left, and memory does not grow."""
    assert done.outcomes.total() == executions
    # The dependency did all that it is there for, and so did each of the wrappers.
    assert min(done.outcomes[name] for name in OUTCOMES) > 0
    for dependency in (done.primary, done.replica):
        assert dependency.inside == 0
        assert dependency.calls["started"] == dependency.calls.total() / 2
    assert done.tasks_left == 0
    _, before, after = done.blocks
    assert after - before < 500


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_every_execution_is_accounted_for(backend):
    check(soak(backend, 8_000), 8_000)


@pytest.mark.timeout(600)
def test_the_long_soak():
    # By itself, as measuring its coverage takes many times as long.
    alone = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}
    subprocess.run([sys.executable, __file__], check=True, env=alone)


if __name__ == "__main__":
    started = time.perf_counter()
    done = soak("asyncio", EXECUTIONS)
    check(done, EXECUTIONS)
    print(f"{EXECUTIONS:,} executions in {time.perf_counter() - started:.1f} s of real time")
    print(dict(done.outcomes))
    print(f"calls: {dict(done.primary.calls)}, of the fallback: {dict(done.replica.calls)}")
    print(f"blocks of memory after each lap: {done.blocks}; tasks left: {done.tasks_left}")
