import asyncio
import math
import pickle

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plait import (
    ConcurrencyLimitPrimitive,
    Failure,
    MapPrimitive,
    MockPrimitive,
    RejectedError,
    WorkflowContext,
    step,
)
from plait.performance import ConcurrencyLimit
from plait.primitives import Runtime
from plait.primitives._concurrency import DeadlineExceededError

pytestmark = pytest.mark.anyio


@pytest.fixture
def work(gauge):
    async def work(seconds):
        with gauge:
            await anyio.sleep(seconds)
        return seconds

    return work


async def test_so_many_run_at_once_and_no_more(work, gauge):
    limited = ConcurrencyLimitPrimitive(work, 3)
    assert await MapPrimitive(limited)([0.001] * 20) == [0.001] * 20
    assert (gauge.peak, gauge.total) == (3, 20)


async def test_runs_share_a_limit(work, gauge):
    limited = step(abs) >> ConcurrencyLimitPrimitive(work, 2)
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(limited.execute, 0.001, WorkflowContext())
    assert (gauge.peak, gauge.total) == (2, 10)


async def test_primitives_may_share_a_limit(work, gauge):
    database = ConcurrencyLimit(2, name="database")
    read, write = (ConcurrencyLimitPrimitive(work, database) for _ in range(2))
    await (MapPrimitive(read) | MapPrimitive(write))([0.001] * 5)
    assert (gauge.peak, gauge.total) == (2, 10)
    assert repr(database) == "<ConcurrencyLimit 'database': 2 at once>"


async def test_each_key_has_a_limit_of_its_own(gauge):
    gauges = {"ada": type(gauge)(), "bob": type(gauge)()}

    async def work(name):
        with gauges[name], gauge:
            await anyio.sleep(0.001)

    limited = ConcurrencyLimitPrimitive(work, 1, key=str)
    await MapPrimitive(limited)(["ada", "bob"] * 4)
    assert (gauges["ada"].peak, gauges["bob"].peak, gauge.peak) == (1, 1, 2)
    assert not limited._limit._lines.get()


async def test_it_is_first_come_first_served():
    started = []

    async def work(number):
        started.append(number)
        await checkpoint()

    limited = ConcurrencyLimitPrimitive(work, 2)

    async def call(number):
        for again in range(3):
            await limited((number, again))

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(call, number)
            await anyio.wait_all_tasks_blocked()
    assert [who for who, again in started if again == 2] == [0, 1, 2, 3]


async def test_a_place_is_given_back_on_failure(work):
    limited = ConcurrencyLimitPrimitive(MockPrimitive("read", side_effect=[OSError("down"), 2]), 1)
    with pytest.raises(OSError, match="down") as caught:
        await limited(1)
    assert caught.value.__notes__ == ["in step 'read' (read/limited)"]
    assert await limited(1) == 2


async def test_it_waits_no_longer_than_it_may(virtual):
    limited = ConcurrencyLimitPrimitive(MockPrimitive("read", delay=10), 1, max_wait=15)

    async def calls():
        outcomes = await MapPrimitive(limited, errors="collect").execute(
            range(4), virtual.context()
        )
        error, other = (outcome.error for outcome in outcomes if isinstance(outcome, Failure))
        assert isinstance(other, RejectedError)
        assert isinstance(error, RejectedError)
        assert error.limit == "concurrency limit of read"
        assert error.retry_after is None
        assert str(error) == (
            "'read' was rejected: the concurrency limit of read has 1 places, "
            "and none was free in 15 s"
        )
        assert error.__cause__ is None

    await virtual.drive(calls)
    assert virtual.now == 1020
    assert virtual.reports == [
        ("limited", {"limit": "concurrency limit of read", "wait_seconds": 10}),
        ("rejected", {"limit": "concurrency limit of read"}),
        ("rejected", {"limit": "concurrency limit of read"}),
    ]


@pytest.mark.parametrize(
    ("options", "reason", "waiting"),
    [({"max_queue": 2}, "and 2 wait already", 2), ({"max_wait": 0}, "and none is free", 0)],
)
async def test_one_that_finds_no_room_to_wait_is_rejected_at_once(work, options, reason, waiting):
    limited = ConcurrencyLimitPrimitive(work, 1, **options)
    async with anyio.create_task_group() as tasks:
        for _ in range(1 + waiting):
            tasks.start_soon(limited, 0.01)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(RejectedError, match=reason):
            await limited(0)
    assert await limited(0) == 0


