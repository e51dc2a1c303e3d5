import itertools
import math
import pickle

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plait import (
    Failure,
    MapPrimitive,
    MockPrimitive,
    PlaitError,
    RateLimitPrimitive,
    RejectedError,
    RetryPrimitive,
    TimeoutPrimitive,
)
from plait.performance import RateLimit
from plait.performance._rate_limit import _EARLY
from plait.recovery import constant

pytestmark = pytest.mark.anyio


class Starts:
    """A step that writes down when each call started, and how long each took."""

    def __init__(self, time):
        self._time = time
        self.times = []
        self.inputs = []

    async def __call__(self, value):
        self.times.append(self._time.now)
        self.inputs.append(value)
        return value


async def test_calls_start_one_after_the_other(virtual):
    work = Starts(virtual)
    limited = RateLimitPrimitive(work, 10, per=1)
    await virtual.drive(lambda: MapPrimitive(limited).execute(range(5), virtual.context()))
    assert work.times == pytest.approx([1000, 1000.1, 1000.2, 1000.3, 1000.4])
    assert sorted(work.inputs) == [0, 1, 2, 3, 4]


async def test_after_a_pause_so_many_start_at_once(virtual):
    work = Starts(virtual)
    limited = RateLimitPrimitive(work, 10, per=1, burst=3)

    async def calls():
        for _ in range(2):
            await MapPrimitive(limited).execute(range(5), virtual.context())
            virtual.now += 1000

    await virtual.drive(calls)
    assert work.times[:5] == pytest.approx([1000, 1000, 1000, 1000.1, 1000.2])
    assert work.times[5:] == pytest.approx([work.times[5]] * 3 + [2000.3, 2000.4])


async def test_a_limit_that_has_room_lets_a_call_pass_at_once(virtual):
    limited = RateLimitPrimitive(str, 1, per=60)
    assert await limited.execute(1, virtual.context()) == "1"
    assert virtual.reports == []


