import asyncio
import threading
import time
from datetime import UTC, datetime

import anyio
import anyio.to_thread
import pytest

from plait import (
    CachePrimitive,
    RetryPrimitive,
    StepTimeoutError,
    TimeoutPrimitive,
    WorkflowContext,
    step,
    workflow,
)
from plait.durable import DurableRunner, MemoryJournal, SqliteJournal
from plait.recovery import constant
from plait.testing import DeadlockError, VirtualClock
from plait.testing._clock._asyncio import AsyncioTime

pytestmark = pytest.mark.anyio

DAY = 24 * 60 * 60


async def test_a_wait_takes_no_time():
    async with VirtualClock() as clock:
        await anyio.sleep(DAY)
        assert clock.elapsed == DAY
        await WorkflowContext().sleep(0.5)
        assert clock.elapsed == DAY + 0.5


async def test_tasks_wait_beside_each_other():
    woken = []

    async def wait(seconds):
        await anyio.sleep(seconds)
        woken.append((seconds, clock.elapsed))

    async with VirtualClock() as clock, anyio.create_task_group() as tasks:
        for seconds in (3, 1, 2.25):
            tasks.start_soon(wait, seconds)
    assert woken == [(1, 1), (2.25, 2.25), (3, 3)]


async def test_a_thousand_retries_with_backoffs_of_minutes():
    attempts = 0

    @step
    async def flaky(_):
        nonlocal attempts
        attempts += 1
        if attempts <= 1000:
            raise ConnectionError
        return attempts

    started = time.process_time()
    async with VirtualClock() as clock:
        retry = RetryPrimitive(flaky, 1000, backoff=constant(300), jitter=False)
        assert await retry(None) == 1001
        await anyio.sleep(DAY)
        assert clock.elapsed == 1000 * 300 + DAY
    assert time.process_time() - started < 1  # 0.02 s on asyncio, 0.06 s on trio


async def test_deadlines_pass_by_it():
    async with VirtualClock() as clock:
        with pytest.raises(TimeoutError):
            await TimeoutPrimitive(step(anyio.sleep), 60)(DAY)
        assert clock.elapsed == 60
        with anyio.move_on_after(30):
            await anyio.sleep_forever()
        assert clock.elapsed == 90


async def test_what_is_kept_for_a_while_is_gone_by_it():
    calls = []
    cache = CachePrimitive(step(calls.append), ttl_seconds=3600)
    async with VirtualClock():
        for _ in range(2):
            await cache(1)
        assert len(calls) == 1
        await anyio.sleep(3601)
        await cache(1)
        assert len(calls) == 2


async def test_the_context_tells_its_time():
    async with VirtualClock(start=datetime(2030, 1, 1, tzinfo=UTC)) as clock:
        context = WorkflowContext()
        before = context.time()
        await context.sleep(DAY)
        assert context.time() - before == DAY
        assert context.now() == clock.now() == datetime(2030, 1, 2, tzinfo=UTC)
        assert repr(clock) == "<VirtualClock 2030-01-02 00:00:00, 86400 s passed>"
    assert clock.elapsed == DAY
    assert context.now() == datetime(2030, 1, 2, tzinfo=UTC)
    assert abs(WorkflowContext().now().timestamp() - time.time()) < 10


async def test_a_context_of_another_thread_tells_the_real_time():
    def other():
        return WorkflowContext().now().timestamp()

    async with VirtualClock(start=datetime(2030, 1, 1, tzinfo=UTC)):
        assert abs(await anyio.to_thread.run_sync(other) - time.time()) < 10


async def test_time_is_let_pass_by_hand():
    async with VirtualClock() as clock:
        before = clock.time()
        clock.advance(5)
        clock.advance(0)
        assert clock.time() - before == clock.elapsed == 5
        with pytest.raises(ValueError, match="seconds=-1 must not be negative"):
            clock.advance(-1)
    with pytest.raises(RuntimeError, match="enter the clock first"):
        clock.advance(1)


async def test_a_clock_goes_on_where_it_was_left():
    clock = VirtualClock()
    for day in (1, 2):
        async with clock:
            await anyio.sleep(DAY)
        assert clock.elapsed == day * DAY
    assert abs(clock.time() - time.monotonic()) < 1


