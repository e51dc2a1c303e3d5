"""`@workflow`: a plain async function whose calls of steps are nodes."""

import asyncio

import anyio
import pytest

from plait import (
    Future,
    MockPrimitive,
    RetryPrimitive,
    StepTimeoutError,
    WorkflowContext,
    step,
    workflow,
)
from plait.recovery import constant

pytestmark = pytest.mark.anyio


@step
async def price(item: str, count: int = 1, *, tax: float = 0) -> float:
    return len(item) * count * (1 + tax)


@step
def where(context: WorkflowContext) -> str:
    return context.path


@workflow
async def total(items: list[str], tax: float = 0) -> float:
    return sum([await price(item, count=2, tax=tax) for item in items])


async def test_a_workflow_awaits_steps_as_ordinary_calls():
    assert await total(["tea", "bread"]) == 16
    assert await total(["tea"], tax=1) == 12
    assert await total(items=["tea"]) == 6


async def test_a_workflow_is_a_primitive():
    assert await (step(str.split) >> total >> str)("to be") == "8"
    assert await total.execute(["tea"], WorkflowContext()) == 6
    assert await RetryPrimitive(total)(["tea"]) == 6


def test_a_workflow_runs_from_code_that_is_not_async():
    assert total.run_sync(["tea"]) == 6


async def test_each_call_is_a_node_of_its_own(runtime):
    context = runtime.context(workflow_id="w")
    assert await total.execute(["a", "b"], context) == 4
    assert runtime.paths == ["w", "w/1:price", "w/2:price"]


@workflow
async def places(rounds: int) -> list:
    found = [await where() for _ in range(rounds)]
    if rounds > 1:
        found.append(await places(rounds - 1))
    return found


@pytest.mark.parametrize("watched", [False, True])
async def test_loops_conditions_and_sub_workflows_number_their_calls(watched, runtime):
    context = runtime.context(workflow_id="w") if watched else WorkflowContext(workflow_id="w")
    assert await places.execute(2, context) == ["w/1:where", "w/2:where", ["w/3:places/1:where"]]


async def test_a_composition_that_is_called_is_a_node_too():
    @workflow
    async def outer(number: int) -> list:
        chain = step(abs) >> (lambda _, context: context.path)
        return [await chain(number), await chain(number)]

    assert await outer(1) == ["outer/1:sequential/2:lambda", "outer/2:sequential/2:lambda"]


async def test_calls_are_numbered_in_the_order_of_the_code_and_not_as_they_start():
    @workflow
    async def outer(number: int) -> list:
        calls = [where() for _ in range(number)]
        return [await call for call in reversed(calls)]

    assert await outer(3) == ["outer/3:where", "outer/2:where", "outer/1:where"]


def test_asyncio_gather_works_under_asyncio():
    @workflow
    async def outer(number: int) -> list:
        return await asyncio.gather(*[where() for _ in range(number)])

    assert outer.run_sync(3) == ["outer/1:where", "outer/2:where", "outer/3:where"]


async def test_a_workflow_takes_the_context():
    @workflow
    async def outer(name: str, context: WorkflowContext) -> str:
        context.data["name"] = name
        return await where()

    context = WorkflowContext(workflow_id="w")
    assert await outer.execute("ada", context) == "w/1:where"
    assert context.data == {"name": "ada"}


async def test_a_workflow_without_arguments():
    @workflow
    async def outer() -> str:
        return await where()

    assert await outer() == "outer/1:where"


class Shop:
    def __init__(self, discount):
        self.discount = discount

    @step
    async def reduced(self, amount: float, times: int = 1) -> float:
        return amount - self.discount * times

    @workflow
    async def order(self, items: list[str], context: WorkflowContext) -> float:
        amount = await total(items)
        context.data["amount"] = amount
        return await self.reduced(amount, times=2)


async def test_methods_are_steps_and_workflows():
    shop, context = Shop(discount=1), WorkflowContext()
    assert await shop.order(["tea"]) == 4
    assert await shop.order.execute(["tea"], context) == 4
    assert context.data == {"amount": 6}
    assert await shop.reduced.future(5) == 4
    assert await (shop.reduced >> str)(5) == "4"
    assert await Shop(discount=2).reduced(5) == 3
    assert Shop.reduced.name == "reduced"


async def test_a_failure_names_the_call():
    failing = MockPrimitive("failing", side_effect=ValueError("broken"))

    @workflow
    async def outer(number: int) -> None:
        await price("tea")
        await failing(number)

    with pytest.raises(ValueError, match="broken") as caught:
        await outer.execute(1, WorkflowContext("run-1", "orders"))
    assert caught.value.__notes__ == ["in step 'failing' (orders/2:failing, run run-1)"]


async def test_a_failure_may_be_handled_in_the_body():
    failing = MockPrimitive("failing", side_effect=ValueError("broken"))

    @workflow
    async def outer(number: int) -> str:
        try:
            return await failing(number)
        except ValueError:
            return await where()

    assert await outer(1) == "outer/2:where"


async def test_what_runs_after_a_workflow_is_no_part_of_it():
    await total(["tea"])
    failing = MockPrimitive(side_effect=KeyError)

    @workflow
    async def outer(number: int) -> None:
        await failing(number)

    with pytest.raises(KeyError):
        await outer(1)
    assert await (step(abs) >> (lambda _, context: context.path))(1) == "sequential/2:lambda"


