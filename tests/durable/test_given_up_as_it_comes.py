"""A wait that is given up in the moment in which what it waits for is taken from the journal."""

import asyncio
from dataclasses import dataclass, field

import anyio
import pytest
from interruption import Gate
from waiting import runner_of

from plait import StepTimeoutError, WorkflowContext, step, workflow
from plait.durable import JournalError, SqliteJournal
from plait.durable._stored import Kind

# Only asyncio's cancelling breaks into what is taken; trio's waits until it is there.
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]


@dataclass
class Basket:
    items: list = field(default_factory=list)


@pytest.fixture
def slow(monkeypatch):
    """Has the journal answer late, the first time that it hands something out."""
    answers = []

    def slow(name):
        method = getattr(SqliteJournal, name)

        async def late(self, *arguments):
            answer = await method(self, *arguments)
            if answer is not None:
                answers.append(answer)
                if len(answers) == 1:
                    await anyio.sleep(0.1)
            return answer

        monkeypatch.setattr(SqliteJournal, name, late)

    return slow


async def test_the_next_wait_gets_the_signal_also_after_a_restart(journal, slow):
    slow("receive")
    gate, tries = Gate(), []

    @workflow
    async def order(_: None, context: WorkflowContext) -> list:
        tries.append("first")
        try:
            return [await context.within(0.05, lambda: context.wait_for("item"))]
        except StepTimeoutError:
            tries.append("gave up")
        got = await context.wait_for("item")
        return [got, await context.step("gate", gate, "after")]

    async with runner_of(journal, order, suspend_after=5) as runner:
        await runner.start(order, None, run_id="run")
        await runner.signal("run", "item", "book")
        await gate.reached.wait()
    gate.open()
    async with runner_of(journal, order, suspend_after=5) as runner:
        assert await (await runner.get("run")).result() == ["book", "after"]
        assert (await runner.verify("run")).fits
    assert tries == ["first", "gave up"] * 3


async def test_the_next_wait_gets_the_signal_if_the_process_dies_before_it(journal, slow):
    slow("receive")
    gate = Gate()

    @workflow
    async def order(_: None, context: WorkflowContext) -> list:
        try:
            return [await asyncio.wait_for(context.wait_for("item"), 0.05)]
        except TimeoutError:
            await context.step("gate", gate, None)
        return ["late", await context.wait_for("item"), await context.wait_for("item")]

    async with runner_of(journal, order, suspend_after=5) as runner:
        run = await runner.start(order, None, run_id="run")
        await run.signal("item", "book")
        await gate.reached.wait()
        await run.signal("item", "pen")
    gate.open()
    async with runner_of(journal, order, suspend_after=5) as runner:
        assert await (await runner.get("run")).result() == ["late", "book", "pen"]
        assert (await runner.verify("run")).fits


async def test_a_wait_that_was_there_before_gets_the_signal(journal, slow):
    slow("receive")
    gate = Gate()

    @workflow
    async def order(_: None, context: WorkflowContext) -> list:
        hasty = asyncio.create_task(context.wait_for("item"))
        patient = asyncio.create_task(context.wait_for("item"))
        await asyncio.wait({hasty}, timeout=0.05)
        hasty.cancel()
        return [await patient, await context.step("gate", gate, "after")]

    async with runner_of(journal, order, suspend_after=5) as runner:
        run = await runner.start(order, None, run_id="run")
        await run.signal("item", "book")
        await gate.reached.wait()
    gate.open()
    async with runner_of(journal, order, suspend_after=5) as runner:
        assert await (await runner.get("run")).result() == ["book", "after"]
        assert (await runner.verify("run")).fits


async def test_a_signal_goes_from_hand_to_hand_and_is_not_doubled(journal, slow, monkeypatch):
    slow("receive")
    gate = Gate()

    @workflow
    async def order(_: None, context: WorkflowContext) -> list:
        got = []
        for _ in range(3):
            task = asyncio.create_task(context.wait_for("item"))
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.wait({task})
        got.append(await context.wait_for("item"))
        await context.step("gate", gate, None)
        return [*got, await context.wait_for("item")]

    append = SqliteJournal.append

    def slow_append(self, record):
        async def late():
            await append(self, record)
            await anyio.sleep(0.1)

        is_signal = record.kind == Kind.VALUE and "#signal:" in record.path
        return late() if is_signal else append(self, record)

    monkeypatch.setattr(SqliteJournal, "append", slow_append)
    async with runner_of(journal, order, suspend_after=5) as runner:
        run = await runner.start(order, None, run_id="run")
        await run.signal("item", "book")
        await gate.reached.wait()
    gate.open()
    async with runner_of(journal, order, suspend_after=5) as runner:
        run = await runner.get("run")
        await run.signal("item", "pen")
        assert await run.result() == ["book", "pen"]
        assert (await runner.verify("run")).fits


