import pytest

from plait import MockPrimitive, ParallelPrimitive, SequentialPrimitive, WorkflowContext, step

pytestmark = pytest.mark.anyio


async def test_each_output_is_the_next_input():
    first, second = MockPrimitive(return_value="one"), MockPrimitive(return_value="two")
    assert await (first >> second)("start") == "two"
    assert (first.calls, second.calls) == (["start"], ["one"])


async def test_one_step_is_a_sequence_too():
    assert await SequentialPrimitive([len])("abc") == 3


async def test_none_is_passed_on_like_any_value():
    assert await (MockPrimitive(return_value=None) >> repr)(1) == "None"


async def test_a_failure_keeps_the_later_steps_from_running():
    later = MockPrimitive()
    with pytest.raises(KeyError, match="missing"):
        await (MockPrimitive(side_effect=KeyError("missing")) >> later)(1)
    assert later.call_count == 0


async def test_steps_share_the_data_of_the_run():
    @step
    def write(name: str, context: WorkflowContext) -> str:
        context.data["name"] = name
        context.data.setdefault("seen", []).append(name)
        return "other"

    @step
    def read(_: str, context: WorkflowContext) -> str:
        return context.data["name"]

    context = WorkflowContext(data={"user": "ada"})
    assert await (write >> read).execute("plait", context) == "plait"
    assert context.data == {"user": "ada", "name": "plait", "seen": ["plait"]}


async def test_a_workflow_may_run_many_times_at_once():
    async def add(number, context):
        context.data["number"] = number
        return number + 1

    workflow = step(lambda n: n) >> add >> (lambda n, context: (n, context.data["number"]))
    runs = [step(lambda _, n=n: workflow(n)) for n in range(20)]
    assert await ParallelPrimitive(runs)(0) == tuple((n + 1, n) for n in range(20))