async def test_one_that_is_cancelled_while_it_waits_leaves_the_line():
    released, done = anyio.Event(), []

    async def work(name):
        await released.wait()
        done.append(name)

    limited = ConcurrencyLimitPrimitive(work, 1, max_queue=2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limited, "first")
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as cancelled:
            cancelled.start_soon(limited, "second")
            await anyio.wait_all_tasks_blocked()
            cancelled.cancel_scope.cancel()
        for name in ("third", "fourth"):
            tasks.start_soon(limited, name)
            await anyio.wait_all_tasks_blocked()
        released.set()
    assert done == ["first", "third", "fourth"]


def test_a_place_given_to_a_call_that_is_cancelled_at_that_moment_is_passed_on():
    done = []

    async def main():
        released = asyncio.Event()

        async def work(name):
            await released.wait()
            done.append(name)

        limited = ConcurrencyLimitPrimitive(work, 1)

        async def first():
            await limited("first")
            second.cancel()

        tasks = [asyncio.ensure_future(first())]
        await asyncio.sleep(0)
        second, third = (asyncio.ensure_future(limited(name)) for name in ("second", "third"))
        await asyncio.sleep(0)
        released.set()
        await asyncio.wait([*tasks, second, third])
        assert second.cancelled()

    asyncio.run(main())
    assert done == ["first", "third"]


async def test_a_place_given_at_the_moment_in_which_the_wait_is_over_is_taken():
    limit = ConcurrencyLimit(1)

    class OnTheDot(Runtime):
        async def within(self, seconds, call, context):
            limit.leave(holder)
            raise DeadlineExceededError(call)

    context = WorkflowContext()
    holder = await limit.enter(None, None, context)
    context._runtime = OnTheDot()
    assert await ConcurrencyLimitPrimitive(str, limit, max_wait=10).execute(1, context) == "1"
    assert holder.inside == 0


@given(
    limit=st.integers(1, 4),
    max_queue=st.none() | st.integers(0, 3),
    calls=st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 4), st.none() | st.integers(1, 5)), max_size=25
    ),
)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_no_place_is_lost_or_taken_twice(make_virtual, limit, max_queue, calls):
    virtual, inside, peak, ended = make_virtual(), 0, 0, 0

    @step
    async def work(seconds, context: WorkflowContext):
        nonlocal inside, peak
        inside += 1
        peak = max(peak, inside)
        try:
            await context.sleep(seconds)
        finally:
            inside -= 1

    limited = ConcurrencyLimitPrimitive(work, limit, max_queue=max_queue)

    async def call(seconds, patience):
        nonlocal ended
        try:
            if patience is None:
                await limited.execute(seconds, virtual.context())
            else:
                context = virtual.context()
                await context.within(patience, lambda: limited.execute(seconds, context))
        except (RejectedError, TimeoutError):
            pass
        ended += 1

    async def run():
        async with anyio.create_task_group() as tasks:
            for pause, seconds, patience in calls:
                if pause:
                    await virtual.sleep(pause, None)
                tasks.start_soon(call, seconds, patience)
        for _ in range(limit):
            await limited._limit.enter(None, 0, virtual.context())

    await virtual.drive(run)
    assert ended == len(calls)
    assert peak <= limit


def test_it_serves_one_event_loop_after_another(work, gauge):
    limited = ConcurrencyLimitPrimitive(work, 2)
    for backend in ("asyncio", "trio", "asyncio"):
        MapPrimitive(limited).run_sync([0.001] * 5, backend=backend)
    assert (gauge.peak, gauge.total) == (2, 15)


async def test_a_copy_has_all_its_places():
    limited = ConcurrencyLimitPrimitive(anyio.sleep, 1, max_wait=0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limited, 60)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(RejectedError):
            await limited(0)
        assert await pickle.loads(pickle.dumps(limited))(0) is None
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "limit=0 must be at least 1"),
        ({"limit": 1, "max_queue": -1}, "max_queue=-1 must not be negative"),
        ({"limit": 1, "max_wait": -1}, "max_wait=-1 must not be negative"),
        ({"limit": 1, "max_wait": math.nan}, "max_wait=nan must not be negative"),
    ],
)
def test_a_number_out_of_its_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ConcurrencyLimitPrimitive(str, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"limit": ConcurrencyLimit(1), "max_queue": 1},
            "max_queue=1 belongs to the limit that is shared",
        ),
        ({"limit": 1, "key": "id"}, "key='id' must be a function of the input"),
    ],
)
def test_an_option_of_another_kind_is_refused(options, message):
    with pytest.raises(TypeError, match=message):
        ConcurrencyLimitPrimitive(str, **options)
