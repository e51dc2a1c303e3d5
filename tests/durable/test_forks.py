"""Forks: a run that goes on from a point of another one, with what that had done by then."""

import pytest
from waiting import runner_of, until_waiting

from plait import WorkflowContext, step, workflow
from plait.durable import RunConflictError, RunNotFoundError

pytestmark = pytest.mark.anyio


@pytest.fixture
def calls():
    return []


@pytest.fixture
def steps(calls):
    @step
    async def one(value):
        calls.append("one")
        return value + 1

    @step
    async def two(value):
        calls.append("two")
        return value * 10

    return (one >> two).named("steps")


async def test_a_fork_goes_on_from_a_step(journal, steps, calls):
    async with runner_of(journal, steps) as runner:
        assert await runner.run(steps, 1, run_id="run", metadata={"tier": "gold"}) == 20
        fork = await runner.fork("run", before="steps/2:two", new_run_id="fork")
        assert await fork.result() == 20
        assert (await fork.info()).metadata == {"tier": "gold"}
    assert calls == ["one", "two", "two"]


async def test_a_fork_of_all_executes_nothing(journal, steps, calls):
    async with runner_of(journal, steps) as runner:
        await runner.run(steps, 1, run_id="run")
        fork = await runner.fork("run")
        assert fork.run_id != "run"
        assert await fork.result() == 20
    assert calls == ["one", "two"]


async def test_a_fork_of_a_failed_run_has_what_finished(journal, calls):
    is_up = []

    @step
    async def charge(value):
        calls.append("charge")
        if not is_up:
            raise ConnectionError
        return value

    order = (step(lambda v: calls.append("reserve") or v, name="reserve") >> charge).named("order")
    async with runner_of(journal, order) as runner:
        with pytest.raises(ConnectionError):
            await runner.run(order, 1, run_id="run")
        is_up.append(True)
        fork = await runner.fork("run", before="order/2:charge")
        assert await fork.result() == 1
        assert (await runner.info("run")).status == "failed"
    assert calls == ["reserve", "charge", "charge"]


async def test_a_fork_before_a_signal_is_told_another_one(journal):
    @workflow
    async def order(_: None, context: WorkflowContext) -> str:
        await context.step("reserve", str, 1)
        return await context.wait_for("approval", str)

    async with runner_of(journal, order) as runner:
        run = await runner.start(order, None, run_id="run")
        info = await until_waiting(runner, "run")
        await run.signal("approval", "ada")
        assert await run.result() == "ada"
        fork = await runner.fork("run", before=info.waits[0].path)
        await fork.signal("approval", "bob")
        assert await fork.result() == "bob"


async def test_a_fork_needs_a_run_a_place_and_an_id_of_its_own(journal, steps):
    async with runner_of(journal, steps) as runner:
        await runner.run(steps, 1, run_id="run")
        with pytest.raises(RunNotFoundError):
            await runner.fork("nobody")
        with pytest.raises(ValueError, match="nothing is recorded at 'steps/3:three' of run 'run'"):
            await runner.fork("run", before="steps/3:three")
        with pytest.raises(RunConflictError, match="there is a run 'run' already"):
            await runner.fork("run", new_run_id="run")
    async with runner_of(journal) as runner:
        with pytest.raises(ValueError, match="of workflow 'steps', which this runner does not"):
            await runner.fork("run")


@pytest.mark.parametrize("has_ended", [True, False], ids=["ended", "under way"])
async def test_a_fork_from_inside_of_a_block_waits_for_its_entity(journal, has_ended):
    @workflow
    async def put(item: str, context: WorkflowContext) -> list:
        async with context.entity(list, "cart") as cart:
            cart.append(await context.wait_for("more", str))
            await context.step("look", str, item)
            return cart

    async with runner_of(journal, put) as runner:
        run = await runner.start(put, "book", run_id="run")
        inside = (await until_waiting(runner, "run")).waits[0].path
        if has_ended:
            await run.signal("more", "one")
            assert await run.result() == ["one"]
            fork = await runner.fork("run", before=inside)
        else:
            fork = await runner.fork("run")
            assert "#entity:" in (await until_waiting(runner, fork.run_id)).waits[0].path
            await run.signal("more", "one")
            assert await run.result() == ["one"]
        await fork.signal("more", "two")
        assert await fork.result() == ["one", "two"]
        assert (await runner.verify(fork.run_id)).fits
