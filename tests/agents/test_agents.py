"""An agent is a primitive like any other."""

import subprocess
import sys
from dataclasses import dataclass

import anyio
import pytest
from anyio.lowlevel import checkpoint
from models import scripted, told
from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, RunContext, UsageLimitExceeded, UsageLimits
from pydantic_ai.capabilities import ProcessEventStream
from pydantic_ai.exceptions import CallDeferred, ToolFailed, UnexpectedModelBehavior
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models.function import DeltaThinkingPart, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.tools import DeferredToolRequests
from pydantic_ai.usage import RequestUsage

from plait import (
    CachePrimitive,
    FallbackPrimitive,
    PermanentError,
    RetryPrimitive,
    WorkflowContext,
    step,
    workflow,
)
from plait.agents import AgentPrimitive, UsageLimitPrimitive, tool
from plait.primitives import failed_path
from plait.recovery import constant

pytestmark = pytest.mark.anyio


class City(BaseModel):
    name: str
    people: int


async def test_its_result_is_the_agents_output():
    agent = Agent(TestModel(custom_output_args={"name": "Ghent", "people": 3}), output_type=City)
    assert await AgentPrimitive(agent, name="city")("Which one?") == City(name="Ghent", people=3)


async def test_it_composes_with_steps_and_other_agents(runtime):
    write = AgentPrimitive(Agent(scripted("a draft"), name="write"))
    check = AgentPrimitive(Agent(scripted("fine"), name="check"))
    edit = AgentPrimitive(Agent(scripted("short"), name="edit"))
    report = (write >> (check | edit) >> " and ".join).named("report")
    assert await report.execute("On composing", runtime.context()) == "fine and short"
    assert runtime.paths[:3] == ["report", "report/1:write", "report/1:write/1:request"]
    assert "report/2:parallel/2:edit/1:request" in runtime.paths


async def test_a_prompt_is_made_of_the_input():
    model = scripted("Ghent")
    city = AgentPrimitive(Agent(model, name="city"), prompt=lambda n: f"A city of {n} people?")
    assert await city(3) == "Ghent"
    assert told(model.asked[0]) == ["A city of 3 people?"]


@dataclass
class Deps:
    user: str


async def greeting(ctx: RunContext[Deps]) -> str:
    """Who is greeted."""
    return ctx.deps.user


@pytest.mark.parametrize("deps", [Deps("ada"), lambda context: Deps(context.data["user"])])
async def test_dependencies_are_given_or_made_of_the_context(deps):
    agent = Agent(TestModel(), name="greeter", deps_type=Deps, tools=[greeting])
    context = WorkflowContext(data={"user": "ada"})
    assert await AgentPrimitive(agent, deps=deps).execute("hi", context) == '{"greeting":"ada"}'


async def test_calls_of_tools_are_nodes_beside_the_requests(runtime):
    agent = Agent(TestModel(), name="greeter", deps_type=Deps, tools=[greeting])
    await AgentPrimitive(agent, deps=Deps("ada")).execute("hi", runtime.context())
    assert runtime.paths == [
        "greeter",
        "greeter/1:request",
        "greeter/2:tool greeting",
        "greeter/3:request",
    ]


async def test_what_a_tool_tells_the_model_is_no_failure_of_its_node(runtime):
    def strict(number: int) -> int:
        if number < 2:
            raise ModelRetry("more")
        if number < 3:
            raise ToolFailed("cannot")
        return number

    model = scripted(*[[("strict", {"number": n})] for n in (1, 2, 3)], "done")
    strict_agent = AgentPrimitive(Agent(model, name="a", tools=[strict], retries=2))
    assert await strict_agent.execute("go", runtime.context()) == "done"
    assert [told(messages) for messages in model.asked[1:]] == [["more"], ["cannot"], [3]]


async def test_a_tool_that_fails_fails_the_agent_at_its_path():
    def broken(x: int) -> int:
        raise PermanentError("out of order")

    agent = AgentPrimitive(Agent(TestModel(), name="a", tools=[broken]))
    with pytest.raises(PermanentError, match="out of order") as caught:
        await agent("go")
    assert failed_path(caught.value) == "a/2:tool broken"


async def test_tools_that_are_called_at_once_run_at_the_same_time():
    here = []
    met = anyio.Event()

    async def meet(who: str) -> str:
        here.append(who)
        if len(here) == 2:
            met.set()
        with anyio.fail_after(5):
            await met.wait()
        return who

    model = scripted([("meet", {"who": "a"}), ("meet", {"who": "b"})], "done")
    assert await AgentPrimitive(Agent(model, name="a", tools=[meet]))("go") == "done"
    assert sorted(told(model.asked[1])) == ["a", "b"]


