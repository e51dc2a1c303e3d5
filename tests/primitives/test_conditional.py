import pytest

from plait import ConditionalPrimitive, MockPrimitive, WorkflowContext, step

pytestmark = pytest.mark.anyio


def is_long(text):
    return len(text) > 3


async def is_long_async(text):
    return len(text) > 3


def longer_than_the_limit(text, context):
    return len(text) > context.data["limit"]


async def longer_than_the_limit_async(text, context):
    return len(text) > context.data["limit"]


class LongerThan:
    def __init__(self, limit):
        self.limit = limit

    async def __call__(self, text):
        return len(text) > self.limit


@pytest.mark.parametrize(
    "condition",
    [
        is_long,
        is_long_async,
        longer_than_the_limit,
        longer_than_the_limit_async,
        LongerThan(3),
        step(is_long_async),
    ],
)
async def test_the_condition_chooses_the_branch(condition):
    workflow = ConditionalPrimitive(condition, lambda text: text[:3] + "…", str.upper)
    context = WorkflowContext(data={"limit": 3})
    assert await workflow.execute("plait", context) == "pla…"
    assert await workflow.execute("abc", context) == "ABC"


async def test_a_step_that_takes_the_context_is_a_condition():
    @step
    def is_allowed(text: str, context: WorkflowContext) -> bool:
        return text in context.data["allowed"]

    context = WorkflowContext(data={"allowed": ["ada"]})
    workflow = ConditionalPrimitive(is_allowed, lambda name: f"hello {name}")
    assert await workflow.execute("ada", context) == "hello ada"
    assert await workflow.execute("bob", context) == "bob"


async def test_only_the_branch_that_is_taken_runs():
    then, other = MockPrimitive(), MockPrimitive()
    await ConditionalPrimitive(bool, then, other)(0)
    assert (then.call_count, other.call_count) == (0, 1)


async def test_without_an_else_the_input_passes_through():
    then = MockPrimitive()
    value = []
    assert await ConditionalPrimitive(bool, then)(value) is value
    assert then.call_count == 0


@pytest.mark.parametrize("answer", [1, "yes", [0]])
async def test_any_true_value_is_a_yes(answer):
    assert await ConditionalPrimitive(lambda _: answer, lambda _: "then")(0) == "then"


async def test_a_condition_that_fails_fails_the_workflow():
    then = MockPrimitive()
    with pytest.raises(KeyError, match="limit") as caught:
        await ConditionalPrimitive(longer_than_the_limit, then)("x")
    assert caught.value.__notes__ == [
        "in step 'longer_than_the_limit' (conditional/condition)",
    ]
    assert then.call_count == 0


async def test_a_branch_that_fails_is_named():
    workflow = ConditionalPrimitive(bool, int, float).named("parse")
    with pytest.raises(ValueError, match="invalid literal") as caught:
        await workflow("x")
    assert caught.value.__notes__ == ["in step 'int' (parse/then)"]
    with pytest.raises(ValueError, match="could not convert") as caught:
        await workflow("")
    assert caught.value.__notes__ == ["in step 'float' (parse/else)"]


async def test_condition_and_branch_are_nodes(runtime):
    await ConditionalPrimitive(bool, str, repr).execute(0, runtime.context(workflow_id="orders"))
    assert runtime.paths == ["orders", "orders/condition", "orders/else"]


def test_the_condition_must_be_a_function():
    with pytest.raises(TypeError, match="cannot compose 3"):
        ConditionalPrimitive(3, str)
