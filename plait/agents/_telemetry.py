"""What the spans of agents, model requests and tool calls say of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import trace

from plait.observability._instrument import current_node

if TYPE_CHECKING:
    from decimal import Decimal

    from opentelemetry.util.types import AttributeValue
    from pydantic_ai.messages import ModelResponse

    from plait.primitives import WorkflowContext


def describe(attributes: dict[str, AttributeValue]) -> None:
    """Put attributes onto the span of the node that is being executed, where it has one.

    Args:
        attributes: Named as OpenTelemetry's semantic conventions for generative AI name them.
    """
    node = current_node.get()
    # An application's own span, which is current where plait makes none, is not ours to write on.
    if node is not None and isinstance(node.span, trace.Span):
        node.span.set_attributes(attributes)


def describe_response(response: ModelResponse, asked: str, context: WorkflowContext) -> None:
    """Say what a model answered with, and what it took.

    Args:
        response: The answer.
        asked: The name of the model that was asked.
        context: The node that asked for it.
    """
    usage = response.usage
    model = response.model_name or asked
    attributes: dict[str, AttributeValue] = {
        **usage.opentelemetry_attributes(),
        "gen_ai.response.model": model,
    }
    if response.provider_response_id is not None:
        attributes["gen_ai.response.id"] = response.provider_response_id
    if response.finish_reason is not None:
        attributes["gen_ai.response.finish_reasons"] = [response.finish_reason]
    spent: dict[str, float] = {}
    cost = cost_of(response)
    if cost is not None:
        # The conventions have no name for it yet; pydantic-ai's own spans have this one.
        attributes["operation.cost"] = spent["cost_usd"] = float(cost)
    describe(attributes)
    context.report(
        "usage",
        model=model,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        **spent,
    )


def cost_of(response: ModelResponse) -> Decimal | None:
    """What an answer cost in US dollars, where the model's price is known."""
    if response.usage.cost is not None:
        return response.usage.cost
    try:
        return response.cost().total_price
    except (AssertionError, LookupError, ValueError):
        return None