async def test_workflows_at_the_same_time_keep_their_calls_apart():
    @workflow
    async def outer(name: str) -> list:
        found = []
        for _ in range(2):
            await anyio.sleep(0.001)
            found.append(await where())
        return found

    both = outer.named("left") | outer.named("right")
    assert await both("x") == (
        ["parallel/1:left/1:where", "parallel/1:left/2:where"],
        ["parallel/2:right/1:where", "parallel/2:right/2:where"],
    )


async def test_a_future_that_a_workflow_returns_is_awaited():
    @workflow
    async def outer(number: int) -> Future:
        return price.future("tea", count=number)

    assert await outer(2) == 6


async def test_a_workflow_has_a_deadline():
    ended = []

    @step
    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("wait")

    @workflow(timeout=0.01)
    async def outer(number: int) -> None:
        await wait()

    with (
        anyio.fail_after(1),
        pytest.raises(StepTimeoutError, match=r"'outer' did not finish within 0\.01 s"),
    ):
        await outer(1)
    assert ended == ["wait"]


async def test_a_workflow_that_is_fast_enough_is_left_alone():
    @workflow(name="quick", version="2", timeout=60)
    async def outer(number: int) -> str:
        return await where()

    assert (outer.name, outer.version, outer.timeout) == ("quick", "2", 60)
    assert await outer(1) == "quick/1:where"


async def test_a_workflow_that_is_cancelled_ends_what_it_called():
    ended = []

    @step
    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("wait")

    @workflow
    async def outer(context: WorkflowContext) -> None:
        await context.gather(wait(), wait())

    with anyio.move_on_after(0.01) as scope:
        await outer()
    assert scope.cancelled_caught
    assert ended == ["wait", "wait"]


def test_a_workflow_must_be_async():
    with pytest.raises(TypeError, match="workflow 'sync' must be an `async def`"):

        @workflow
        def sync(number: int) -> int:
            return number


@pytest.mark.parametrize("timeout", [0, -1])
def test_the_deadline_must_be_positive(timeout):
    with pytest.raises(ValueError, match=f"timeout={timeout} of workflow 'outer' must be positive"):

        @workflow(timeout=timeout)
        async def outer(number: int) -> int:
            return number


async def test_context_step_executes_any_function_under_a_name():
    @workflow
    async def outer(name: str, context: WorkflowContext) -> list:
        return [
            await context.step("upper", str.upper, name),
            await context.step("price", price, name, count=2),
            await context.step("chain", step(len) >> str, name),
            await context.step("mock", MockPrimitive(return_value=1), name),
            await context.step("where", where),
        ]

    assert await outer("ada") == ["ADA", 6, "3", 1, "outer/5:where"]


async def test_context_step_names_what_fails():
    @workflow
    async def outer(text: str, context: WorkflowContext) -> int:
        return await context.step("parse", int, text)

    with pytest.raises(ValueError, match="invalid literal") as caught:
        await outer("x")
    assert caught.value.__notes__ == ["in step 'parse' (outer/1:parse)"]


async def test_context_parallel_executes_several_at_the_same_time(gauge):
    async def work(number: int, factor: int = 1) -> int:
        with gauge:
            await anyio.sleep(0.002)
        return number * factor

    @workflow
    async def outer(limit: int, context: WorkflowContext) -> list:
        calls = [("one", work, 1), ("two", work, 2, 10), ("where", where)]
        return await context.parallel(calls, max_concurrency=limit)

    assert await outer(None) == [1, 20, "outer/3:where"]
    assert gauge.peak == 2
    assert await outer(1) == [1, 20, "outer/3:where"]


async def test_context_parallel_cancels_the_others_on_a_failure():
    ended = []

    async def wait():
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("wait")

    async def fail():
        await anyio.wait_all_tasks_blocked()
        raise ValueError("broken")

    @workflow
    async def outer(context: WorkflowContext) -> list:
        return await context.parallel([("wait", wait), ("fail", fail)])

    with pytest.raises(ValueError, match="broken") as caught:
        await outer()
    assert ended == ["wait"]
    assert caught.value.__notes__ == ["in step 'fail' (outer/2:fail)"]


async def test_context_gather_awaits_calls_futures_and_anything_else():
    async def plain():
        return "plain"

    @workflow
    async def outer(context: WorkflowContext) -> list:
        return await context.gather(where(), price.future("tea"), plain())

    assert await outer() == ["outer/1:where", 3, "plain"]


async def test_context_gather_cancels_the_others_on_a_failure():
    ended = []

    async def wait():
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("wait")

    async def fail():
        await anyio.wait_all_tasks_blocked()
        raise ValueError("broken")

    @workflow
    async def outer(context: WorkflowContext) -> list:
        return await context.gather(wait(), fail())

    with pytest.raises(ValueError, match="broken"):
        await outer()
    assert ended == ["wait"]


async def test_context_sleep_waits(clock):
    @workflow
    async def outer(context: WorkflowContext) -> str:
        await context.sleep(3600)
        return await where()

    assert await outer.execute(None, clock.context(workflow_id="w")) == "w/1:where"
    assert clock.sleeps == [3600]


async def test_a_retry_inside_of_a_workflow_is_one_node_with_attempts():
    @step
    def flaky(context: WorkflowContext) -> str:
        if context.attempt < 3:
            raise OSError
        return context.path

    @workflow
    async def outer(number: int) -> list:
        retry = RetryPrimitive(flaky, backoff=constant(0))
        return [await retry(number), await where()]

    assert await outer(1) == ["outer/1:flaky/attempt 3", "outer/2:where"]