async def test_steps_that_a_tool_calls_are_nodes_below_it(runtime):
    @step
    async def look(where: str) -> str:
        return where.upper()

    async def search(query: str) -> list[str]:
        return [await look(query), await look("there")]

    model = scripted([("search", {"query": "here"})], "done")
    await AgentPrimitive(Agent(model, name="a", tools=[search])).execute("go", runtime.context())
    assert told(model.asked[1]) == [["HERE", "THERE"]]
    assert runtime.paths[2:5] == [
        "a/2:tool search",
        "a/2:tool search/1:look",
        "a/2:tool search/2:look",
    ]


async def test_requests_are_wrapped_by_any_wrapper(runtime):
    attempts = []

    def respond(messages, info):
        attempts.append(1)
        if len(attempts) < 3:
            raise ConnectionError
        return ModelResponse(parts=[TextPart("there")])

    agent = AgentPrimitive(
        Agent(FunctionModel(respond), name="a"),
        around_request=lambda request: RetryPrimitive(request, backoff=constant(0)),
    )
    assert await agent.execute("hi", runtime.context()) == "there"
    assert runtime.paths[1:] == [
        "a/1:request",
        *(f"a/1:request/attempt {number}" for number in (1, 2, 3)),
    ]


async def test_a_cache_around_the_requests_serves_all_executions():
    model = scripted("once")
    agent = AgentPrimitive(
        Agent(model, name="a", instructions="Be short."),
        around_request=lambda request: CachePrimitive(request, 60),
    )
    assert [await agent("hi"), await agent("hi"), await agent("ho")] == ["once"] * 3
    assert len(model.asked) == 2


async def test_calls_of_tools_are_wrapped_by_any_wrapper():
    calls = []

    def flaky(number: int) -> int:
        calls.append(number)
        if len(calls) < 2:
            raise ConnectionError
        return number

    agent = AgentPrimitive(
        Agent(TestModel(), name="a", tools=[flaky]),
        around_tool=lambda call: RetryPrimitive(call, backoff=constant(0)),
    )
    assert await agent("go") == '{"flaky":0}'
    assert calls == [0, 0]


async def test_agents_with_the_same_history_are_one_conversation():
    model = scripted("I am fine.", "As I said, fine.")
    first = AgentPrimitive(Agent(model, name="first"), history="chat")
    second = AgentPrimitive(Agent(model, name="second"), history="chat")
    context = WorkflowContext()
    assert await (first >> str.upper >> second).execute("How are you?", context) == (
        "As I said, fine."
    )
    assert len(model.asked[1]) == 3
    assert len(context.data["chat"]) == 4


async def test_the_model_and_its_settings_are_given_or_the_agents_own():
    seen = []

    def respond(messages, info):
        seen.append(info.model_settings)
        return ModelResponse(parts=[TextPart("other")])

    agent = Agent(scripted("own"), name="a")
    other = AgentPrimitive(agent, model=FunctionModel(respond), model_settings={"temperature": 0.5})
    assert (await AgentPrimitive(agent)("hi"), await other("hi")) == ("own", "other")
    assert seen == [{"temperature": 0.5}]


async def test_limits_hold_for_one_execution():
    agent = AgentPrimitive(
        Agent(scripted([("echo", {"text": "x"})], "done"), name="a", tools=[echo]),
        limits=UsageLimits(request_limit=1),
    )
    for _ in range(2):
        with pytest.raises(UsageLimitExceeded, match="request_limit of 1"):
            await agent("go")


def echo(text: str) -> str:
    return text


@workflow
async def answers(question: str, context: WorkflowContext) -> str:
    first = await context.call_agent(Agent(scripted("one"), name="quick"), question)
    second = await context.call_agent(AgentPrimitive(Agent(scripted("two"), name="slow")), question)
    third = await context.call_agent(
        Agent(TestModel(), name="greeter", deps_type=Deps, tools=[greeting]), "hi", deps=Deps("ada")
    )
    return f"{first} {second} {third} {await context.call_tool(echo, text='four')}"


async def test_a_workflow_calls_agents_and_tools(runtime):
    result = await answers.execute("which?", runtime.context())
    assert result == 'one two {"greeting":"ada"} four'
    assert [path for path in runtime.paths if path.count("/") == 1] == [
        "answers/1:quick",
        "answers/2:slow",
        "answers/3:greeter",
        "answers/4:tool echo",
    ]


async def test_a_workflow_calls_a_tool_that_is_a_step_by_its_arguments():
    @tool
    async def add(left: int, right: int = 1) -> int:
        return left + right

    @workflow
    async def sums(number: int, context: WorkflowContext) -> int:
        return await context.call_tool(add, number, right=40)

    assert await sums(2) == 42


async def test_options_of_an_agent_that_is_a_primitive_already_are_refused():
    @workflow
    async def asks(question: str, context: WorkflowContext) -> str:
        return await context.call_agent(AgentPrimitive(Agent(name="a")), question, stream=True)

    with pytest.raises(TypeError, match="'a' is a primitive already: give stream to that"):
        await asks("hi")


