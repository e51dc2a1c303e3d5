import anyio
import pytest
import trio.testing
from virtual import VirtualLoop

from plait import (
    CompensationPrimitive,
    HedgePrimitive,
    MapPrimitive,
    MockPrimitive,
    RetryPrimitive,
    StepTimeoutError,
    TimeoutPrimitive,
    WorkflowContext,
    step,
)
from plait.recovery import constant

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    """Both event loops, in virtual time."""
    if request.param == "trio":
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return "asyncio", {"loop_factory": VirtualLoop}


class Replicas:
    """A dependency that answers each attempt in its own way: a number is how long it takes."""

    def __init__(self, *ways):
        self.ways = ways
        self.started = []
        self.cancelled = []

    @property
    def read(self):
        @step
        async def read(_: object, context: WorkflowContext) -> int:
            attempt = context.attempt
            self.started.append(attempt)
            way = self.ways[attempt - 1]
            try:
                if isinstance(way, tuple):
                    await anyio.sleep(way[0])
                    raise way[1]
                await anyio.sleep(way)
            except anyio.get_cancelled_exc_class():
                self.cancelled.append(attempt)
                raise
            return attempt

        return read


async def test_what_answers_in_time_is_executed_once():
    replicas = Replicas(0.001)
    assert await HedgePrimitive(replicas.read, 1)(0) == 1
    assert replicas.started == [1]


async def test_after_a_while_a_second_attempt_is_made_and_the_first_answer_wins():
    replicas = Replicas(60, 0)
    assert await HedgePrimitive(replicas.read, 0.01)(0) == 2
    assert (replicas.started, replicas.cancelled) == ([1, 2], [1])


async def test_the_first_attempt_may_still_win():
    replicas = Replicas(0.02, 60)
    assert await HedgePrimitive(replicas.read, 0.01)(0) == 1
    assert (replicas.started, replicas.cancelled) == ([1, 2], [2])


async def test_there_may_be_more_than_one_hedge():
    replicas = Replicas(60, 60, 0, 0)
    assert await HedgePrimitive(replicas.read, 0.01, max_hedges=3)(0) == 3
    assert replicas.started == [1, 2, 3]
    assert sorted(replicas.cancelled) == [1, 2]


async def test_the_loser_has_ended_when_the_answer_is_there():
    ended = []

    @step
    async def read(_, context: WorkflowContext):
        try:
            await anyio.sleep(60 if context.attempt == 1 else 0)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
            ended.append(context.attempt)

    await HedgePrimitive(read, 0.01)(0)
    assert sorted(ended) == [1, 2]


async def test_a_failure_before_another_attempt_is_raised_at_once():
    replicas = Replicas((0.001, OSError("down")), 0)
    with pytest.raises(OSError, match="down") as caught:
        await HedgePrimitive(replicas.read, 60).execute(0, WorkflowContext(workflow_id="user"))
    assert replicas.started == [1]
    assert caught.value.__notes__ == ["in step 'read' (user, attempt 1 of 2)"]


@pytest.mark.parametrize("failing", [0, 1])
async def test_a_failure_does_not_decide_while_another_attempt_is_under_way(failing):
    ways = [0.05, 0.05]
    ways[failing] = (0.02, OSError())
    assert await HedgePrimitive(Replicas(*ways).read, 0.01)(0) == 2 - failing


async def test_where_all_fail_the_first_failure_is_raised():
    replicas = Replicas((0.05, OSError("one")), (0.001, KeyError("two")))
    with pytest.raises(KeyError, match="two") as caught:
        await HedgePrimitive(replicas.read, 0.01)(0)
    assert caught.value.__notes__[1:] == ["another attempt failed too: OSError('one')"]


async def test_cancelled_it_leaves_nothing_running():
    replicas = Replicas(60, 60)
    with pytest.raises(StepTimeoutError):
        await TimeoutPrimitive(HedgePrimitive(replicas.read, 0.01), 0.05)(0)
    assert sorted(replicas.cancelled) == [1, 2]


async def test_a_retry_around_it_tries_again():
    mock = MockPrimitive(side_effect=[OSError, "done"])
    assert await RetryPrimitive(HedgePrimitive(mock, 60), backoff=constant(0))(0) == "done"


async def test_attempts_have_paths_of_their_own_and_one_idempotency_key():
    seen = []

    @step
    async def read(_, context: WorkflowContext):
        seen.append((context.path, context.idempotency_key))
        await anyio.sleep(60 if len(seen) == 1 else 0)

    await HedgePrimitive(read, 0.01).execute(0, WorkflowContext("run-1", "user"))
    assert seen == [("user/attempt 1", "run-1:user"), ("user/attempt 2", "run-1:user")]


async def test_observers_are_told(runtime):
    hedge = HedgePrimitive(Replicas(60, 0).read, 0.01)
    await hedge.execute(0, runtime.context(workflow_id="user"))
    assert runtime.events == [("hedge", "user/attempt 2", {"attempt": 2})]


def reserving(events, ways):
    """Reserves a seat at once, and may then take its time."""

    @step
    async def reserve(_, context: WorkflowContext):
        seat = f"seat {context.attempt}"
        events.append(seat)
        return seat

    @step
    async def release(seat):
        events.append(f"released {seat}")

    @step
    async def confirm(seat: str, context: WorkflowContext):
        await anyio.sleep(ways[context.attempt - 1])
        return seat

    return CompensationPrimitive(reserve, release) >> confirm


async def test_what_the_loser_did_is_undone():
    events = []
    hedge = HedgePrimitive(reserving(events, [60, 0]), 0.01)
    assert await hedge(0) == "seat 2"
    assert events == ["seat 1", "seat 2", "released seat 1"]


async def test_what_the_winner_did_is_undone_with_the_rest():
    events = []
    hedge = HedgePrimitive(reserving(events, [60, 0]), 0.01)
    with pytest.raises(LookupError):
        await (hedge >> MockPrimitive(side_effect=LookupError))(0)
    assert events == ["seat 1", "seat 2", "released seat 1", "released seat 2"]


async def test_what_all_did_is_undone_where_it_is_cancelled():
    events = []
    with pytest.raises(StepTimeoutError):
        await TimeoutPrimitive(HedgePrimitive(reserving(events, [60, 60]), 0.01), 0.05)(0)
    assert events == ["seat 1", "seat 2", "released seat 2", "released seat 1"]


async def test_at_the_same_time_each_has_its_own_race():
    replicas = Replicas(60, 0)
    hedge = HedgePrimitive(replicas.read, 0.01)
    assert await MapPrimitive(hedge)(range(20)) == [2] * 20


def test_it_looks_like_what_it_wraps():
    hedge = HedgePrimitive(len, 1)
    assert hedge.label == "len"
    assert hedge == HedgePrimitive(len, 1)
    assert hedge != HedgePrimitive(len, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delay_seconds": 0}, "delay_seconds=0 must be positive"),
        ({"delay_seconds": float("inf")}, "delay_seconds=inf"),
        ({"delay_seconds": 1, "max_hedges": 0}, "max_hedges=0 must be at least 1"),
    ],
)
def test_what_is_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        HedgePrimitive(str, **options)
