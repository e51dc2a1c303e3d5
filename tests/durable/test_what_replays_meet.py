"""What a replay comes upon that is no longer as it was: calls, their order, and what is stored."""

import sqlite3

import anyio
import pytest
from interruption import Gate, carry_on, interrupt
from waiting import runner_of, until_waiting

from plait import (
    CompensationPrimitive,
    MapPrimitive,
    WorkflowContext,
    step,
    workflow,
)
from plait.durable import (
    DurableRunner,
    JournalError,
    JsonCodec,
    RunCancelledError,
    WorkflowChangedError,
)
from plait.testing import assert_replays

pytestmark = pytest.mark.anyio


async def test_a_body_that_ends_before_calls_it_had_made_is_refused(journal):
    gate = Gate()

    @step
    async def charge(order: int) -> int:
        return order

    @step
    async def ship(order: int) -> int:
        return order

    @workflow(name="orders")
    async def before(order: int) -> int:
        await charge(order)
        await ship(order)
        return await step(gate)(order)

    @workflow(name="orders")
    async def since(order: int) -> int:
        return await charge(order)

    await interrupt(journal, before, 42, gate)
    with pytest.raises(WorkflowChangedError, match="'orders/2:ship' is recorded, and is not"):
        await carry_on(journal, since)


async def test_what_divides_paths_may_be_in_the_name_of_a_call(journal):
    gate, paths = Gate(), []

    @workflow
    async def fetch(url: str, context: WorkflowContext) -> str:
        async def load(url: str, context: WorkflowContext) -> str:
            paths.append(context.path)
            return url

        await step(name="GET /orders#1[a]")(load)(url)
        return await step(gate)(url)

    await interrupt(journal, fetch, "/", gate)
    assert await carry_on(journal, fetch) == "/"
    assert paths == ["fetch/1:GET %2Forders%231%5Ba]"]


async def test_tasks_may_come_in_another_order_after_a_crash(journal):
    """What was under way has no record, and what had finished keeps the places around it."""
    gate, calls = Gate(), []

    @step
    async def fetch(name: str, context: WorkflowContext) -> str:
        calls.append((name, context.path))
        return await gate(name) if name == "slow" else name

    order = ["first", "slow", "last"]

    @workflow
    async def gather(_: None, context: WorkflowContext) -> list[str]:
        return sorted(await context.gather(*(fetch(name) for name in order)))

    async with DurableRunner(journal, workflows=[gather], grace_seconds=0) as runner:
        await runner.start(gather, None, run_id="run")
        await gate.reached.wait()
        await anyio.wait_all_tasks_blocked()
    gate.open()
    order = ["slow", "last", "first"]
    assert await carry_on(journal, gather) == ["first", "last", "slow"]
    assert calls.pop() == ("slow", "gather/2:fetch")
    assert sorted(calls) == [
        ("first", "gather/1:fetch"),
        ("last", "gather/3:fetch"),
        ("slow", "gather/2:fetch"),
    ]


async def test_a_call_that_its_body_cancelled_is_cancelled_again(journal):
    gate, calls = Gate(), []

    @step
    async def ask(mirror: str) -> str:
        calls.append(mirror)
        await anyio.sleep_forever()

    @workflow
    async def fetch(_: None) -> str:
        with anyio.move_on_after(0.02):
            await ask("slow")
        return await step(gate)("from elsewhere")

    await interrupt(journal, fetch, None, gate)
    assert await carry_on(journal, fetch) == "from elsewhere"
    assert calls == ["slow"]


async def test_leaving_memory_undoes_nothing_whatever_code_makes_of_it(journal):
    undone = []

    @step
    async def reserve(order: int) -> int:
        return order

    reserved = CompensationPrimitive(reserve, undone.append)

    @workflow
    async def orders(order: int, context: WorkflowContext) -> str:
        await reserved(order)
        try:
            return await context.wait_for("approval", str)
        except BaseException:  # noqa: BLE001 - what this is about
            raise ValueError("was interrupted") from None

    async with runner_of(journal, orders) as runner:
        run = await runner.start(orders, 42, run_id="run")
        await until_waiting(runner, "run")
        await run.signal("approval", "granted")
        assert await run.result() == "granted"
    assert undone == []