async def test_streamed_text_is_progress(runtime):
    async def stream(messages, info):
        yield "To be "
        yield "or not"

    agent = AgentPrimitive(Agent(FunctionModel(stream_function=stream), name="a"), stream=True)
    assert await agent.execute("hi", runtime.context()) == "To be or not"
    told = [(path, said) for event, path, said in runtime.events if event == "progress"]
    assert told == [
        ("a/1:request", {"done": 6, "message": "To be "}),
        ("a/1:request", {"done": 12, "message": "or not"}),
    ]


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_handler_is_given_what_is_streamed(is_async):
    seen = []

    async def stream(messages, info):
        yield {0: DeltaThinkingPart(content="hm")}
        yield "yes"

    async def later(event, context):
        await checkpoint()
        seen.append((event.event_kind, context.path))

    def at_once(event, context):
        seen.append((event.event_kind, context.path))

    agent = Agent(FunctionModel(stream_function=stream), name="a")
    assert await AgentPrimitive(agent, on_event=later if is_async else at_once)("hi") == "yes"
    assert ("part_start", "a/1:request") in seen
    assert len(seen) > 2


async def test_an_agents_own_handler_of_events_hears_of_the_answers():
    heard = []

    async def handler(ctx, events):
        heard.extend([event.event_kind async for event in events])

    listening = Agent(scripted("yes"), name="b", capabilities=[ProcessEventStream(handler)])
    assert await AgentPrimitive(listening)("hi") == "yes"
    assert "part_start" in heard


async def test_a_fallback_stands_in_for_a_model_that_fails(runtime):
    def down(messages, info):
        raise UnexpectedModelBehavior("nothing")

    first = AgentPrimitive(Agent(FunctionModel(down), name="first"))
    second = AgentPrimitive(Agent(scripted("second"), name="second"))
    assert await FallbackPrimitive(first, [second]).execute("hi", runtime.context()) == "second"


def priced(**usage):
    def respond(messages, info):
        return ModelResponse(parts=[TextPart("x")], usage=RequestUsage(**usage))

    return FunctionModel(respond)


async def test_a_limit_around_several_agents_counts_what_all_of_them_spend():
    model = priced(input_tokens=60, output_tokens=1)
    agents = [AgentPrimitive(Agent(model, name=f"agent {n}")) for n in (1, 2)]
    both = agents[0] >> agents[1]
    limited = UsageLimitPrimitive(both, UsageLimits(input_tokens_limit=100))
    for _ in range(2):
        with pytest.raises(UsageLimitExceeded, match="input_tokens_limit of 100") as caught:
            await limited("hi")
        assert failed_path(caught.value) == "sequential/2:agent 2"
    assert await both("hi") == "x"
    assert UsageLimitPrimitive(both, UsageLimits()) == UsageLimitPrimitive(both, UsageLimits())


async def test_limits_nest():
    model = priced(input_tokens=60)
    agents = [AgentPrimitive(Agent(model, name=f"agent {n}")) for n in (1, 2)]
    inner = [UsageLimitPrimitive(agent, UsageLimits(input_tokens_limit=100)) for agent in agents]
    assert await (inner[0] >> inner[1])("hi") == "x"
    with pytest.raises(UsageLimitExceeded, match="input_tokens_limit of 110"):
        await UsageLimitPrimitive(inner[0] >> inner[1], UsageLimits(input_tokens_limit=110))("hi")


async def test_cancelling_an_agent_cancels_its_request():
    ended = []

    async def respond(messages, info):
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    agent = AgentPrimitive(Agent(FunctionModel(respond), name="a"))
    with anyio.move_on_after(0.05):
        await agent("hi")
    assert ended == [True]


async def test_calls_that_something_else_is_to_make_are_left_to_the_agent():
    def elsewhere(x: int) -> int:
        raise CallDeferred

    agent = Agent(TestModel(), name="a", tools=[elsewhere], output_type=[str, DeferredToolRequests])
    output = await AgentPrimitive(agent)("go")
    assert [call.tool_name for call in output.calls] == ["elsewhere"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("gpt-5",), TypeError, "agent='gpt-5' .str. is not an agent of pydantic-ai"),
        ((Agent(),), ValueError, "the agent has no name"),
    ],
)
def test_what_is_no_agent_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        AgentPrimitive(*arguments)


def test_a_timeout_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="approval_timeout=0 of 'a' must be positive"):
        AgentPrimitive(Agent(name="a"), approval_timeout=0)


def test_on_another_event_loop_it_says_what_it_needs():
    with pytest.raises(RuntimeError, match="runs its agents on asyncio only"):
        AgentPrimitive(Agent(scripted("x"), name="a")).run_sync("hi", backend="trio")


def test_without_pydantic_ai_it_says_what_to_install():
    program = "import sys; sys.modules['pydantic_ai'] = None; import plait.agents"
    ended = subprocess.run(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, timeout=60, check=False
    )
    assert b'pip install "plait[agents]"' in ended.stderr
