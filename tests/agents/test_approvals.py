"""A human approves of a tool's calls, and the run leaves memory until then."""

import anyio
import pytest
from models import scripted, told
from pydantic_ai import Agent

from plait import WorkflowContext
from plait.agents import AgentPrimitive, Approval, ApprovalRequest, approve, as_tool, tool
from plait.durable import DurableRunner

pytestmark = pytest.mark.anyio

HOUR = 3600


@pytest.fixture
def deleted():
    return []


@pytest.fixture
def model():
    return scripted([("delete", {"path": "a"}), ("delete", {"path": "b"})], "done")


@pytest.fixture
def janitor(deleted, model):
    @tool
    async def delete(path: str, context: WorkflowContext) -> str:
        deleted.append(path)
        return f"deleted {path}"

    agent = Agent(model, name="janitor", tools=[as_tool(delete, requires_approval=True)])
    return AgentPrimitive(agent, approval_timeout=24 * HOUR)


REQUESTS = [
    ApprovalRequest("call-0-0", "delete", {"path": "a"}, "janitor"),
    ApprovalRequest("call-0-1", "delete", {"path": "b"}, "janitor"),
]


async def test_a_run_leaves_memory_and_goes_on_when_it_is_answered(
    journal, janitor, model, deleted
):
    async with DurableRunner(journal, workflows=[janitor], suspend_after=0.01) as runner:
        run = await runner.start(janitor, "clean up", run_id="run")
        assert await run.event("approvals") == REQUESTS
        with anyio.fail_after(5):
            while (await run.info()).status != "waiting":  # noqa: ASYNC110
                await anyio.sleep(0.01)
        assert deleted == []
    async with DurableRunner(journal, workflows=[janitor]) as runner:
        first, second = await runner.event("run", "approvals")
        await approve(runner, "run", second, Approval(approved=False, message="Keep b."))
        await approve(runner, "run", first)
        assert await (await runner.get("run")).result() == "done"
    assert deleted == ["a"]
    assert told(model.asked[1]) == ["deleted a", "Keep b."]
    assert len(model.asked) == 2


async def test_agents_that_wait_at_the_same_time_are_answered_apart(journal):
    @tool
    async def delete(path: str) -> str:
        return f"deleted {path}"

    def cleaner(name):
        model = scripted([("delete", {"path": name})], f"{name} is done")
        agent = Agent(model, name=name, tools=[as_tool(delete, requires_approval=True)])
        return AgentPrimitive(agent, approvals=f"approvals of {name}"), model

    (left, left_model), (right, right_model) = cleaner("left"), cleaner("right")
    both = (left | right).named("both")
    async with DurableRunner(journal, workflows=[both]) as runner:
        run = await runner.start(both, "go", run_id="run")
        (of_right,) = await run.event("approvals of right")
        (of_left,) = await run.event("approvals of left")
        assert of_left.tool_call_id == of_right.tool_call_id
        await approve(runner, "run", of_right, Approval(approved=False, message="no"))
        await approve(runner, "run", of_left)
        assert await run.result() == ("left is done", "right is done")
    assert told(left_model.asked[1]) == ["deleted left"]
    assert told(right_model.asked[1]) == ["no"]


async def test_arguments_are_put_right(janitor, model, deleted):
    context = WorkflowContext()
    context.signal(REQUESTS[0].signal, Approval(approved=True, arguments={"path": "c"}))
    context.signal(REQUESTS[1].signal, Approval(approved=True))
    assert await janitor.execute("clean up", context) == "done"
    assert sorted(deleted) == ["b", "c"]


async def test_what_waits_is_reported(runtime, janitor):
    context = runtime.context()
    for request in REQUESTS:
        context.signal(request.signal, Approval(approved=False))
    await janitor.execute("clean up", context)
    assert [said for said in runtime.events if said[0] == "approval"] == [
        ("approval", "janitor", {"tool": "delete", "tool_call_id": request.tool_call_id})
        for request in REQUESTS
    ]


async def test_plain_data_is_an_answer_too(janitor, deleted):
    context = WorkflowContext()
    for request in REQUESTS:
        context.signal(request.signal, {"approved": True})
    await janitor.execute("clean up", context)
    assert deleted == ["a", "b"]


async def test_what_nobody_answers_in_time_is_refused(janitor, model, deleted, virtual_clock):
    began = virtual_clock.time()
    assert await janitor.execute("clean up", WorkflowContext()) == "done"
    assert virtual_clock.time() - began == pytest.approx(24 * HOUR)
    assert told(model.asked[1]) == ["Nobody has approved the call within 86400 s."] * 2
    assert deleted == []
