"""Steps are tools, and tools are steps."""

from typing import Any

import pytest
from models import scripted, told
from pydantic_ai import Agent, RunContext
from pydantic_ai.models.test import TestModel

from plait import (
    PermanentError,
    RetryPrimitive,
    TimeoutPrimitive,
    WorkflowContext,
    step,
    workflow,
)
from plait.agents import AgentPrimitive, ToolStep, as_tool, tool
from plait.recovery import constant

pytestmark = pytest.mark.anyio


@tool
async def search(query: str, context: WorkflowContext, limit: int = 3) -> list[str]:
    """Search the library.

    Args:
        query: What is looked for.
        limit: How many results there may be.
    """
    return [f"{query} {limit} {context.path}"]


async def shown(*tools):
    """What a model is shown of tools."""
    model = TestModel(call_tools=[])
    await Agent(model, tools=tools).run("hi")
    return model.last_model_request_parameters.function_tools


async def test_a_model_is_shown_the_signature_without_the_context():
    (shown_as,) = await shown(search)
    assert (shown_as.name, shown_as.description) == ("search", "Search the library.")
    assert shown_as.parameters_json_schema == {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "What is looked for."},
            "limit": {
                "type": "integer",
                "default": 3,
                "description": "How many results there may be.",
            },
        },
        "required": ["query"],
        "additionalProperties": False,
    }


async def test_a_tool_is_a_step(runtime):
    assert await (search >> len).execute("plait", runtime.context()) == 1
    assert await search("plait", limit=2) == ["plait 2 search"]
    assert isinstance(search, ToolStep)


async def test_an_agents_call_of_it_is_one_node(runtime):
    model = scripted([("search", {"query": "plait"})], "done")
    agent = AgentPrimitive(Agent(model, name="research", tools=[search]))
    assert await agent.execute("go", runtime.context()) == "done"
    assert told(model.asked[1]) == [["plait 3 research/2:tool search"]]
    assert runtime.paths.count("research/2:tool search") == 1
    assert len(runtime.paths) == 4


async def test_it_works_in_an_agent_that_is_no_primitive():
    model = scripted([("search", {"query": "plait"})], "done")
    await Agent(model, tools=[search]).run("go")
    assert told(model.asked[1]) == [["plait 3 search"]]


async def test_it_may_call_itself(runtime):
    @tool
    async def count(number: int) -> int:
        return number and 1 + await count(number - 1)

    model = scripted([("count", {"number": 2})], "done")
    agent = AgentPrimitive(Agent(model, name="a", tools=[count]))
    await agent.execute("go", runtime.context())
    assert told(model.asked[1]) == [2]


async def test_tools_take_options_and_sync_functions(runtime):
    @tool(name="sum", thread=True)
    def add(left: int, right: int) -> int:
        return left + right

    @tool
    def now() -> str:
        return "noon"

    model = scripted([("sum", {"left": 1, "right": 2}), ("now", {})], "done")
    await AgentPrimitive(Agent(model, name="a", tools=[add, now])).execute("go", runtime.context())
    assert told(model.asked[1]) == [3, "noon"]
    assert {"a/2:tool sum", "a/3:tool now"} <= set(runtime.paths)
    assert await now() == "noon"


async def test_a_tool_may_take_the_agents_own_context():
    @tool
    async def who(ctx: RunContext[str], context: WorkflowContext, loud: bool) -> str:
        return f"{ctx.deps} {context.path}{'!' * loud}"

    model = scripted([("who", {"loud": True})], "done")
    agent = Agent(model, name="a", deps_type=str, tools=[who])
    await AgentPrimitive(agent, deps="ada")("go")
    assert told(model.asked[1]) == ["ada a/2:tool who!"]


async def test_wrapped_steps_are_tools_with_the_schema_of_the_step_inside(runtime):
    calls = []

    @step
    async def flaky(query: str) -> str:
        """Look it up."""
        calls.append(query)
        if len(calls) < 2:
            raise ConnectionError
        return query

    wrapped = as_tool(TimeoutPrimitive(RetryPrimitive(flaky, backoff=constant(0)), 5))
    (shown_as,) = await shown(wrapped)
    assert (shown_as.name, shown_as.description) == ("flaky", "Look it up.")
    model = scripted([("flaky", {"query": "plait"})], "done")
    agent = AgentPrimitive(Agent(model, name="a", tools=[wrapped]))
    await agent.execute("go", runtime.context())
    assert told(model.asked[1]) == ["plait"]
    assert runtime.paths[-2] == "a/2:tool flaky/1:flaky/timed/attempt 2"


async def test_a_step_that_is_made_a_tool_is_one_node_too(runtime):
    @step
    async def double(number: int) -> int:
        return 2 * number

    model = scripted([("twice", {"number": 21})], "done")
    agent = Agent(model, name="a", tools=[as_tool(double, name="twice")])
    await AgentPrimitive(agent).execute("go", runtime.context())
    assert told(model.asked[1]) == [42]
    assert "a/2:tool twice" in runtime.paths
    assert len(runtime.paths) == 4


def test_what_says_nothing_of_its_input_is_no_tool():
    with pytest.raises(TypeError, match="there is no single step that says what it takes"):
        as_tool(step(lambda x: 2 * x, name="double") | step(lambda x: 3 * x, name="triple"))
    with pytest.raises(TypeError, match="'int' has no signature that a model could be shown"):
        tool(int)


@workflow
async def library(query: str, context: WorkflowContext) -> Any:
    return await search(query), await context.call_tool(search, query, limit=1)


async def test_workflows_call_it_as_a_step_or_as_a_tool():
    assert await library("x") == (["x 3 library/1:search"], ["x 1 library/2:tool search"])


async def test_an_error_in_it_is_found_at_its_node():
    @tool
    async def charge(amount: int) -> str:
        raise PermanentError("declined")

    agent = AgentPrimitive(Agent(TestModel(), name="shop", tools=[charge]))
    with pytest.raises(PermanentError) as caught:
        await agent("buy")
    assert any("shop/2:tool charge" in note for note in caught.value.__notes__)
