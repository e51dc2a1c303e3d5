"""Under a durable runner no answer of a model is paid for twice."""

import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from models import scripted, told
from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models.function import FunctionModel

from plait import FallbackPrimitive, RetryPrimitive, WorkflowContext, step, workflow
from plait.agents import AgentPrimitive, tool
from plait.durable import DurableRunner, StepInterruptedError, WorkflowChangedError
from plait.recovery import constant

pytestmark = pytest.mark.anyio

PROGRAM = Path(__file__).with_name("killed.py")
RESULT = "on two findings"
REQUESTS = ["research 0", "research 1", "research 2", "write"]
TOOLS = ["search plait", "search braid", "fetch /"]


# The tests in this process cover all that these do, and importing pydantic-ai takes much longer
# where coverage is measured.
UNMEASURED = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}


class Process:
    def __init__(self, folder):
        self._effects = folder / "effects"
        self._command = [sys.executable, PROGRAM, folder / "runs.db", self._effects]

    @property
    def effects(self):
        return Counter(self._effects.read_text().splitlines())

    def run(self, *kill):
        return subprocess.run(
            [*self._command, *kill],
            stdout=subprocess.PIPE,
            env=UNMEASURED,
            timeout=60,
            check=False,
        )


@pytest.fixture
def process(tmp_path):
    return Process(tmp_path)


@pytest.mark.parametrize("moment", ["*research 0", "*search plait"])
def test_a_process_that_is_killed_between_requests_makes_none_twice(process, moment):
    assert process.run(moment).returncode == -signal.SIGKILL
    ended = process.run()
    assert (ended.returncode, ended.stdout.decode()) == (0, RESULT)
    assert process.effects == Counter(REQUESTS + TOOLS)


@pytest.mark.parametrize("moment", ["+research 1"])
def test_only_what_was_under_way_is_done_again(process, moment):
    assert process.run(moment).returncode == -signal.SIGKILL
    assert process.run().stdout.decode() == RESULT
    assert process.effects == Counter([*REQUESTS, *TOOLS, moment[1:]])


class Gate:
    """Where a run stays until the next one comes along."""

    def __init__(self):
        self.reached = anyio.Event()
        self.is_open = False

    async def passed(self):
        if not self.is_open:
            self.reached.set()
            await anyio.sleep_forever()


@pytest.fixture
def gate():
    return Gate()


async def interrupted(journal, workflow, gate):
    """Start a run, and leave it at the gate, which is then open."""
    async with DurableRunner(journal, workflows=[workflow], grace_seconds=0) as runner:
        await runner.start(workflow, "go", run_id="run")
        with anyio.fail_after(10):
            await gate.reached.wait()
    gate.is_open = True


async def resumed(journal, workflow):
    """What comes of it in the end."""
    async with DurableRunner(journal, workflows=[workflow], grace_seconds=0) as runner:
        return await (await runner.get("run")).result()


@tool
async def look(where: str) -> str:
    return where.upper()


@pytest.fixture(params=["text", "tools", "streamed", "retried", "handled"])
def agent(request):
    """Agents of all kinds, and what they say."""
    match request.param:
        case "text":
            return AgentPrimitive(Agent(scripted("text"), name="a")), "text"
        case "tools":
            calls = [("look", {"where": where}) for where in ("x", "x", "y")]
            agent = Agent(scripted(calls, "done"), name="a", tools=[look])
            return AgentPrimitive(agent), "done"
        case "streamed":

            async def stream(messages, info):
                yield "streamed"

            model = FunctionModel(stream_function=stream)
            return AgentPrimitive(Agent(model, name="a"), stream=True), "streamed"
        case "retried":
            attempts = []

            def respond(messages, info):
                attempts.append(1)
                if len(attempts) < 2:
                    raise ConnectionError
                return ModelResponse(parts=[TextPart("retried")])

            return AgentPrimitive(
                Agent(FunctionModel(respond), name="a"),
                around_request=lambda it: RetryPrimitive(it, backoff=constant(0)),
            ), "retried"
        case _:

            def strict(x: int) -> int:
                if x < 2:
                    raise ModelRetry("more")
                return x

            model = scripted([("strict", {"x": 1})], [("strict", {"x": 2})], "handled")
            return AgentPrimitive(Agent(model, name="a", tools=[strict])), "handled"


async def test_a_replay_finds_everything(journal, agent):
    primitive, said = agent
    async with DurableRunner(journal) as runner:
        run = await runner.start(primitive, "go", run_id="run")
        assert await run.result() == said
    async with DurableRunner(journal, workflows=[primitive]) as runner:
        verified = await runner.verify("run")
    assert verified.error is None
    assert verified.stopped_at is None
    assert verified.replayed == run.executed


