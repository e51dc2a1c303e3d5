"""Calls of imperative code that differ in nothing."""

import pytest
from interruption import Gate, carry_on, interrupt

from plait import WorkflowContext, step, workflow
from plait.durable import DurableRunner

pytestmark = pytest.mark.anyio


async def test_calls_that_are_alike_have_keys_of_their_own(journal):
    @step
    async def charge(order: int, context: WorkflowContext) -> str:
        return context.idempotency_key

    @workflow
    async def orders(order: int, context: WorkflowContext) -> list[str]:
        return await context.gather(charge(order), charge(order))

    async with DurableRunner(journal) as runner:
        first, second = await runner.run(orders, 42)
        assert first != second


async def test_the_result_of_a_call_that_is_not_made_any_more_is_that_of_one_alike(journal):
    never, gate, is_first = Gate(), Gate(), True

    @step
    async def charge(order: int, context: WorkflowContext) -> str:
        return context.path if context.path == "orders/2:charge" else await never(context.path)

    @workflow
    async def orders(order: int, context: WorkflowContext) -> list[str]:
        async def second(call):
            return await context.step("gate", gate, await call)

        if is_first:
            return await context.gather(charge(order), second(charge(order)))
        return [await charge(order)]

    await interrupt(journal, orders, 4, never, gate)
    is_first = False
    assert await carry_on(journal, orders) == ["orders/2:charge"]
