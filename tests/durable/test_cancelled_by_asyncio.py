"""asyncio's own cancelling, which knows no scopes and no shields, in the moments that matter."""

import asyncio
import gc

import anyio
import pytest
from interruption import Gate
from waiting import runner_of

from plait import CompensationPrimitive, WorkflowContext, step, workflow
from plait.durable import JournalError, RunCancelledError, SqliteJournal, TransactionStep
from plait.durable._stored import Kind

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]


async def in_time(call, moment):
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as timeout, asyncio.TaskGroup() as tasks:

        async def expire():
            await moment.wait()
            timeout.reschedule(loop.time())

        expiring = tasks.create_task(expire())
        await call
        expiring.cancel()


async def by_its_task(call, moment):
    task = asyncio.ensure_future(call)
    await moment.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.01)
    try:
        await task
    except asyncio.CancelledError:
        raise TimeoutError from None


ways = pytest.mark.parametrize("give_up", [in_time, by_its_task])


@pytest.fixture
def slow(monkeypatch):
    """Has the journal answer late to what a condition chooses; tells when that is on disk."""

    def slow(name, is_slow=lambda *arguments: True):
        method, is_done = getattr(SqliteJournal, name), anyio.Event()

        async def late(self, arguments):
            result = await method(self, *arguments)
            is_done.set()
            await asyncio.sleep(0.2)
            return result

        def answer(self, *arguments):
            return late(self, arguments) if is_slow(*arguments) else method(self, *arguments)

        monkeypatch.setattr(SqliteJournal, name, answer)
        return is_done

    return slow


async def ends(journal, order, gate):
    """What a run returns that is interrupted at a gate and carried on, and no task is left."""
    before = asyncio.all_tasks()
    async with runner_of(journal, order) as runner:
        await runner.start(order, None, run_id="run")
        with anyio.fail_after(10):
            await gate.reached.wait()
    gate.open()
    async with runner_of(journal, order) as runner:
        result = await (await runner.get("run")).result()
        assert (await runner.verify("run")).fits
    assert asyncio.all_tasks() == before
    return result


@ways
async def test_a_failure_that_is_being_recorded_was_cancelled(journal, slow, give_up):
    moment = slow("append", lambda record: record.kind == Kind.ERROR)
    gate, calls = Gate(), []

    @step
    async def charge(total: int) -> int:
        calls.append(total)
        raise ConnectionError

    @workflow
    async def order(_: None, context: WorkflowContext) -> str:
        try:
            await give_up(charge(42), moment)
        except TimeoutError:
            return await context.step("gate", gate, "late")
        return "in time"

    assert await ends(journal, order, gate) == "late"
    assert calls == [42]


@ways
async def test_a_result_that_is_being_recorded_is_undone(journal, slow, give_up):
    moment = slow("append", lambda record: record.path.endswith("forward"))
    gate, events = Gate(), []

    @step
    async def reserve(seat: int) -> str:
        events.append("reserved")
        return f"seat {seat}"

    @step
    async def release(seat: str) -> None:
        events.append(f"released {seat}")

    @workflow
    async def order(_: None, context: WorkflowContext) -> None:
        try:
            await give_up(CompensationPrimitive(reserve, release)(12), moment)
        except TimeoutError:
            await context.step("gate", gate, "late")
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await ends(journal, order, gate)
    assert events == ["reserved", "released seat 12"]


@ways
async def test_a_transaction_that_is_being_committed_is_undone(journal, slow, give_up):
    moment = slow("transact")
    gate, events = Gate(), []

    @TransactionStep
    def reserve(seat, database):
        events.append("reserved")
        return f"seat {seat}"

    @step
    async def release(seat: str) -> None:
        events.append(f"released {seat}")

    @workflow
    async def order(_: None, context: WorkflowContext) -> None:
        try:
            await give_up(CompensationPrimitive(reserve, release)(12), moment)
        except TimeoutError:
            await context.step("gate", gate, "late")
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await ends(journal, order, gate)
    assert events == ["reserved", "released seat 12"]


async def test_a_transaction_that_is_being_committed_is_undone_with_its_run(journal, slow):
    moment = slow("transact")
    events = []

    @TransactionStep
    def reserve(seat, database):
        events.append("reserved")
        return f"seat {seat}"

    @step
    async def release(seat: str) -> None:
        events.append(f"released {seat}")

    booking = (CompensationPrimitive(reserve, release) >> Gate()).named("booking")
    async with runner_of(journal, booking) as runner:
        run = await runner.start(booking, 12, run_id="run")
        await moment.wait()
        await run.cancel()
        with pytest.raises(RunCancelledError):
            await run.result()
    assert events == ["reserved", "released seat 12"]