async def test_a_clock_is_entered_once():
    async with VirtualClock() as clock:
        with pytest.raises(RuntimeError, match="entered already"):
            await clock.__aenter__()


async def test_one_clock_inside_another_is_refused():
    async with VirtualClock():
        with pytest.raises(RuntimeError, match="another VirtualClock"):
            await VirtualClock().__aenter__()


async def test_outside_time_is_real_again():
    async with VirtualClock():
        await anyio.sleep(DAY)
    started = time.perf_counter()
    await anyio.sleep(0.05)
    assert time.perf_counter() - started >= 0.04


def test_a_function_runs_under_a_clock_of_its_own(anyio_backend):
    clock = VirtualClock()

    async def main(seconds):
        await anyio.sleep(seconds)
        return "done"

    assert clock.run(main, DAY, backend=anyio_backend) == "done"
    assert clock.elapsed == DAY


# Threads.


async def test_time_stands_still_while_a_worker_thread_is_at_work():
    async with VirtualClock() as clock:
        with anyio.fail_after(0.001):
            assert await anyio.to_thread.run_sync(lambda: time.sleep(0.05) or "done") == "done"
        assert clock.elapsed == 0


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_time_stands_still_while_the_default_executor_is_at_work():
    async with VirtualClock() as clock, asyncio.timeout(0.001):
        await asyncio.to_thread(time.sleep, 0.05)
        assert clock.elapsed == 0
        await asyncio.sleep(0)


async def test_a_durable_run_with_a_wait_of_a_day_on_a_file(tmp_path):
    @step
    async def approved(order):
        return f"{order} approved"

    @workflow
    async def approval(order, context: WorkflowContext):
        await context.sleep(DAY)
        return await approved(order)

    async with (
        VirtualClock() as clock,
        DurableRunner(f"sqlite:///{tmp_path}/runs.db") as runner,
    ):
        assert await runner.run(approval, "order-1") == "order-1 approved"
        assert clock.elapsed == pytest.approx(DAY)


async def test_many_durable_runs_wait_beside_each_other(tmp_path):
    @workflow
    async def wait(hours, context: WorkflowContext):
        await context.sleep(3600 * hours)
        return hours

    async with (
        VirtualClock() as clock,
        DurableRunner(f"sqlite:///{tmp_path}/runs.db") as runner,
    ):
        runs = [await runner.start(wait, hours) for hours in range(20)]
        assert [await run.result() for run in runs] == list(range(20))
        assert clock.elapsed == pytest.approx(19 * 3600)


@pytest.fixture(params=["file", "memory"])
def journal(request, tmp_path):
    return MemoryJournal() if request.param == "memory" else SqliteJournal(tmp_path / "runs.db")


async def test_a_run_that_leaves_memory_for_days_takes_no_time(journal):
    @workflow
    async def approval(order, context: WorkflowContext):
        by = await context.wait_for("approved", str, timeout=2 * DAY)
        await context.sleep(DAY)
        return f"{order} approved by {by}"

    began = time.process_time()
    async with VirtualClock() as clock, DurableRunner(journal) as runner:
        run = await runner.start(approval, "order-1")
        await anyio.sleep(DAY)
        assert (await run.info()).status == "waiting"
        await run.signal("approved", "ada")
        await anyio.sleep(DAY / 2)
        assert (await run.info()).status == "waiting"
        assert await run.result() == "order-1 approved by ada"
        assert clock.elapsed == pytest.approx(2 * DAY, abs=1)
    assert time.process_time() - began < 1  # 0.03 s


async def test_a_wait_out_of_memory_is_over_when_its_time_has_come(journal):
    @workflow
    async def approval(order, context: WorkflowContext):
        await context.wait_for("approved", timeout=DAY)

    async with VirtualClock() as clock, DurableRunner(journal) as runner:
        with pytest.raises(StepTimeoutError):
            await runner.run(approval, "order-1")
        assert clock.elapsed == pytest.approx(DAY, abs=1)


