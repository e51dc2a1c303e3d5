"""A verification tells how the code has come to differ from what its run did."""

import anyio
import pytest
from interruption import fail
from waiting import until

from plait import WorkflowContext, step, workflow
from plait.durable import DurableRunner, JournalError, JsonCodec, RunCancelledError

pytestmark = pytest.mark.anyio


async def test_code_that_no_longer_waits_where_its_run_was_cancelled_does_not_fit(journal):
    waits = ["approval"]

    @workflow
    async def order(number: int, context: WorkflowContext) -> str:
        for name in waits:
            await context.wait_for(name)
        return f"order {number}"

    async with DurableRunner(journal, workflows=[order]) as runner:
        run = await runner.start(order, 42, run_id="run")
        await run.cancel()
        with pytest.raises(RunCancelledError):
            await run.result()
        assert (await runner.verify("run")).fits
        waits.clear()
        found = await runner.verify("run")
    assert not found.fits
    assert "the run has cancelled, and returns 'order 42' now" in str(found.error)


async def test_a_step_more_is_found_in_a_task_group_of_the_users(journal):
    numbers = [1]

    @workflow
    async def order(_: None, context: WorkflowContext) -> None:
        for number in numbers:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(context.step, "note", str, number)

    async with DurableRunner(journal, workflows=[order]) as runner:
        await runner.run(order, None, run_id="run")
        assert (await runner.verify("run")).fits
        numbers.append(2)
        found = await runner.verify("run")
    assert (found.fits, found.stopped_at) == (False, "order/2:note")


async def test_a_record_that_cannot_be_read_is_said_and_is_no_change_of_the_code(journal):
    class Forgetful(JsonCodec):
        def decode(self, payload, made_by=None):
            if payload == b'"42"':
                msg = "no longer known"
                raise ValueError(msg)
            return super().decode(payload, made_by)

    order = (step(str) >> step(len)).named("order")
    async with DurableRunner(journal, workflows=[order]) as runner:
        assert await runner.run(order, 42, run_id="run") == 2
    async with DurableRunner(journal, workflows=[order], codec=Forgetful()) as runner:
        with pytest.raises(JournalError, match=r"order/1:str.* cannot be decoded: no longer known"):
            await runner.verify("run")


async def test_what_a_step_left_in_the_data_holds_however_often_it_is_resumed(journal):
    seen = []

    @step
    async def count(number: int, context: WorkflowContext) -> int:
        seen.append(context.data.get("tries", 0))
        context.data["tries"] = seen[-1] + 1
        if len(seen) < 4:
            raise ConnectionError
        return number

    await fail(journal, count, 42)
    async with DurableRunner(journal, workflows=[count]) as runner:
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await (await runner.resume("run")).result()
        assert await (await runner.resume("run")).result() == 42
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("returns", "the run returned 'order 42', and returns 'ORDER 42' now"),
        ("fails", "the run has completed, and fails now with LookupError('no')"),
        ("does more", "the run has completed, and 'order/2:str' would be executed now"),
    ],
)
async def test_a_completed_run_that_would_end_otherwise_does_not_fit(journal, change, message):
    changes = []

    @workflow
    async def order(number: int, context: WorkflowContext) -> str:
        name = await context.step("name", "order {}".format, number)
        match changes:
            case ["returns"]:
                return name.upper()
            case ["fails"]:
                raise LookupError("no")
            case ["does more"]:
                return await step(str)(name)
        return name

    async with DurableRunner(journal, workflows=[order]) as runner:
        await runner.run(order, 42, run_id="run")
        assert (await runner.verify("run")).fits
        changes.append(change)
        found = await runner.verify("run")
    assert not found.fits
    assert message in str(found.error)


async def test_a_run_that_has_waited_is_verified_beside_one_that_waits(journal):
    @workflow
    async def rest(_: None, context: WorkflowContext) -> str:
        await context.sleep(0.01)
        return await context.wait_for("wake", str)

    async with DurableRunner(journal, workflows=[rest]) as runner:
        run = await runner.start(rest, None, run_id="run")
        await until(lambda: "wake" in runner._executor.awaited["rest"])
        found = await runner.verify("run")
        assert (found.fits, found.stopped_at) == (True, "rest/#signal:wake")
        await run.signal("wake", "at once")
        assert await run.result() == "at once"
