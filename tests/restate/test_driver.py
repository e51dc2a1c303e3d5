"""The turns that the branches of a run take, with no server: only what no run can be made to do."""

import asyncio

import pytest

from plait.durable.restate._driver import Driver, Wait
from plait.durable.restate._steps import StepRun

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio"])
def anyio_backend(request):
    return request.param


async def test_strand_that_cancels_itself_hears_of_it_where_it_waits():
    driver = Driver()

    async def run():
        driver.acting().cancel()
        await Wait()

    result, error = await driver.run(run())
    assert result is None
    assert isinstance(error, asyncio.CancelledError)


async def test_step_that_is_cancelled_before_it_begins_is_not_executed():
    async def work():
        pytest.fail("it was executed")

    step = StepRun(work, lambda frame: None, float("inf"))
    step.interrupt(None)
    told = await step.action()
    assert b'"kind":"cancelled"' in told
    step.answer(told)
    assert step.outcome is None
    assert not step.was_executed
