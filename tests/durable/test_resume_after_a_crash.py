"""Runs that were killed while they failed, or failed in the middle of code, are resumed."""

import pytest

from plait import step, workflow
from plait.durable import DurableRunner, JournalError, SqliteJournal

pytestmark = pytest.mark.anyio


class Interrupted(SqliteJournal):
    """Is killed before it keeps how a run ended."""

    async def finish(self, *arguments):
        raise JournalError("killed")


async def test_a_run_that_was_killed_while_it_failed_is_resumed(file, journal):
    is_mended = False

    @step
    async def charge(order):
        if not is_mended:
            raise ConnectionError("not yet")
        return f"charged {order}"

    @step
    async def ship(order):
        return f"shipped {order}"

    orders = ((charge | ship) >> list).named("orders")
    async with DurableRunner(Interrupted(file)) as runner:
        run = await runner.start(orders, 42, run_id="run")
        with pytest.raises(JournalError, match="killed"):
            await run.result()
    async with DurableRunner(journal, workflows=[orders]) as runner:
        run = await runner.get("run")
        with pytest.raises(ConnectionError):
            await run.result()
        is_mended = True
        assert await (await run.resume()).result() == ["charged 42", "shipped 42"]


async def test_a_body_that_cleans_up_after_a_failure_is_resumed(journal):
    is_mended = False

    @step
    async def charge(order):
        if not is_mended:
            raise ConnectionError("not yet")
        return f"charged {order}"

    @step
    async def note(line):
        return line

    @workflow
    async def orders(order):
        try:
            return await note(await charge(order))
        finally:
            await note("done")

    async with DurableRunner(journal, workflows=[orders]) as runner:
        run = await runner.start(orders, 42, run_id="run")
        with pytest.raises(ConnectionError):
            await run.result()
        is_mended = True
        assert await (await run.resume()).result() == "charged 42"
