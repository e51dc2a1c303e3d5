import anyio
import pytest
from interruption import Gate, carry_on, interrupt

from plait import CompensationPrimitive, HedgePrimitive, MockPrimitive, WorkflowContext, step

pytestmark = pytest.mark.anyio


@step
async def second(value, context: WorkflowContext):
    await anyio.sleep(60 if context.attempt == 1 else 0)
    return context.attempt


async def test_the_answer_stays_what_it_was(journal):
    gate = Gate()
    mock = MockPrimitive("mock", side_effect=[1, 2])
    run = (HedgePrimitive(second >> mock, 0.01) >> gate).named("run")
    await interrupt(journal, run, 0, gate)
    assert await carry_on(journal, run) == 1
    assert mock.calls == [2]


async def test_interrupted_it_goes_on_with_the_attempts_under_way(journal):
    gate, done = Gate(), []

    @step
    async def once(value, context: WorkflowContext):
        done.append(context.attempt)
        return context.attempt

    @step
    async def hang_at_first(value, context: WorkflowContext):
        if context.attempt == 1:
            await anyio.sleep_forever()
        return await gate(value)

    run = HedgePrimitive(once >> hang_at_first, 0.01).named("run")
    await interrupt(journal, run, 0, gate)
    assert await carry_on(journal, run) == 2
    assert done == [1, 2]


async def test_what_the_winner_did_is_known_again(journal):
    gate, events = Gate(), []

    @step
    async def reserve(_, context: WorkflowContext):
        events.append(f"seat {context.attempt}")
        return f"seat {context.attempt}"

    @step
    async def release(seat):
        events.append(f"released {seat}")

    @step
    async def confirm(seat: str, context: WorkflowContext):
        await anyio.sleep(60 if context.attempt == 1 else 0)
        return seat

    @step
    async def broken(_):
        raise LookupError("broken")

    hedge = HedgePrimitive(CompensationPrimitive(reserve, release) >> confirm, 0.05)
    run = (hedge >> gate >> broken).named("run")
    await interrupt(journal, run, 0, gate)
    assert events == ["seat 1", "seat 2", "released seat 1"]
    with pytest.raises(LookupError):
        await carry_on(journal, run)
    assert events[3:] == ["released seat 2"]