@given(
    rate=st.integers(1, 20),
    per=st.sampled_from([0.1, 1, 60]),
    burst=st.integers(1, 5),
    calls=st.lists(
        st.tuples(st.sampled_from([0, 0, 0, 0.01, 0.3, 2.5]), st.booleans()), max_size=40
    ),
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_in_no_time_do_more_start_than_may(make_virtual, rate, per, burst, calls):
    virtual = make_virtual()
    work = Starts(virtual)
    limited = RateLimitPrimitive(work, rate, per=per, burst=burst)

    async def call(is_patient):
        try:
            primitive = limited if is_patient else TimeoutPrimitive(limited, per / 3)
            await primitive.execute("started", virtual.context())
        except TimeoutError:
            work.inputs.append("gave up")

    async def run():
        async with anyio.create_task_group() as tasks:
            for pause, is_patient in calls:
                await virtual.sleep(pause * per, None)
                tasks.start_soon(call, is_patient)

    await virtual.drive(run)
    assert len(work.inputs) == len(calls)
    for first, last in itertools.combinations(range(len(work.times)), 2):
        started = last - first + 1
        took = work.times[last] - work.times[first]
        assert started <= burst + (took + 2 * _EARLY) * rate / per


async def test_it_is_first_come_first_served(virtual):
    work = Starts(virtual)
    limited = RateLimitPrimitive(work, 1, per=1)

    async def calls():
        async with anyio.create_task_group() as tasks:
            for number in range(6):
                tasks.start_soon(limited.execute, number, virtual.context())
                await virtual.sleep(0.4, None)

    await virtual.drive(calls)
    assert work.inputs == [0, 1, 2, 3, 4, 5]


async def test_one_that_would_wait_too_long_is_rejected_at_once(virtual):
    work = Starts(virtual)
    limited = RateLimitPrimitive(work, 1, per=10, max_wait=15)

    async def calls():
        outcomes = await MapPrimitive(limited, errors="collect").execute(
            range(4), virtual.context()
        )
        error, other = (outcome.error for outcome in outcomes if isinstance(outcome, Failure))
        assert isinstance(other, RejectedError)
        assert isinstance(error, RejectedError)
        assert isinstance(error, PlaitError)
        assert (error.limit, error.retry_after) == ("rate limit of Starts", 5)
        assert str(error) == (
            "'Starts' was rejected: it would wait 20 s for the rate limit of Starts, 1 in 10 s, "
            "and may wait 15 s"
        )
        assert pickle.loads(pickle.dumps(error)).retry_after == 5

    await virtual.drive(calls)
    assert virtual.now == 1010
    assert virtual.reports == [
        ("limited", {"limit": "rate limit of Starts", "wait_seconds": 10}),
        ("rejected", {"limit": "rate limit of Starts"}),
        ("rejected", {"limit": "rate limit of Starts"}),
    ]


async def test_one_that_may_not_wait_is_rejected_at_once(virtual):
    limited = RateLimitPrimitive(str, 1, per=10, max_wait=0)
    assert await limited.execute(1, virtual.context()) == "1"
    with pytest.raises(RejectedError):
        await limited.execute(1, virtual.context())


async def test_a_retry_waits_as_long_as_the_limit_says(virtual):
    limited = RateLimitPrimitive(str, 1, per=10, max_wait=0)
    patient = RetryPrimitive(limited, 1, backoff=constant(1), jitter=False)

    async def calls():
        assert await patient.execute(1, virtual.context()) == "1"
        assert await patient.execute(1, virtual.context()) == "1"

    await virtual.drive(calls)
    assert virtual.now == pytest.approx(1010)


async def test_one_that_is_cancelled_while_it_waits_uses_nothing_up(virtual):
    work = Starts(virtual)
    limited = RateLimitPrimitive(work, 1, per=10)
    impatient = TimeoutPrimitive(limited, 3)

    async def calls():
        await limited.execute("first", virtual.context())
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(
                    MapPrimitive(impatient, errors="collect").execute, [0], virtual.context()
                )
            tasks.start_soon(limited.execute, "last", virtual.context())

    await virtual.drive(calls)
    assert work.times == [1000, 1010]
    assert work.inputs == ["first", "last"]


async def test_primitives_may_share_a_limit(virtual):
    work, api = Starts(virtual), RateLimit(1, per=5, name="api")
    both = RateLimitPrimitive(work, api) | RateLimitPrimitive(work, api, max_wait=60)
    await virtual.drive(lambda: both.execute(0, virtual.context()))
    assert work.times == [1000, 1005]
    assert repr(api) == "<RateLimit 'api': 1 in 5 s>"
    assert virtual.reports == [("limited", {"limit": "api", "wait_seconds": 5})]


async def test_each_key_has_a_limit_of_its_own(virtual):
    work = Starts(virtual)
    limited = RateLimitPrimitive(work, 1, per=5, key=lambda call: call[0])

    async def calls():
        async with anyio.create_task_group() as tasks:
            for call in (("ada", 1), ("ada", 2), ("bob", 1), ("bob", 2)):
                tasks.start_soon(limited.execute, call, virtual.context())
                for _ in range(5):
                    await checkpoint()

    await virtual.drive(calls)
    assert work.inputs == [("ada", 1), ("bob", 1), ("ada", 2), ("bob", 2)]
    assert work.times == [1000, 1000, 1005, 1005]


async def test_keys_whose_time_is_over_are_forgotten(clock):
    api = RateLimit(1, per=1)
    limited = RateLimitPrimitive(abs, api, key=lambda number: number)
    context = clock.context()
    for number in range(5_000):
        await limited.execute(number, context)
        clock.now += 0.01
    assert len(api) < 1_500


async def test_time_on_another_clock_does_not_hold_a_call_up(make_virtual):
    limited = RateLimitPrimitive(str, 1, per=10, max_wait=0)
    for now in (1e9, 50.0):
        virtual = make_virtual()
        virtual.now = now
        assert await limited.execute(1, virtual.context()) == "1"
        with pytest.raises(RejectedError):
            await limited.execute(1, virtual.context())


def test_it_counts_over_one_event_loop_and_the_next():
    mock = MockPrimitive(return_value=1)
    limited = RateLimitPrimitive(mock, 1, per=3600, max_wait=1)
    assert limited.run_sync(0) == 1
    for backend in ("asyncio", "trio"):
        with pytest.raises(RejectedError):
            limited.run_sync(0, backend=backend)
    assert mock.call_count == 1


def test_waiting_calls_of_one_event_loop_leave_nothing_to_the_next():
    limited = RateLimitPrimitive(str, 100, per=1)
    for backend in ("asyncio", "trio"):
        assert MapPrimitive(limited).run_sync([1, 2], backend=backend) == ["1", "2"]


async def test_a_copy_has_a_line_of_its_own():
    limited = RateLimitPrimitive(str, 1, per=3600)
    await limited(1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limited, 1)
        await anyio.wait_all_tasks_blocked()
        restored = pickle.loads(pickle.dumps(limited))
        tasks.cancel_scope.cancel()
    with anyio.move_on_after(0.01) as scope:
        await restored(1)
    assert scope.cancelled_caught


async def test_a_failure_says_where_it_was():
    limited = RateLimitPrimitive(MockPrimitive("fetch", side_effect=OSError("down")), 1, per=1)
    with pytest.raises(OSError, match="down") as caught:
        await limited(1)
    assert caught.value.__notes__ == ["in step 'fetch' (fetch/limited)"]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 1), {}, "rate=0 must be positive, and finite"),
        ((math.inf, 1), {}, "rate=inf must be positive, and finite"),
        ((1, -1), {}, "per=-1 must be positive, and finite"),
        ((1, math.nan), {}, "per=nan must be positive, and finite"),
        ((1, 1), {"burst": 0}, "burst=0 must be at least 1"),
        ((1, 1), {"max_wait": -1}, "max_wait=-1 must not be negative"),
        ((1, 1), {"max_wait": math.nan}, "max_wait=nan must not be negative"),
    ],
)
def test_a_number_out_of_its_range_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        RateLimitPrimitive(str, *arguments, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((1,), {}, "rate=1 needs per="),
        ((RateLimit(1, 1), 1), {}, "per and burst belong to the limit that is shared"),
        ((RateLimit(1, 1),), {"burst": 2}, "per and burst belong to the limit that is shared"),
        ((1, 1), {"key": "id"}, "key='id' must be a function of the input"),
    ],
)
def test_an_option_of_another_kind_is_refused(arguments, options, message):
    with pytest.raises(TypeError, match=message):
        RateLimitPrimitive(str, *arguments, **options)
