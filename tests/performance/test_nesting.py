"""What all of these wrappers have in common, each by itself and inside of the others."""

import copy
import itertools
import pickle

import anyio
import pytest

from plait import (
    BatchPrimitive,
    CachePrimitive,
    ConcurrencyLimitPrimitive,
    FallbackPrimitive,
    MapPrimitive,
    MockPrimitive,
    RateLimitPrimitive,
    RejectedError,
    RetryPrimitive,
    TimeoutPrimitive,
    WorkflowContext,
    step,
)
from plait.recovery import constant

pytestmark = pytest.mark.anyio

WRAPPERS = {
    "cache": lambda inner: CachePrimitive(inner, 60),
    "rate_limit": lambda inner: RateLimitPrimitive(inner, 1_000, per=0.1, burst=100),
    "concurrency_limit": lambda inner: ConcurrencyLimitPrimitive(inner, 2),
    "batch": lambda inner: BatchPrimitive(MapPrimitive(inner), 10, max_wait_seconds=0),
}
OTHERS = {
    "retry": lambda inner: RetryPrimitive(inner, backoff=constant(0)),
    "timeout": lambda inner: TimeoutPrimitive(inner, 60),
    "fallback": lambda inner: FallbackPrimitive(inner, [repr]),
}


def double(number):
    return 2 * number


@pytest.fixture(params=WRAPPERS)
def wrap(request):
    return WRAPPERS[request.param]


@pytest.mark.parametrize(
    ("outer", "inner"), list(itertools.permutations({**WRAPPERS, **OTHERS}.values(), 2))
)
async def test_they_nest_in_any_order(outer, inner):
    work = MockPrimitive("work", side_effect=double)
    workflow = MapPrimitive(outer(inner(work)))
    assert await workflow(range(5)) == [0, 2, 4, 6, 8]
    assert sorted(work.calls) == [0, 1, 2, 3, 4]


async def test_an_operand_that_is_none_is_refused(wrap):
    with pytest.raises(TypeError, match="3"):
        wrap(3)


async def test_each_goes_by_the_label_of_what_is_inside_and_reads_as_what_it_is(runtime):
    limited = RateLimitPrimitive(double, 1, per=1)
    assert (limited.label, str(limited)) == ("double", "rate_limit(double)")
    gated = ConcurrencyLimitPrimitive(double, 1)
    assert (gated.label, str(gated)) == ("double", "concurrency_limit(double)")
    batch = BatchPrimitive(MapPrimitive(double), 1, 0)
    assert (batch.label, str(batch)) == ("double", "batch(map(double))")
    for each, path in ((limited, "/limited"), (gated, "/limited"), (batch, "/batch")):
        assert [child["name"] for child in each.describe()["children"]]
        runtime.paths.clear()
        assert await each.execute(2, runtime.context(workflow_id="w")) == 4
        assert runtime.paths[:2] == ["w", f"w{path}"]


async def test_two_made_alike_are_two_and_one_named_shares_what_it_was_made_of(wrap):
    one, other = wrap(double), wrap(double)
    assert one == one.named("one") or one != other
    assert one != other
    for again in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert await again(4) == 8
        assert str(again) == str(one)


async def test_cancelled_from_outside_each_waits_until_what_it_started_has_ended(wrap):
    ended = []

    async def patient(_):
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
            ended.append("patient")

    wrapped = wrap(patient)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wrapped, 1)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught
    assert ended == ["patient"]


async def test_what_is_inside_sees_the_run(wrap):
    @step
    async def note(number: int, context: WorkflowContext) -> str:
        context.data["seen"] = number
        return context.correlation_id

    context = WorkflowContext("request-7")
    assert await wrap(note).execute(3, context) == "request-7"
    assert context.data == {"seen": 3}


async def test_a_fallback_answers_where_a_limit_rejects():
    busy = ConcurrencyLimitPrimitive(anyio.sleep, 1, max_wait=0)
    polite = FallbackPrimitive(busy, [lambda _: "busy"], fallback_on=RejectedError)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(polite, 60)
        await anyio.wait_all_tasks_blocked()
        assert await polite(0) == "busy"
        tasks.cancel_scope.cancel()


async def test_a_cache_outside_of_a_batch_asks_for_each_key_once():
    batches = []

    async def load(keys):
        batches.append(sorted(keys))
        return [key.upper() for key in keys]

    users = CachePrimitive(BatchPrimitive(load, 100, max_wait_seconds=0.005), 60)
    assert await MapPrimitive(users)(list("abcabc")) == list("ABCABC")
    assert batches == [["a", "b", "c"]]
