"""Spans say of agents what the conventions for generative AI have names for."""

from decimal import Decimal

import pytest
from models import scripted
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic_ai import Agent, UsageLimitExceeded, UsageLimits
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.usage import RequestUsage

from plait.agents import AgentPrimitive, UsageLimitPrimitive, tool
from plait.observability import add_instrument, remove_instrument
from plait.observability._tracing import Tracing

pytestmark = pytest.mark.anyio


@pytest.fixture
def provider():
    return TracerProvider()


@pytest.fixture
def spans(provider):
    """Finished spans, by name."""
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing(provider.get_tracer("plait"))
    add_instrument(tracing)
    yield lambda: {span.name: span for span in exporter.get_finished_spans()}
    remove_instrument(tracing)
    provider.shutdown()


def answering(name="gpt-4o-mini", **response):
    def respond(messages, info):
        return ModelResponse(parts=[TextPart("yes")], **response)

    return FunctionModel(respond, model_name=name)


KNOWN = {
    "provider_name": "openai",
    "provider_response_id": "chatcmpl-1",
    "finish_reason": "stop",
    "usage": RequestUsage(input_tokens=1_000_000, output_tokens=10),
}


async def test_a_request_has_its_model_its_tokens_and_its_cost(spans):
    await AgentPrimitive(Agent(answering(**KNOWN), name="writer"))("hi")
    said = spans()["request"].attributes
    assert said["gen_ai.operation.name"] == "chat"
    assert said["gen_ai.provider.name"] == "function"
    assert said["gen_ai.request.model"] == "gpt-4o-mini"
    assert said["gen_ai.response.model"] == "gpt-4o-mini"
    assert said["gen_ai.response.id"] == "chatcmpl-1"
    assert said["gen_ai.response.finish_reasons"] == ("stop",)
    assert said["gen_ai.usage.input_tokens"] == 1_000_000
    assert said["gen_ai.usage.output_tokens"] == 10
    assert 0 < said["operation.cost"] < 10


async def test_an_agent_has_its_name_and_all_its_tokens(spans):
    @tool
    async def search(query: str) -> str:
        return query

    agent = Agent(scripted([("search", {"query": "x"})], "yes"), name="writer", tools=[search])
    await AgentPrimitive(agent)("hi")
    said = spans()["writer"].attributes
    assert said["gen_ai.operation.name"] == "invoke_agent"
    assert said["gen_ai.agent.name"] == "writer"
    assert said["gen_ai.usage.input_tokens"] > 100
    said = spans()["tool search"].attributes
    assert said["gen_ai.operation.name"] == "execute_tool"
    assert said["gen_ai.tool.name"] == "search"
    assert spans()["tool search"].parent.span_id == spans()["writer"].context.span_id


async def test_what_has_no_known_price_has_no_cost(spans):
    await AgentPrimitive(Agent(answering("nobody-knows-it"), name="writer"))("hi")
    assert "operation.cost" not in spans()["request"].attributes


async def test_a_cost_that_the_provider_tells_is_taken(runtime):
    usage = RequestUsage(cost=Decimal("0.25"))
    agent = AgentPrimitive(Agent(answering(usage=usage), name="writer"))
    await agent.execute("hi", runtime.context())
    ((event, path, said),) = [it for it in runtime.events if it[0] == "usage"]
    assert (event, path, said["cost_usd"]) == ("usage", "writer/1:request", 0.25)
    limited = UsageLimitPrimitive(agent >> agent >> agent, UsageLimits(cost_limit=Decimal("0.4")))
    with pytest.raises(UsageLimitExceeded, match="cost_limit"):
        await limited("hi")


async def test_an_applications_own_span_is_left_alone(provider):
    with trace.use_span(provider.get_tracer("app").start_span("app")) as span:
        await AgentPrimitive(Agent(answering(), name="writer"))("hi")
    assert dict(span.attributes) == {}
