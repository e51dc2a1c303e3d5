"""Calls of imperative code that differ in nothing."""

import pytest

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
