"""What no run can be made to do, or not for certain: with no server."""

import asyncio

import pytest
from restate import TerminalError

from plait import step
from plait.durable import JsonCodec
from plait.durable.restate._driver import Driver, Wait
from plait.durable.restate._handlers import Handlers
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


async def test_step_whose_connection_is_lost_is_not_told_as_cancelled():
    is_begun = asyncio.Event()

    async def work():
        is_begun.set()
        await asyncio.Event().wait()

    step = StepRun(work, lambda frame: None, float("inf"))
    action = asyncio.create_task(step.action())
    await is_begun.wait()
    action.cancel()
    with pytest.raises(asyncio.CancelledError):
        await action
    assert not step.is_given_up


async def test_signal_that_is_cancelled_as_it_is_kept_is_not_kept_elsewhere():
    asked = []

    class Promise:
        async def peek(self):
            return None

        async def resolve(self, message):
            # What Restate says where the promise is taken has the same code.
            raise TerminalError("cancelled", 409)

    class Context:
        async def time(self):
            return 0.0

        def promise(self, name, serde):
            asked.append(name)
            return Promise()

    with pytest.raises(TerminalError, match="cancelled"):
        await Handlers(step(str), JsonCodec()).signal(Context(), b'{"name": "approved"}')
    assert asked == ["signal 0 approved"]