async def test_all_that_a_cancelled_body_shields_is_still_done(journal):
    """Of the branches that came to where the run had stood, only the waiting one is stopped."""
    done, has_begun = [], False

    @workflow
    async def orders(_: None, context: WorkflowContext) -> None:
        async def clean_up() -> None:
            with anyio.CancelScope(shield=has_begun):
                await (context.step("free", done.append, 1) if has_begun else context.sleep(60))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(context.wait_for, "approval")
            tasks.start_soon(clean_up)

    async with runner_of(journal, orders) as runner:
        await runner.start(orders, None, run_id="run")
        await until_waiting(runner, "run")
    has_begun = True
    async with runner_of(journal) as runner:
        await runner.cancel("run")
    async with runner_of(journal, orders) as runner:
        run = await runner.get("run")
        with pytest.raises(RunCancelledError):
            await run.result()
    assert done == [1]


async def test_the_elements_of_a_map_may_be_too_much_for_one_record(journal):
    repeat = step("a".__mul__, name="repeat")
    lengths = (MapPrimitive(repeat) >> len).named("lengths")
    async with DurableRunner(journal, codec=JsonCodec(max_bytes=5_000)) as runner:
        run = await runner.start(lengths, [3_000, 3_000], run_id="run")
        assert await run.result() == 2
        assert await assert_replays(lengths, runner) == 1


async def test_a_large_map_is_kept_element_by_element(journal, file):
    repeat = step("a".__mul__, name="repeat")
    lengths = (MapPrimitive(repeat) >> len).named("lengths")
    async with DurableRunner(journal) as runner:
        assert await runner.run(lengths, [60_000] * 5, run_id="run") == 5
        assert await assert_replays(lengths, runner) == 1
    connection = sqlite3.connect(file)
    rows = connection.execute("SELECT path FROM records WHERE path LIKE '%[%'").fetchall()
    connection.close()
    assert len(rows) == 5


async def test_a_step_is_told_the_time_it_is(journal):
    @step
    async def stamp(_: None, context: WorkflowContext) -> float:
        return context.now().timestamp()

    async with DurableRunner(journal) as runner:
        assert await runner.run(stamp, None) > 0


async def test_a_signal_that_cannot_be_decoded_ends_the_replay(journal, file):
    gate = Gate()

    @workflow
    async def orders(_: None, context: WorkflowContext) -> str:
        answer = await context.wait_for("approval", str)
        return await step(gate)(answer)

    async with DurableRunner(journal, workflows=[orders], grace_seconds=0) as runner:
        run = await runner.start(orders, None, run_id="run")
        await run.signal("approval", "granted")
        await gate.reached.wait()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE records SET payload = x'7B' WHERE path LIKE '%#signal:%'")
    connection.close()
    with pytest.raises(JournalError, match="approval"):
        await carry_on(journal, orders)
    with pytest.raises(JournalError, match="approval"):
        await assert_replays(orders, journal)


class Keyless(JsonCodec):
    """Has lost the key that inputs were made comparable with."""

    def digest(self, value: object, like: bytes = b"") -> bytes:
        if like:
            raise ValueError("the key is gone")
        return super().digest(value)


async def test_a_run_whose_inputs_cannot_be_compared_any_more_ends_there(journal):
    gate = Gate()
    orders = (step(str) >> gate).named("orders")
    await interrupt(journal, orders, 42, gate)
    async with DurableRunner(journal, workflows=[orders], codec=Keyless()) as runner:
        run = await runner.get("run")
        with pytest.raises(JournalError, match="'run' cannot be decoded: the key is gone"):
            await run.result()
    assert await carry_on(journal, orders) == "42"