async def test_answers_come_back_as_they_were(journal, gate):
    asked = []

    def respond(messages, info):
        asked.append(messages)
        return ModelResponse(
            parts=[TextPart("yes")],
            model_name="gpt-5",
            provider_details={"logprobs": [0.5]},
            timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        )

    agent = AgentPrimitive(Agent(FunctionModel(respond), name="a"), history="chat")

    @workflow
    async def asks(question: str, context: WorkflowContext) -> ModelResponse:
        await context.call_agent(agent, question)
        await context.step("wait", gate.passed)
        return context.data["chat"][-1]

    await interrupted(journal, asks, gate)
    answer = await resumed(journal, asks)
    assert answer.provider_details == {"logprobs": [0.5]}
    assert answer.timestamp == datetime(2026, 1, 1, tzinfo=UTC)
    assert len(asked) == 1


async def test_a_conversation_that_is_kept_goes_on(journal, gate):
    model = scripted("fine", "still fine")
    agent = AgentPrimitive(Agent(model, name="a"), history="chat")

    @step
    async def wait(text: str) -> str:
        await gate.passed()
        return text

    flow = (agent >> wait >> agent).named("flow")
    await interrupted(journal, flow, gate)
    assert await resumed(journal, flow) == "still fine"
    assert [len(messages) for messages in model.asked] == [1, 3]


async def test_the_time_of_a_run_stays_what_it_was(journal, gate):
    told_time = []

    async def today(ctx: RunContext[datetime]) -> str:
        return f"It is {ctx.deps.isoformat()}."

    async def respond(messages, info):
        told_time.append(messages[0].instructions)
        await gate.passed()
        return ModelResponse(parts=[TextPart("now")])

    agent = AgentPrimitive(
        Agent(FunctionModel(respond), name="a", deps_type=datetime, instructions=today),
        deps=lambda context: context.now(),
    )
    await interrupted(journal, agent, gate)
    assert await resumed(journal, agent) == "now"
    assert len(told_time) == 2
    assert len(set(told_time)) == 1


async def test_an_agent_whose_instructions_were_changed_meanwhile_is_noticed(journal, gate):
    @step
    async def wait(text: str) -> str:
        await gate.passed()
        return text

    def flow(instructions):
        agent = Agent(scripted("one"), name="a", instructions=instructions)
        return (AgentPrimitive(agent) >> wait).named("flow")

    await interrupted(journal, flow("Be short."), gate)
    with pytest.raises(WorkflowChangedError, match="flow/1:a/1:request"):
        await resumed(journal, flow("Be long."))


async def test_a_fallback_stays_on_its_fallback(journal, gate):
    asked = []

    def down(messages, info):
        asked.append("down")
        raise ConnectionError

    @step
    async def wait(text: str) -> str:
        await gate.passed()
        return text

    first = AgentPrimitive(Agent(FunctionModel(down), name="first"))
    second = AgentPrimitive(Agent(scripted("second"), name="second"))
    flow = (FallbackPrimitive(first, [second]) >> wait).named("flow")
    await interrupted(journal, flow, gate)
    assert await resumed(journal, flow) == "second"
    assert asked == ["down"]


async def test_tools_that_are_called_at_once_are_told_apart(journal, gate):
    started, first = [], anyio.Event()

    @tool
    async def fetch(page: int) -> str:
        started.append(page)
        if page == 1:
            await first.wait()
            await gate.passed()
        elif page == 3:
            first.set()
        return f"page {page}"

    model = scripted([("fetch", {"page": page}) for page in (1, 2, 3)], "read")
    agent = AgentPrimitive(Agent(model, name="a", tools=[fetch]))
    await interrupted(journal, agent, gate)
    assert await resumed(journal, agent) == "read"
    assert [started.count(page) for page in (1, 3)] == [2, 1]
    assert told(model.asked[1]) == ["page 1", "page 2", "page 3"]
    assert len(model.asked) == 2


async def test_a_tool_that_may_run_at_most_once_is_not_run_again(journal, gate):
    calls = []

    @tool(at_most_once=True)
    async def charge(amount: int) -> str:
        calls.append(amount)
        await gate.passed()
        return "charged"

    model = scripted([("charge", {"amount": 5})], "done")
    agent = AgentPrimitive(Agent(model, name="a", tools=[charge]))
    await interrupted(journal, agent, gate)
    with pytest.raises(StepInterruptedError, match="a/2:tool charge/1:charge"):
        await resumed(journal, agent)
    assert calls == [5]
