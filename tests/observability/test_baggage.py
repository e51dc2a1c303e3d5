"""What the application's context variables carry reaches every node."""

import pytest
from opentelemetry import baggage, context

from plait import MapPrimitive, RetryPrimitive, step, workflow

pytestmark = pytest.mark.anyio


@step
async def tenant(_) -> object:
    return baggage.get_baggage("tenant")


@step(thread=True)
def tenant_in_a_thread(_) -> object:
    return baggage.get_baggage("tenant")


async def test_baggage_reaches_branches_elements_attempts_threads_and_calls():
    @workflow
    async def everywhere(_):
        parallel = await (tenant | tenant_in_a_thread | RetryPrimitive(tenant))(None)
        return [*parallel, *await MapPrimitive(tenant)([1, 2]), await tenant.future(None)]

    token = context.attach(baggage.set_baggage("tenant", "acme"))
    try:
        assert await everywhere(None) == ["acme"] * 6
    finally:
        context.detach(token)