@ways
async def test_what_is_undone_meanwhile_is_undone_to_the_end(journal, give_up):
    gate, events, moment = Gate(), [], anyio.Event()

    @step
    async def reserve(seat: int) -> str:
        return f"seat {seat}"

    @step
    async def release(seat: str) -> None:
        moment.set()
        await asyncio.sleep(0.1)
        events.append(f"released {seat}")

    @step
    async def pay(seat: str) -> str:
        raise PermissionError

    booking = CompensationPrimitive(reserve, release)

    @workflow
    async def order(_: None, context: WorkflowContext) -> str:
        try:
            await give_up((booking >> booking >> pay)(12), moment)
        except TimeoutError:
            return await context.step("gate", gate, "late")
        return "in time"

    assert await ends(journal, order, gate) == "late"
    assert events == ["released seat seat 12", "released seat 12"]


@ways
async def test_calls_that_are_gathered_end_together(journal, give_up):
    gate, events, moment = Gate(), [], anyio.Event()

    async def undone(number):
        events.append(f"begun {number}")
        if number == 2:
            moment.set()
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0)
            events.append(f"ended {number}")

    @workflow
    async def order(_: None, context: WorkflowContext) -> str:
        calls = [context.step("undone", undone, number) for number in range(3)]
        waits = [context.sleep(20), context.wait_for("go")]
        try:
            await give_up(context.gather(*waits, *calls), moment)
        except TimeoutError:
            return await context.step("gate", gate, f"late, {len(events)} events")
        return "in time"

    assert await ends(journal, order, gate) == "late, 6 events"


async def test_a_run_whose_task_is_cancelled_goes_on_in_another_runner(journal):
    """As every task is where a program ends that has not left its runner."""
    tasks, gate = [], Gate()

    @workflow
    async def order(number: int, context: WorkflowContext) -> int:
        tasks.append(asyncio.current_task())
        return await context.step("gate", gate, number)

    async with runner_of(journal, order) as runner:
        run = await runner.start(order, 42, run_id="run")
        await gate.reached.wait()
        tasks[0].cancel()
        with anyio.fail_after(10), pytest.raises(JournalError, match="was cancelled, and the run"):
            await run.result()
        assert (await run.info()).status == "running"
        gate.open()
        assert await runner.run(order, 43) == 43
    async with runner_of(journal, order) as runner:
        assert await (await runner.get("run")).result() == 42


async def test_a_run_whose_task_is_cancelled_as_it_ends_has_ended(journal, slow):
    moment, tasks = slow("finish"), []

    @workflow
    async def order(number: int, context: WorkflowContext) -> int:
        tasks.append(asyncio.current_task())
        return number

    async with runner_of(journal, order) as runner:
        run = await runner.start(order, 42)
        await moment.wait()
        tasks[0].cancel()
        assert await run.result() == 42


@ways
async def test_an_entity_that_is_being_released_is_free(journal, slow, give_up):
    moment, gate = slow("release"), Gate()

    @workflow
    async def order(_: None, context: WorkflowContext) -> list:
        async def change():
            async with context.entity(list, "cart") as cart:
                cart.append("book")

        try:
            await give_up(change(), moment)
        except TimeoutError:
            await context.step("gate", gate, None)
        async with context.entity(list, "cart") as cart:
            return [*cart, "late"]

    assert await ends(journal, order, gate) == ["book", "late"]


# Of a task that is cancelled before it has begun: what it was to do was not begun either.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("turns", [*range(4), "inside", "release", "acquire"])
async def test_an_entity_is_changed_once_where_a_program_dies_by_cancelling_all_tasks(
    journal, slow, turns
):
    """As on Ctrl-C, where the program has not left its runner."""
    moment = slow(turns, lambda *_: moments) if turns in ("release", "acquire") else None
    moments = []

    @workflow
    async def put(item: str, context: WorkflowContext) -> list:
        async with context.entity(list, "cart") as cart:
            cart.append(item)
            for reached in moments:
                reached.set()
                if turns == "inside":
                    await asyncio.sleep(10)
        return cart

    async def program():
        async with runner_of(journal, put) as runner:
            await runner.run(put, "book")
            moments.append(asyncio.Event())
            run = await runner.start(put, "pen", run_id="run")
            asyncio.create_task(die())  # noqa: RUF006 - it ends them all
            await run.result()

    async def die():
        await (moments[0] if moment is None else moment).wait()
        for _ in range(turns if isinstance(turns, int) else 0):
            await asyncio.sleep(0)
        for task in asyncio.all_tasks():
            task.cancel()

    def execute():
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(program())

    await anyio.to_thread.run_sync(execute)
    gc.collect()
    moments.clear()
    async with runner_of(journal, put) as runner:
        assert await (await runner.get("run")).result() == ["book", "pen"]
        assert await runner.run(put, "ink") == ["book", "pen", "ink"]
