"""What code is told of the time is kept before anything is done with it."""

import sqlite3

import anyio
import pytest
from interruption import Gate, carry_on, interrupt

from plait import WorkflowContext, step, workflow
from plait.durable import DurableRunner

pytestmark = pytest.mark.anyio


def stamping(file):
    """A workflow that hands the time to a step, which says whether the journal has it by then."""

    @step
    async def stamp(_: str) -> int:
        connection = sqlite3.connect(file)
        rows = connection.execute("SELECT count(*) FROM records WHERE path = 'stamped/#now'")
        (count,) = rows.fetchone()
        connection.close()
        return count

    @workflow
    async def stamped(_: None, context: WorkflowContext) -> int:
        return await stamp(context.now().isoformat())

    return stamped


async def test_the_time_is_on_disk_when_a_step_is_given_it(journal, file):
    async with DurableRunner(journal) as runner:
        assert await runner.run(stamping(file), None) == 1


async def test_it_is_not_waited_for_where_records_are_written_at_the_end(journal, file):
    async with DurableRunner(journal, durability="exit") as runner:
        assert await runner.run(stamping(file), None) == 0


async def test_it_is_told_again_after_a_wait_that_was_given_up(journal):
    gate, told = Gate(), []

    @workflow
    async def order(value: int, context: WorkflowContext) -> int:
        with anyio.move_on_after(0.02):
            await context.wait_for("never")
        told.append(context.now())
        return await context.step("gate", gate, value)

    await interrupt(journal, order, 42, gate)
    assert await carry_on(journal, order) == 42
    assert told[0] == told[1]
