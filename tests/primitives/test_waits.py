from dataclasses import dataclass

import anyio
import pytest

from plait import (
    SignalPayloadError,
    SignalPrimitive,
    SleepPrimitive,
    StepTimeoutError,
    WorkflowContext,
    step,
    workflow,
)
from plait.primitives import Runtime

pytestmark = pytest.mark.anyio


@dataclass
class Approval:
    by: str
    amount: int


@workflow
async def approved(order: str, context: WorkflowContext) -> str:
    approval = await context.wait_for("approval", Approval)
    return f"{order} by {approval.by}"


async def test_a_wait_ends_when_the_signal_comes():
    context = WorkflowContext()
    results = []

    async def run():
        results.append(await approved.execute("order", context))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await anyio.wait_all_tasks_blocked()
        assert not results
        context.signal("approval", Approval("ada", 3))
    assert results == ["order by ada"]


async def test_signals_that_come_early_are_kept_in_their_order():
    @workflow
    async def collect(count: int, context: WorkflowContext) -> list[str]:
        return [await context.wait_for("letter") for _ in range(count)]

    context = WorkflowContext()
    for letter in "abc":
        context.signal("letter", letter)
    assert await collect.execute(2, context) == ["a", "b"]


async def test_two_that_wait_for_one_signal_get_one_each():
    context = WorkflowContext()
    got = []

    async def wait():
        got.append(await context.wait_for("letter"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        context.signal("letter", 1)
        await anyio.wait_all_tasks_blocked()
        assert got == [1]
        context.signal("letter", 2)
    assert got == [1, 2]


async def test_plain_data_becomes_the_type_that_is_waited_for():
    context = WorkflowContext()
    context.signal("approval", {"by": "ada", "amount": "3"})
    assert await context.wait_for("approval", Approval) == Approval("ada", 3)


async def test_a_payload_of_another_type_is_refused():
    context = WorkflowContext()
    context.signal("approval", {"by": "ada"})
    with pytest.raises(SignalPayloadError, match="does not fit: amount: Field required"):
        await context.wait_for("approval", Approval)


async def test_a_payload_of_a_class_that_pydantic_does_not_know_is_checked_too():
    class Token:
        pass

    context, token = WorkflowContext(), Token()
    context.signal("token", token)
    context.signal("token", "fake")
    assert await context.wait_for("token", Token) is token
    with pytest.raises(SignalPayloadError, match=r"'fake' is no .*Token"):
        await context.wait_for("token", Token)


async def test_a_wait_has_a_deadline():
    with pytest.raises(StepTimeoutError, match=r"sent no signal 'approval' within 0.01 s"):
        await (SleepPrimitive(0) >> SignalPrimitive("approval", timeout=0.01))("order")


async def test_what_a_signal_brings_joins_the_input():
    review = SignalPrimitive("vote", int, combine=lambda order, vote: (order, vote))
    context = WorkflowContext()
    context.signal("vote", 2)
    context.signal("vote", 3)
    workflow = review >> SignalPrimitive("vote", int, combine=lambda pair, vote: (*pair, vote))
    assert await workflow.execute("order", context) == ("order", 2, 3)


async def test_a_sleep_hands_its_input_on(clock):
    workflow = SleepPrimitive(3600) >> SleepPrimitive(len)
    assert await workflow.execute("four", clock.context()) == "four"
    assert clock.sleeps == [3600, 4]


@pytest.mark.parametrize("seconds", [-1, float("nan")])
async def test_a_negative_sleep_is_refused(seconds):
    with pytest.raises(ValueError, match="must not be negative"):
        SleepPrimitive(seconds)
    with pytest.raises(ValueError, match="must not be negative"):
        await SleepPrimitive(lambda _: seconds)(None)


def test_a_signal_has_a_name_and_a_positive_timeout():
    with pytest.raises(ValueError, match="must not be empty"):
        SignalPrimitive("")
    with pytest.raises(ValueError, match="timeout=0 of signal 'go' must be positive"):
        SignalPrimitive("go", timeout=0)


def test_waits_that_say_the_same_are_equal():
    assert SleepPrimitive(1) == SleepPrimitive(1) != SleepPrimitive(2)
    assert SignalPrimitive("go", int) == SignalPrimitive("go", int) != SignalPrimitive("go", str)


@dataclass
class Cart:
    items: tuple[str, ...] = ()


async def test_an_entity_is_changed_by_one_at_a_time(gauge):
    @step
    async def add(item: str, context: WorkflowContext) -> None:
        async with context.entity(Cart, "ada") as cart:
            with gauge:
                await anyio.lowlevel.checkpoint()
                cart.items = (*cart.items, item)

    context = WorkflowContext()
    await (add | add | add).execute("book", context)
    async with context.entity(Cart, "ada") as cart:
        assert cart.items == ("book", "book", "book")
    async with context.entity(Cart, "bob", default=lambda: Cart(("pen",))) as cart:
        assert cart.items == ("pen",)
    assert (gauge.peak, gauge.total) == (1, 3)


async def test_what_a_failed_block_changed_in_an_entity_is_not_kept():
    async def fail(context):
        async with context.entity(Cart, "ada") as cart:
            cart.items = ("book",)
            raise RuntimeError("no paper")

    context = WorkflowContext()
    with pytest.raises(RuntimeError, match="no paper"):
        await fail(context)
    async with context.entity(Cart, "ada") as cart:
        assert cart.items == ()


async def test_events_and_patches_work_without_a_durable_runner():
    @workflow
    async def publish(text: str, context: WorkflowContext) -> bool:
        await context.set_event("text", text)
        context.progress(1, 2, "published")
        return context.patched("louder")

    assert await publish("x") is True


async def test_reports_reach_the_runtime(runtime):
    reports = []
    runtime.report = lambda event, attributes, context: reports.append(
        (event, attributes, context.path)
    )

    @workflow
    async def load(rows: int, context: WorkflowContext) -> None:
        context.progress(rows, 10, "loading")
        context.progress(rows)

    await load.execute(3, runtime.context())
    assert reports == [
        ("progress", {"done": 3, "total": 10, "message": "loading"}, "load"),
        ("progress", {"done": 3, "message": ""}, "load"),
    ]


async def test_what_does_not_fit_as_a_whole_is_said_without_a_place():
    context = WorkflowContext()
    context.signal("count", "many")
    with pytest.raises(SignalPayloadError, match="'count' does not fit: Input should be a valid"):
        await context.wait_for("count", int)


async def test_a_runtime_is_asked_for_what_comes_from_outside(runtime):
    WorkflowContext().report("nobody is there")
    outer = Runtime(runtime)
    context = WorkflowContext(data={"on": runtime})
    context._runtime = outer
    context.signal("go", 1)
    assert await context.wait_for("go", int) == 1
    await context.set_event("state", "open")
    context.report("nothing")
    async with context.entity(Cart, "ada") as cart:
        assert cart == Cart()
    assert context.patched("louder")
    assert context.now().timestamp() == pytest.approx(outer.timestamp(), abs=60)
    assert context.idempotency_key == f"{context.run_id}:"
