"""Caches, limits and batches in durable runs."""

import anyio
import pytest
from interruption import Gate, carry_on, interrupt

from plait import (
    BatchPrimitive,
    CachePrimitive,
    ConcurrencyLimitPrimitive,
    MapPrimitive,
    RateLimitPrimitive,
    RejectedError,
    SequentialPrimitive,
    TimeoutPrimitive,
    step,
)
from plait.durable import DurableRunner
from plait.performance import RateLimit
from plait.primitives import _ambient

pytestmark = pytest.mark.anyio


class Counted:
    """A step, and the inputs that it was called with."""

    __name__ = "counted"

    def __init__(self):
        self.calls = []

    async def __call__(self, value):
        self.calls.append(value)
        return value


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: CachePrimitive(inner, 60),
        lambda inner: RateLimitPrimitive(inner, 1, per=3600, max_wait=0),
        lambda inner: ConcurrencyLimitPrimitive(inner, 1),
        lambda inner: BatchPrimitive(MapPrimitive(inner), 10, max_wait_seconds=0),
    ],
)
async def test_what_had_finished_is_handed_back_and_uses_nothing_up(journal, wrap):
    work, gate = Counted(), Gate()
    workflow = SequentialPrimitive([wrap(work), step(gate, name="gate")]).named("workflow")
    await interrupt(journal, workflow, 7, gate)
    assert await carry_on(journal, workflow) == 7
    assert work.calls == [7]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: RateLimitPrimitive(inner, 100, per=1),
        lambda inner: ConcurrencyLimitPrimitive(inner, 1, max_wait=60),
    ],
)
async def test_what_had_finished_below_a_limit_is_not_repeated(journal, wrap):
    work, gate = Counted(), Gate()
    inner = SequentialPrimitive([work, step(gate, name="gate")])
    workflow = wrap(inner).named("workflow")
    await interrupt(journal, workflow, 7, gate)
    assert await carry_on(journal, workflow) == 7
    assert work.calls == [7]


async def test_a_wait_for_a_limit_is_not_recorded(journal, tmp_path):
    work = Counted()
    limit = RateLimit(50, per=1)
    workflow = MapPrimitive(RateLimitPrimitive(work, limit)).named("workflow")
    gated = MapPrimitive(ConcurrencyLimitPrimitive(work, 1, max_wait=60)).named("gated")
    batched = MapPrimitive(BatchPrimitive(MapPrimitive(work), 9, 0.01)).named("batched")
    async with DurableRunner(journal) as runner:
        for each in (workflow, gated, batched):
            assert await runner.run(each, [1, 2, 3], run_id=each.name) == [1, 2, 3]
    written = (tmp_path / "runs.db").read_bytes()
    wal = tmp_path / "runs.db-wal"
    written += wal.read_bytes() if wal.exists() else b""
    assert b"workflow" in written
    assert b"#sleep" not in written
    assert b"#deadline" not in written


async def test_a_rejection_is_recorded_as_the_failure_it_is(journal):
    limited = RateLimitPrimitive(str, 1, per=3600, max_wait=0)
    workflow = (step(str) >> limited).named("workflow")
    async with DurableRunner(journal) as runner:
        assert await runner.run(workflow, 1, run_id="first") == "1"
        with pytest.raises(RejectedError, match="rate limit of str"):
            await runner.run(workflow, 1, run_id="second")
    async with DurableRunner(journal, workflows=[workflow]) as runner:
        run = await runner.get("second")
        with pytest.raises(RejectedError) as caught:
            await run.result()
        assert caught.value.retry_after > 3000


async def test_runs_are_batched_together_and_each_records_its_own_result(journal):
    batches = []

    async def load(numbers):
        batches.append(sorted(numbers))
        return [10 * number for number in numbers]

    gate = Gate()
    batch = BatchPrimitive(load, 3, max_wait_seconds=60)
    workflow = SequentialPrimitive([batch, step(gate, name="gate")]).named("workflow")
    async with DurableRunner(journal, workflows=[workflow], grace_seconds=0) as runner:
        runs = [await runner.start(workflow, number, run_id=f"run-{number}") for number in range(3)]
        await gate.reached.wait()
        gate.open()
        with anyio.fail_after(10):
            assert [await run.result() for run in runs] == [0, 10, 20]
    assert batches == [[0, 1, 2]]


async def test_a_batch_that_was_interrupted_may_be_another_one_when_the_run_goes_on(journal):
    gate, batches = Gate(), []

    @step
    async def fetch(number: int) -> int:
        return number

    async def load(numbers):
        batches.append(sorted(numbers))
        found = [await fetch(number) for number in numbers]
        await gate(None)
        return found

    def workflow(max_size):
        batch = BatchPrimitive(load, max_size, max_wait_seconds=60)
        return MapPrimitive(TimeoutPrimitive(batch, 60)).named("workflow")

    await interrupt(journal, workflow(3), [1, 2, 3], gate)
    assert await carry_on(journal, workflow(1)) == [1, 2, 3]
    assert batches[0] == [1, 2, 3]
    assert sorted(batches[-3:]) == [[1], [2], [3]]


async def test_a_batch_is_seen_by_what_observes_the_run_although_no_journal_records_it(
    journal, runtime, monkeypatch
):
    monkeypatch.setattr(_ambient, "_source", lambda: runtime)
    workflow = BatchPrimitive(MapPrimitive(str), 1, 0).named("workflow")
    async with DurableRunner(journal) as runner:
        assert await runner.run(workflow, 1, run_id="run") == "1"
    assert runtime.paths == ["workflow", "workflow/batch", "workflow/batch[0]"]
