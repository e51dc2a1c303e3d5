"""What waits for time does so on the virtual clock, whichever part of plait or the loop it is."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import anyio
import anyio.to_thread
import pytest
import sniffio
import trio

from plait import (
    BatchPrimitive,
    CachePrimitive,
    CircuitBreakerPrimitive,
    CircuitOpenError,
    ConcurrencyLimitPrimitive,
    HedgePrimitive,
    MapPrimitive,
    MockPrimitive,
    RateLimitPrimitive,
    RejectedError,
    RetryPrimitive,
    StepTimeoutError,
    TimeoutPrimitive,
    WorkflowContext,
    step,
    workflow,
)
from plait.durable import DurableRunner, MemoryJournal, Queue, Schedule
from plait.observability import Instrument, add_instrument, remove_instrument
from plait.testing import VirtualClock

pytestmark = pytest.mark.anyio

HOUR = 60 * 60
DAY = 24 * HOUR


@pytest.fixture
def clock():
    return VirtualClock(start=datetime(2030, 1, 1, tzinfo=UTC))


async def test_a_breaker_lets_calls_pass_again_after_its_time(clock):
    bank = MockPrimitive("bank", side_effect=[ConnectionError, "paid"])
    breaker = CircuitBreakerPrimitive(bank, failure_threshold=1, recovery_timeout=HOUR)
    async with clock:
        with pytest.raises(ConnectionError):
            await breaker(42)
        await anyio.sleep(HOUR - 1)
        with pytest.raises(CircuitOpenError):
            await breaker(42)
        await anyio.sleep(1)
        assert await breaker(42) == "paid"


async def test_a_rate_limit_spreads_calls_over_a_day(clock):
    limited = RateLimitPrimitive(str, 1, per=HOUR)
    async with clock:
        assert await MapPrimitive(limited)(range(25)) == [str(number) for number in range(25)]
        assert clock.elapsed == pytest.approx(DAY)


async def test_a_limit_is_waited_for_no_longer_than_it_may(clock):
    limited = ConcurrencyLimitPrimitive(anyio.sleep, 1, max_wait=HOUR)
    async with clock, anyio.create_task_group() as tasks:
        tasks.start_soon(limited, DAY)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(RejectedError, match="none was free in 3600 s"):
            await limited(0)
        assert clock.elapsed == HOUR


async def test_a_batch_is_gathered_for_as_long_as_it_says(clock):
    batch = BatchPrimitive(lambda numbers: [2 * number for number in numbers], 10, HOUR)
    async with clock:
        assert await batch(21) == 42
        assert clock.elapsed == HOUR


async def test_a_hedge_goes_out_after_its_time(clock):
    @step
    async def read(_, context: WorkflowContext):
        await anyio.sleep(DAY if context.attempt == 1 else 0)
        return context.attempt

    async with clock:
        assert await HedgePrimitive(read, HOUR)(None) == 2
        assert clock.elapsed == HOUR


async def test_a_stale_result_is_served_for_as_long_as_it_may_be(clock):
    calls = []
    cache = CachePrimitive(step(calls.append), ttl_seconds=HOUR, stale_seconds=HOUR)
    async with clock:
        await cache(1)
        await anyio.sleep(3 * HOUR)
        await cache(1)
    assert calls == [1, 1]


@pytest.fixture(params=["unobserved", "observed"])
def observed(request):
    instrument = Instrument()
    if request.param == "observed":
        add_instrument(instrument)
    yield
    if request.param == "observed":
        remove_instrument(instrument)


@pytest.mark.usefixtures("observed")
async def test_what_a_server_asks_for_is_waited(clock):
    @step
    async def busy(_, context: WorkflowContext):
        if context.attempt == 1:
            raise RejectedError("too many", "api", retry_after=HOUR)
        return context.now()

    async with clock:
        assert await RetryPrimitive(busy, 1)(None) == datetime(2030, 1, 1, 1, tzinfo=UTC)


async def test_the_event_loops_own_waits(clock):
    async def wait_by_the_loops_own(seconds):
        if sniffio.current_async_library() == "trio":
            with trio.move_on_after(seconds) as scope:
                await trio.sleep(DAY)
            return scope.cancelled_caught
        try:
            async with asyncio.timeout(seconds):
                await asyncio.sleep(DAY)
        except TimeoutError:
            return True

    async with clock:
        assert await step(wait_by_the_loops_own)(HOUR)
        assert clock.elapsed == HOUR


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_asyncio_has_besides(clock):
    async with clock:
        called = []
        asyncio.get_running_loop().call_later(HOUR, called.append, "called")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 2 * HOUR)
        assert called == ["called"]
        waiting = asyncio.create_task(asyncio.sleep(DAY))
        _, pending = await asyncio.wait([waiting], timeout=HOUR)
        assert pending == {waiting}
        assert clock.elapsed == 3 * HOUR
        waiting.cancel()


async def test_a_step_in_a_thread_takes_no_time_at_all(clock):
    @step(thread=True)
    def work(seconds):
        time.sleep(seconds)
        return "done"

    async with clock:
        assert await TimeoutPrimitive(work, 0.001)(0.05) == "done"
        assert clock.elapsed == 0


async def test_schedules_start_their_runs(clock):
    started = []

    @workflow
    async def report(name, context: WorkflowContext):
        passed = context.now() - datetime(2030, 1, 1, tzinfo=UTC)
        started.append((name, passed // timedelta(hours=1)))

    morning = Schedule(report, "0 9 * * *", "morning", name="morning")
    quarterly = Schedule(report, timedelta(hours=6), "quarter", name="quarter")
    began = time.process_time()
    async with clock, DurableRunner(MemoryJournal(), schedules=[morning, quarterly]):
        await anyio.sleep(2 * DAY + 60)
    assert sorted(hour for name, hour in started if name == "morning") == [9, 33]
    assert [hour for name, hour in started if name == "quarter"] == [6, 12, 18, 24, 30, 36, 42, 48]
    assert time.process_time() - began < 1  # 0.03 s


async def test_a_month_of_a_schedule_is_not_looked_at_twice_a_minute(clock):
    monthly = Schedule(step(str), "0 0 1 * *", "report", name="monthly")
    began = time.process_time()
    async with clock, DurableRunner(MemoryJournal(), schedules=[monthly]) as runner:
        await anyio.sleep(32 * DAY)
        assert await (await runner.get("monthly@2030-02-01T00:00:00+00:00")).result() == "report"
    assert time.process_time() - began < 1  # 0.01 s, where 90,000 looks took 30 s


async def test_queues_and_delays(clock):
    begun = []

    @workflow
    async def send(number, context: WorkflowContext):
        begun.append((number, clock.elapsed))

    mail = Queue("mail", rate=1, per=HOUR)
    async with clock, DurableRunner(MemoryJournal(), queues=[mail]) as runner:
        runs = [await runner.start(send, number, queue="mail") for number in range(3)]
        late = await runner.start(send, "late", delay=DAY)
        for run in (*runs, late):
            await run.result()
    assert begun == [
        (0, pytest.approx(0, abs=1)),
        (1, pytest.approx(HOUR, abs=2)),
        (2, pytest.approx(2 * HOUR, abs=3)),
        ("late", pytest.approx(DAY, abs=1)),
    ]


async def test_a_run_holds_its_lease_for_days(clock, tmp_path):
    executed = []

    @step
    async def long_step(_):
        executed.append(clock.elapsed)
        await anyio.sleep(10 * DAY)

    address = f"sqlite:///{tmp_path}/runs.db"
    async with clock, DurableRunner(address) as first, DurableRunner(address):
        with pytest.raises(StepTimeoutError):
            await first.run(TimeoutPrimitive(long_step, 5 * DAY), None)
        assert len(executed) == 1
        assert clock.elapsed == pytest.approx(5 * DAY, abs=5)
