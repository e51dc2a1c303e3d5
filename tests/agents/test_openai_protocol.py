"""Agents over a real connection, to a server that answers as OpenAI's does."""

import openai
import pytest
from pydantic_ai import Agent
from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRequestRejectedError,
    UnexpectedModelBehavior,
)
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from serving import BROKEN, NO_KEY, RATE_LIMITED, chunks, completion

from plait import FallbackPrimitive, RetryPrimitive, StepTimeoutError, TimeoutPrimitive
from plait.agents import AgentPrimitive, is_transient, tool
from plait.recovery import constant

pytestmark = pytest.mark.anyio


@tool
async def population(city: str) -> int:
    """How many people live in a city."""
    return {"Ghent": 270_000}[city]


@pytest.fixture
async def agent(server):
    client = openai.AsyncOpenAI(base_url=server.url, api_key="sk-1", max_retries=0)
    model = OpenAIChatModel("gpt-4o-mini", provider=OpenAIProvider(openai_client=client))
    yield Agent(model, name="research", tools=[population])
    await client.close()


def retried(request):
    return RetryPrimitive(request, 2, backoff=constant(0.01), jitter=False, retry_on=is_transient)


async def test_a_conversation_with_a_tool(server, agent):
    server.will_answer(
        completion(tool_calls=[("population", {"city": "Ghent"})]), completion("270,000")
    )
    assert await AgentPrimitive(agent)("How many live in Ghent?") == "270,000"
    first, second = server.requests
    assert first["model"] == "gpt-4o-mini"
    assert first["tools"][0]["function"]["name"] == "population"
    assert second["messages"][-1] == {
        "role": "tool",
        "tool_call_id": "call_1",
        "content": "270000",
    }


async def test_a_streamed_answer(server, agent, runtime):
    server.will_answer(chunks("Gh", "ent"))
    streamed = AgentPrimitive(agent, stream=True)
    assert await streamed.execute("Which?", runtime.context()) == "Ghent"
    assert [said["message"] for event, _, said in runtime.events if event == "progress"] == [
        "Gh",
        "ent",
    ]
    assert server.requests[0]["stream"] is True


async def test_a_retry_waits_as_long_as_the_server_asks(server, agent, clock):
    server.will_answer((429, {"Retry-After": "7"}, RATE_LIMITED), completion("at last"))
    result = await AgentPrimitive(agent, around_request=retried).execute("hi", clock.context())
    assert result == "at last"
    assert clock.sleeps == [7.0]
    assert len(server.requests) == 2


async def test_errors_of_the_server_are_tried_again(server, agent, clock):
    server.will_answer((500, {}, BROKEN), (503, {}, BROKEN), completion("up again"))
    result = await AgentPrimitive(agent, around_request=retried).execute("hi", clock.context())
    assert result == "up again"


async def test_what_was_refused_for_what_it_says_is_not_tried_again(server, agent):
    server.will_answer((401, {}, NO_KEY))
    with pytest.raises(ModelHTTPError, match="Incorrect API key") as caught:
        await AgentPrimitive(agent, around_request=retried)("hi")
    assert caught.value.status_code == 401
    assert len(server.requests) == 1


@pytest.mark.parametrize("body", [b'{"id": "chatcmpl-1", "choi', b"<html>Bad gateway</html>"])
async def test_answers_that_cannot_be_read_are_tried_again(server, agent, clock, body):
    server.will_answer((200, {"Content-Type": "application/json"}, body), completion("readable"))
    result = await AgentPrimitive(agent, around_request=retried).execute("hi", clock.context())
    assert result == "readable"


async def test_an_answer_that_does_not_come_is_given_up(server, agent):
    server.will_answer((200, {}, "stall"), completion("quick"))

    def patient(request):
        return RetryPrimitive(TimeoutPrimitive(request, 0.15), 1, backoff=constant(0))

    assert await AgentPrimitive(agent, around_request=patient)("hi") == "quick"
    server.will_answer((200, {}, "stall"))
    with pytest.raises(StepTimeoutError, match="'request' did not finish"):
        await AgentPrimitive(agent, around_request=lambda it: TimeoutPrimitive(it, 0.15))("hi")


async def test_the_clients_own_timeouts_pass_too(server, agent, clock):
    server.will_answer((200, {}, "stall"), completion("quick"))
    impatient = AgentPrimitive(agent, model_settings={"timeout": 0.15}, around_request=retried)
    assert await impatient.execute("hi", clock.context()) == "quick"


async def test_nobody_listens_at_the_address():
    client = openai.AsyncOpenAI(base_url="http://127.0.0.1:1/v1", api_key="sk-1", max_retries=0)
    model = OpenAIChatModel("gpt-4o-mini", provider=OpenAIProvider(openai_client=client))
    with pytest.raises(Exception, match="Connection error") as caught:
        await AgentPrimitive(Agent(model, name="a"))("hi")
    assert is_transient(caught.value)
    await client.close()


async def test_another_model_stands_in(server, agent):
    server.will_answer((500, {}, BROKEN), completion("the other one"))
    first, second = AgentPrimitive(agent, name="first"), AgentPrimitive(agent, name="second")
    assert await FallbackPrimitive(first, [second])("hi") == "the other one"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ModelHTTPError(429, "m"), True),
        (ModelHTTPError(529, "m"), True),
        (ModelHTTPError(400, "m"), False),
        (UnexpectedModelBehavior("no JSON"), True),
        (TimeoutError(), True),
        (ModelRequestRejectedError("m", "no"), False),
        (ModelQuotaExceededError("m", "used up"), False),
        (ContentFilterError("no"), False),
        (ValueError(), False),
    ],
)
def test_which_errors_pass(error, expected):
    assert is_transient(error) is expected
