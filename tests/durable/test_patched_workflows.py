"""A body that was changed behind `context.patched` still fits the runs it had before."""

import sqlite3

import pytest
from interruption import Gate, carry_on, interrupt

from plait import WorkflowContext, step, workflow
from plait.durable import DurableRunner
from plait.testing import assert_replays

pytestmark = pytest.mark.anyio


@pytest.fixture
def asked():
    """What steps were called with, in order."""
    return []


@pytest.fixture
def orders(asked):
    """A workflow as it was before a change and as it is since, and where it stops."""

    @step
    async def charge(order: int) -> str:
        asked.append("charge")
        return f"charged {order}"

    @step
    async def check(order: int) -> str:
        asked.append("check")
        return f"checked {order}"

    @step
    async def stop_here(text: str) -> str:
        return await gate(text)

    gate = Gate()

    @workflow(name="orders")
    async def before(order: int, context: WorkflowContext) -> str:
        await stop_here("begun")
        return await charge(order)

    @workflow(name="orders")
    async def since(order: int, context: WorkflowContext) -> str:
        await stop_here("begun")
        if context.patched("check first"):
            await check(order)
        return await charge(order)

    return gate, before, since


async def test_a_run_that_had_passed_the_change_goes_the_old_way(journal, asked):
    gate = Gate()

    @step
    async def charge(order: int) -> int:
        asked.append("charge")
        return order

    @step
    async def check(order: int) -> int:
        asked.append("check")
        return order

    @workflow(name="orders")
    async def before(order: int) -> int:
        await charge(order)
        return await step(gate)(order)

    @workflow(name="orders")
    async def since(order: int, context: WorkflowContext) -> int:
        if context.patched("check first"):
            await check(order)
        await charge(order)
        return await step(gate)(order)

    await interrupt(journal, before, 42, gate)
    assert await carry_on(journal, since) == 42
    assert asked == ["charge"]
    async with DurableRunner(journal, workflows=[since]) as runner:
        assert await runner.run(since, 43) == 43
    assert asked == ["charge", "check", "charge"]


async def test_a_run_that_had_not_come_to_the_change_goes_the_new_way(journal, asked, orders):
    gate, before, since = orders
    await interrupt(journal, before, 42, gate)
    assert await carry_on(journal, since) == "charged 42"
    assert asked == ["check", "charge"]


async def test_a_run_that_went_the_new_way_does_so_after_a_crash(journal, asked):
    gate = Gate()

    @step
    async def check(order: int) -> int:
        asked.append("check")
        return order

    @workflow
    async def orders(order: int, context: WorkflowContext) -> int:
        if context.patched("check first"):
            await check(order)
        await step(gate)(order)
        return order if context.patched("check first") else -order

    await interrupt(journal, orders, 42, gate)
    assert await carry_on(journal, orders) == 42
    assert asked == ["check"]


async def test_a_run_that_has_not_come_to_the_change_still_replays(journal, orders):
    gate, before, since = orders
    await interrupt(journal, before, 42, gate)
    assert await assert_replays(since, journal) == 1
    assert await carry_on(journal, before) == "charged 42"
    assert await assert_replays(since, journal) == 1


async def test_a_replay_that_comes_to_the_change_records_nothing_of_it(file, journal):
    gate = Gate()

    @step
    async def charge(order: int) -> int:
        return order

    @workflow(name="orders")
    async def before(order: int) -> int:
        return await step(gate)(await charge(order))

    @workflow(name="orders")
    async def since(order: int, context: WorkflowContext) -> int:
        await charge(order)
        return await charge(order) if context.patched("charge twice") else -order

    await interrupt(journal, before, 42, gate)
    assert await assert_replays(since, journal) == 1
    connection = sqlite3.connect(file)
    paths = connection.execute("SELECT path FROM records").fetchall()
    connection.close()
    assert paths == [("orders/1:charge",)]


async def test_a_change_to_a_step_needs_no_patch(journal):
    """A step is executed anew or not at all: it always goes the new way."""

    @step
    async def ship(order: int, context: WorkflowContext) -> bool:
        return context.patched("by air")

    async with DurableRunner(journal) as runner:
        assert await runner.run(ship, 42) is True
