"""A wait that is given up in the moment in which what it waits for is taken from the journal."""

from dataclasses import dataclass, field

import anyio
import pytest
from interruption import Gate
from waiting import runner_of

from plait import StepTimeoutError, WorkflowContext, workflow
from plait.durable import JournalError, SqliteJournal
from plait.durable._journal import Kind

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
        is_it = record.kind == Kind.CANCELLED and not record.path.endswith("#given up")
        if is_it and not failed:
            failed.append(record.path)
            msg = "the disk is gone"
            raise JournalError(msg)
        return append(self, record)

    monkeypatch.setattr(SqliteJournal, "append", fail_once)
    return failed


async def test_the_next_wait_gets_the_signal_if_the_process_dies_as_it_is_given_up(
    journal, slow, failing
):
    slow("receive")
    gate = Gate()

    @workflow
    async def order(_: None, context: WorkflowContext) -> list:
        try:
            return [await context.within(0.05, lambda: context.wait_for("item"))]
        except StepTimeoutError:
            got = await context.wait_for("item")
        return [got, await context.step("gate", gate, "after")]

    async with runner_of(journal, order, suspend_after=5) as runner:
        run = await runner.start(order, None, run_id="run")
        await run.signal("item", "book")
        with pytest.raises(JournalError, match="the disk is gone"):
            await run.result()
    async with runner_of(journal, order, suspend_after=5):
        await gate.reached.wait()
    gate.open()
    async with runner_of(journal, order, suspend_after=5) as runner:
        assert await (await runner.get("run")).result() == ["book", "after"]
    assert len(failing) == 1


async def test_the_entity_is_free_if_the_process_dies_as_it_is_given_up(journal, slow, failing):
    slow("acquire")

    @workflow
    async def order(item: str, context: WorkflowContext) -> list:
        async def put():
            async with context.entity(Basket, "ada") as basket:
                basket.items.append(item)
                return list(basket.items)

        try:
            return await context.within(0.05, put)
        except StepTimeoutError:
            return ["gave up", *await put()]

    async with runner_of(journal, order, suspend_after=5) as runner:
        run = await runner.start(order, "book", run_id="run")
        with pytest.raises(JournalError, match="the disk is gone"):
            await run.result()
    async with runner_of(journal, order, suspend_after=5) as runner:
        assert await (await runner.get("run")).result() == ["gave up", "book"]
    assert len(failing) == 1