async def test_a_resumed_wait_gets_the_signal_that_it_had_to_give_up(journal, slow):
    """What another task's failure had cancelled goes on where that one does not fail."""
    slow("receive")
    is_up = []

    @step
    async def charge(amount: int) -> int:
        if not is_up:
            await anyio.sleep(0.05)
            raise ConnectionError
        return amount

    @workflow
    async def order(_: None, context: WorkflowContext) -> list:
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(context.wait_for("item"))
            charging = tasks.create_task(charge(42))
        return [waiting.result(), charging.result()]

    async with runner_of(journal, order, suspend_after=5) as runner:
        run = await runner.start(order, None, run_id="run")
        await run.signal("item", "book")
        with pytest.raises(ExceptionGroup):
            await run.result()
        is_up.append(True)
        assert await (await runner.resume("run")).result() == ["book", 42]


async def test_a_resumed_wait_that_passed_its_signal_on_gets_another(journal, slow):
    slow("receive")
    is_up = []

    @step
    async def charge(amount: int) -> int:
        if not is_up:
            await anyio.sleep(0.05)
            raise ConnectionError
        return amount

    @workflow
    async def order(_: None, context: WorkflowContext) -> list:
        waiting = asyncio.create_task(context.wait_for("item"))
        try:
            await charge(42)
        except ConnectionError:
            waiting.cancel()
            await asyncio.wait({waiting})
            refunding = await context.wait_for("item")
            raise LookupError(refunding) from None
        return [await waiting]

    async with runner_of(journal, order, suspend_after=5) as runner:
        run = await runner.start(order, None, run_id="run")
        await run.signal("item", "book")
        with pytest.raises(LookupError, match="book"):
            await run.result()
        is_up.append(True)
        run = await runner.resume("run")
        await run.signal("item", "pen")
        assert await run.result() == ["pen"]


async def test_the_entity_is_free_for_the_next_wait_also_after_a_restart(journal, slow):
    slow("acquire")
    gate, tries = Gate(), []

    @workflow
    async def order(item: str, context: WorkflowContext) -> list:
        async def put():
            async with context.entity(Basket, "ada") as basket:
                basket.items.append(item)
                return list(basket.items)

        tries.append("first")
        try:
            return await context.within(0.05, put)
        except StepTimeoutError:
            tries.append("gave up")
        await context.step("gate", gate, None)
        return await put()

    async with runner_of(journal, order, suspend_after=5) as runner:
        await runner.start(order, "book", run_id="run")
        await gate.reached.wait()
    gate.open()
    async with runner_of(journal, order, suspend_after=5) as runner:
        assert await (await runner.get("run")).result() == ["book"]
        assert (await runner.verify("run")).fits
    assert tries == ["first", "gave up"] * 3


@pytest.fixture
def failing(monkeypatch):
    """Has the journal fail as it is to keep that a wait was given up: the moment of a crash."""
    append, failed = SqliteJournal.append, []

    def fail_once(self, record):
        if record.kind == Kind.CANCELLED and not failed:
            failed.append(record.path)
            msg = "the disk is gone"
            raise JournalError(msg)
        return append(self, record)

    monkeypatch.setattr(SqliteJournal, "append", fail_once)
    return failed


async def test_the_wait_has_its_signal_if_the_process_dies_as_it_is_given_up(
    journal, slow, failing
):
    """Nothing says that it was given up: to the next process, it was not."""
    slow("receive")

    @workflow
    async def order(_: None, context: WorkflowContext) -> list:
        try:
            return [await asyncio.wait_for(context.wait_for("item"), 0.05)]
        except TimeoutError:
            return ["late", await context.wait_for("item")]

    async with runner_of(journal, order, suspend_after=5) as runner:
        run = await runner.start(order, None, run_id="run")
        await run.signal("item", "book")
        with pytest.raises(JournalError, match="the disk is gone"):
            await run.result()
    async with runner_of(journal, order, suspend_after=5) as runner:
        assert await (await runner.get("run")).result() == ["book"]
    assert len(failing) == 1


async def test_the_wait_has_its_entity_if_the_process_dies_as_it_is_given_up(
    journal, slow, failing
):
    """Nothing says that it was given up: to the next process, it was over in time."""
    slow("acquire")

    @workflow
    async def order(item: str, context: WorkflowContext) -> list:
        async def put():
            async with context.entity(Basket, "ada") as basket:
                basket.items.append(item)
                return list(basket.items)

        try:
            return await asyncio.wait_for(put(), 0.05)
        except TimeoutError:
            return ["gave up", *await put()]

    async with runner_of(journal, order, suspend_after=5) as runner:
        run = await runner.start(order, "book", run_id="run")
        with pytest.raises(JournalError, match="the disk is gone"):
            await run.result()
    async with runner_of(journal, order, suspend_after=5) as runner:
        assert await (await runner.get("run")).result() == ["book"]
    assert len(failing) == 1