async def test_what_another_runner_writes_is_seen_before_time_jumps(tmp_path):
    @workflow
    async def approval(order, context: WorkflowContext):
        return await context.wait_for("approved", str, timeout=DAY)

    address = f"sqlite:///{tmp_path}/runs.db"
    async with (
        VirtualClock() as clock,
        DurableRunner(address, suspend_after=2 * DAY) as runner,
        DurableRunner(address) as other,
    ):
        run = await runner.start(approval, "order-1", run_id="run")
        await anyio.sleep(60)
        await other.signal("run", "approved", "ada")
        assert await run.result() == "ada"
        assert clock.elapsed == pytest.approx(60, abs=5)


async def test_a_durable_run_that_nothing_wakes_is_a_deadlock(journal):
    @workflow
    async def approval(order, context: WorkflowContext):
        await context.wait_for("approved")

    with pytest.raises(DeadlockError, match=r"await runner\.run"):
        async with VirtualClock(patience_seconds=0.05), DurableRunner(journal) as runner:
            await runner.run(approval, "order-1")


async def test_a_timer_of_many_is_found_behind_those_that_were_cancelled():
    async def wait(seconds):
        with anyio.move_on_after(seconds):
            await anyio.sleep_forever()

    async with VirtualClock() as clock, anyio.create_task_group() as tasks:
        for seconds in range(1, 40):
            with anyio.move_on_after(seconds):
                await anyio.lowlevel.checkpoint()
        for seconds in (7, 300, 20):
            tasks.start_soon(wait, seconds)
    assert clock.elapsed == 300


async def test_a_moment_may_be_left_for_what_comes_from_elsewhere():
    async with VirtualClock(idle_seconds=0.3) as clock:
        woken = anyio.Event()
        token = anyio.lowlevel.current_token()
        timer = threading.Timer(0.05, anyio.from_thread.run_sync, [woken.set], {"token": token})
        timer.start()
        with anyio.fail_after(60):
            await woken.wait()
        assert clock.elapsed == 0
        timer.join()
        await anyio.sleep(60)
        assert clock.elapsed == 60


async def test_sockets_are_served_meanwhile():
    async def echo(stream):
        async with stream:
            await stream.send(await stream.receive())

    async with (
        VirtualClock(idle_seconds=0.3) as clock,
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, echo)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        with anyio.fail_after(60):
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(b"hello")
                assert await stream.receive() == b"hello"
        assert clock.elapsed == 0
        tasks.cancel_scope.cancel()


# Deadlocks.


async def wait_for_nobody():
    await anyio.Event().wait()


async def test_a_deadlock_is_told():
    @step
    async def stuck(_):
        await wait_for_nobody()

    @step
    async def held(_, context: WorkflowContext):
        await context.step("again", wait_for_nobody)

    with pytest.raises(DeadlockError) as caught:
        async with VirtualClock(patience_seconds=0.05):
            await (step(str) >> (stuck | held)).named("orders")(1)
    message = str(caught.value)
    assert message.startswith("nothing can happen any more: no timer is set, no thread is at work")
    assert "at 'orders/2:parallel/1:stuck' waits in wait_for_nobody (test_virtual_clock" in message
    assert ": await anyio.Event().wait()" in message


def test_a_deadlock_in_the_way_out_is_told():
    async def main():
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await wait_for_nobody()

    with pytest.raises(DeadlockError, match="sleep_forever"):
        VirtualClock(patience_seconds=0.05).run(main)


async def test_an_error_on_the_way_out_of_a_deadlock_is_raised_with_a_note_of_it():
    with pytest.raises(LookupError) as caught:  # noqa: PT012
        async with VirtualClock(patience_seconds=0.05):
            try:
                await wait_for_nobody()
            finally:
                raise LookupError
    assert "nothing can happen any more" in caught.value.__notes__[-1]


def test_another_kind_of_event_loop_is_refused():
    with pytest.raises(RuntimeError, match="an event loop of asyncio's own, got object"):
        AsyncioTime(VirtualClock(), object())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": datetime(2030, 1, 1)}, "has no time zone"),  # noqa: DTZ001
        ({"idle_seconds": -1}, "must not be negative"),
        ({"patience_seconds": -1}, "must not be negative"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        VirtualClock(**arguments)
