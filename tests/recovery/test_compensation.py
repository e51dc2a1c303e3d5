import asyncio
import logging

import anyio
import pytest
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual import VirtualLoop

from plait import (
    CompensationPrimitive,
    Failure,
    FallbackPrimitive,
    MapPrimitive,
    MockPrimitive,
    ParallelPrimitive,
    RetryPrimitive,
    SequentialPrimitive,
    StepTimeoutError,
    TimeoutPrimitive,
    WorkflowContext,
    WorkflowPrimitive,
    step,
    workflow,
)
from plait.primitives import Runtime
from plait.primitives._errors import Abort
from plait.recovery import constant

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    """Both event loops, in virtual time."""
    if request.param == "trio":
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return "asyncio", {"loop_factory": VirtualLoop}


class World:
    """What was done, and what was undone, in order."""

    def __init__(self):
        self.events = []

    def step(self, name):
        @step(name=name)
        async def do(_):
            self.events.append(name)
            return name

        return do

    def undoing(self, forward, *, undo=None):
        """A primitive with what undoes it."""

        @step(name="undo")
        async def record(result):
            if undo is not None:
                await undo(result)
            self.events.append(f"undo {result}")

        return CompensationPrimitive(forward, record)

    def doing(self, name, **options):
        return self.undoing(self.step(name), **options)


@pytest.fixture
def world():
    return World()


@step
async def broken(_):
    raise LookupError("broken")


@step
async def hang(_):
    await anyio.sleep_forever()


async def test_a_run_that_succeeds_undoes_nothing(world):
    run = world.doing("a") >> world.doing("b")
    context = WorkflowContext()
    assert await run.execute(0, context) == "b"
    with pytest.raises(LookupError):
        await (world.doing("c") >> broken).execute(0, context)
    assert world.events == ["a", "b", "c", "undo c"]


async def test_what_had_finished_is_undone_in_reverse_order_with_its_own_result(world):
    run = world.doing("a") >> world.doing("b") >> world.step("c") >> broken >> world.doing("d")
    with pytest.raises(LookupError, match="broken"):
        await run(0)
    assert world.events == ["a", "b", "c", "undo b", "undo a"]


async def test_what_fails_itself_has_nothing_to_undo(world):
    with pytest.raises(LookupError):
        await (world.doing("a") >> world.undoing(broken))(0)
    assert world.events == ["a", "undo a"]


async def test_branches_are_undone_in_the_order_in_which_they_finished(world):
    async def later(value):
        await anyio.sleep(0.005)
        return value

    branches = (later >> world.doing("slow")) | world.doing("fast")
    with pytest.raises(LookupError):
        await (world.doing("first") >> branches >> broken)(0)
    assert world.events == ["first", "fast", "slow", "undo slow", "undo fast", "undo first"]


async def test_branches_that_were_cancelled_are_undone_once_all_have_stopped(world):
    async def fail_later(_):
        await anyio.sleep(0.005)
        raise LookupError("broken")

    branches = (world.doing("a") >> hang) | (world.doing("b") >> hang) | step(fail_later)
    with pytest.raises(LookupError):
        await (world.doing("first") >> branches)(0)
    assert sorted(world.events[1:3]) == ["a", "b"]
    assert world.events[3:5] == [f"undo {name}" for name in reversed(world.events[1:3])]
    assert world.events[5:] == ["undo first"]


@pytest.mark.parametrize("wait", [0, 0.01])
async def test_a_cancelled_run_is_undone_and_not_cancelled_meanwhile(world, wait):
    async def slow(_):
        await anyio.sleep(wait)

    run = world.doing("a", undo=slow) >> (world.doing("b", undo=slow) | hang)
    with anyio.move_on_after(0.01) as scope:
        await run(0)
    assert scope.cancelled_caught
    assert world.events == ["a", "b", "undo b", "undo a"]


async def test_a_run_that_is_cancelled_while_it_is_undone_is_undone_to_the_end(world):
    async def slow(_):
        await anyio.sleep(0.01)

    run = world.doing("a", undo=slow) >> world.doing("b", undo=slow) >> broken
    with anyio.move_on_after(0.005) as scope:
        with pytest.raises(BaseException) as caught:  # noqa: PT011 - which differs by event loop
            await run(0)
        await anyio.lowlevel.checkpoint()
    assert world.events == ["a", "b", "undo b", "undo a"]
    assert scope.cancelled_caught or isinstance(caught.value, anyio.get_cancelled_exc_class())


async def test_a_deadline_undoes_what_had_finished_before_it(world):
    run = TimeoutPrimitive(world.doing("a") >> hang, 0.01)
    with pytest.raises(StepTimeoutError):
        await (world.doing("first") >> run)(0)
    assert world.events == ["first", "a", "undo a", "undo first"]


async def test_what_was_cancelled_itself_has_nothing_to_undo(world):
    with pytest.raises(StepTimeoutError):
        await TimeoutPrimitive(world.doing("a") >> world.undoing(hang), 0.01)(0)
    assert world.events == ["a", "undo a"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_cancelling_the_task_again_and_again_does_not_stop_compensations(
    world, anyio_backend
):
    async def slow(_):
        await anyio.sleep(0.01)

    run = world.doing("a", undo=slow) >> world.doing("b", undo=slow) >> hang
    task = asyncio.ensure_future(run(0))
    for _ in range(3):
        await asyncio.sleep(0.004)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.events == ["a", "b", "undo b", "undo a"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("error", [None, OSError(), Abort(OSError())])
async def test_a_shielded_call_runs_to_its_end(error, anyio_backend):
    events = []

    async def call():
        await asyncio.sleep(0.01)
        events.append("end")
        if error is not None:
            raise error

    task = asyncio.ensure_future(WorkflowContext().shielded(call))
    await asyncio.sleep(0.001)
    task.cancel()
    expected = Abort if isinstance(error, Abort) else asyncio.CancelledError
    with pytest.raises(expected):
        await task
    assert events == ["end"]


def test_a_run_that_is_thrown_away_undoes_nothing(world):
    class Never:
        def __await__(self):
            yield

    async def wait(_):
        await Never()

    run = (world.doing("a") >> wait)(0)
    run.send(None)
    run.close()
    assert world.events == ["a"]


async def test_runtimes_inside_of_one_another_agree(world, runtime):
    runtime.inner = Runtime()
    with anyio.move_on_after(0.01):
        await (world.doing("a") >> hang).execute(0, runtime.context())
    assert world.events == ["a", "undo a"]


async def test_an_attempt_is_undone_before_the_next_one(world):
    flaky = MockPrimitive(side_effect=[LookupError(), "done"])
    run = world.doing("first") >> RetryPrimitive(world.doing("a") >> flaky, backoff=constant(0))
    assert await run(0) == "done"
    assert world.events == ["first", "a", "undo a", "a"]


async def test_a_primary_is_undone_before_its_fallback(world):
    ways = [world.doing("b") >> broken, world.doing("c")]
    run = world.doing("first") >> FallbackPrimitive(world.doing("a") >> broken, ways)
    assert await run(0) == "c"
    assert world.events == ["first", "a", "undo a", "b", "undo b", "c"]
    with pytest.raises(LookupError):
        await (run >> broken)(0)
    assert world.events[6:] == [*world.events[:6], "undo c", "undo first"]


async def test_a_collected_failure_leaves_the_other_branches_done(world):
    run = ParallelPrimitive([world.doing("a"), world.doing("b") >> broken], errors="collect")
    done, failed = await run(0)
    assert done.value == "a"
    assert isinstance(failed, Failure)
    assert sorted(world.events) == ["a", "b", "undo b"]


async def test_items_of_a_map_are_undone_together(world):
    @step
    async def odd(number):
        if number == 3:
            raise LookupError
        return number

    run = MapPrimitive(world.undoing(odd), max_concurrency=1)
    with pytest.raises(LookupError):
        await run([1, 2, 3, 4])
    assert world.events == ["undo 2", "undo 1"]
    world.events.clear()
    await MapPrimitive(world.undoing(odd) >> step(odd), errors="collect")([1, 3, 5])
    assert world.events == []


async def test_what_has_compensations_inside_is_undone_after_its_own(world):
    inner = world.doing("a") >> world.doing("b")
    run = world.undoing((inner >> world.step("c")).named("whole")) >> broken
    with pytest.raises(LookupError):
        await run(0)
    assert world.events == ["a", "b", "c", "undo c", "undo b", "undo a"]


async def test_a_compensation_that_fails_is_noted_and_logged_and_the_others_run(world, caplog):
    async def refuse(_):
        raise PermissionError("no refund")

    run = world.doing("a") >> world.doing("b", undo=refuse) >> world.doing("c") >> broken
    with (
        caplog.at_level(logging.ERROR, "plait"),
        pytest.raises(LookupError, match="broken") as caught,
    ):
        await run.execute(0, WorkflowContext(workflow_id="order"))
    assert world.events == ["a", "b", "c", "undo c", "undo a"]
    assert caught.value.__notes__ == [
        "in step 'broken' (order/4:broken)",
        "compensation 'undo' (order/2:b/compensation) failed: PermissionError('no refund')",
    ]
    (record,) = caplog.records
    assert record.message == "compensation_failed"
    assert record.path == "order/2:b/compensation"


async def test_what_a_compensation_does_is_not_undone_with_the_rest(world):
    undo = world.doing("refund") >> world.step("mail")
    with pytest.raises(LookupError):
        await (CompensationPrimitive(world.step("pay"), undo) >> broken)(0)
    assert world.events == ["pay", "refund", "mail"]


async def test_a_compensation_that_fails_undoes_its_own(world):
    undo = world.doing("refund") >> broken
    with pytest.raises(LookupError):
        await (world.doing("a") >> CompensationPrimitive(world.step("pay"), undo) >> broken)(0)
    assert world.events == ["a", "pay", "refund", "undo refund", "undo a"]


async def test_a_step_in_a_workflow_is_undone_before_its_try_handles_it(world):
    sub = world.doing("b") >> broken

    @workflow
    async def run(_: int) -> None:
        await world.doing("a")(0)
        try:
            await sub(0)
        except LookupError:
            world.events.append("handled")
        await world.doing("c")(0)
        await broken(0)

    with pytest.raises(LookupError):
        await run(0)
    assert world.events == ["a", "b", "undo b", "handled", "c", "undo c", "undo a"]


@pytest.mark.parametrize("way", ["gather", "parallel"])
async def test_calls_at_the_same_time_are_undone_before_a_try_handles_them(world, way):
    async def fail_later(_):
        await anyio.sleep(0.005)
        raise LookupError

    slow = world.doing("a") >> hang
    failing = step(fail_later)

    @workflow
    async def run(_: int, context: WorkflowContext) -> None:
        try:
            if way == "gather":
                await context.gather(world.doing("b")(0), slow(0), failing(0))
            else:
                calls = [("b", world.doing("b"), 0), ("slow", slow, 0), ("failing", failing, 0)]
                await context.parallel(calls)
        except LookupError:
            world.events.append("handled")

    await run(0)
    assert sorted(world.events[:2]) == ["a", "b"]
    assert world.events[2:4] == [f"undo {name}" for name in reversed(world.events[:2])]
    assert world.events[4:] == ["handled"]


async def test_a_deadline_of_a_workflows_own_is_undone_before_its_try_handles_it(world):
    slow = world.doing("b") >> hang

    @workflow
    async def run(_: int, context: WorkflowContext) -> None:
        await world.doing("a")(0)
        try:
            await context.within(0.01, lambda: slow(0))
        except StepTimeoutError:
            world.events.append("handled")

    await run(0)
    assert world.events == ["a", "b", "undo b", "handled"]


async def test_a_workflow_says_itself_what_undoes_it(world):
    @workflow
    async def run(_: int, context: WorkflowContext) -> None:
        context.compensate(world.step("undo first"), 0)
        await world.doing("a")(0)
        context.compensate(world.events.append, "undo second")
        context.compensate(MockPrimitive(side_effect=world.events.append), "undo third")
        await broken(0)

    with pytest.raises(LookupError):
        await run(0)
    assert world.events == ["a", "undo third", "undo second", "undo a", "undo first"]


async def test_a_step_cannot_say_what_undoes_it():
    @step
    async def pay(_: int, context: WorkflowContext) -> None:
        context.compensate(print, "refunded")

    with pytest.raises(RuntimeError, match=r"in the step 'pay'; call it in the body of a workflow"):
        await (step(abs) >> pay >> str)(0)


async def test_nobody_is_left_to_run_a_compensation_where_children_are_not_listed(world):
    class Hidden(WorkflowPrimitive[int, str]):
        async def execute(self, input_data, context):
            return await world.doing("a").execute(input_data, context) + "!"

    class Listed(Hidden):
        children = property(lambda self: (world.doing("a"),))

        async def execute(self, input_data, context):
            return await world.doing("a").execute(input_data, context) + "!"

    with pytest.raises(LookupError):
        await (Listed() >> broken)(0)
    assert world.events == ["a", "undo a"]
    for hidden in (Hidden(), step(abs) >> Hidden()):
        with pytest.raises(RuntimeError, match="nothing would undo 'Hidden"):
            await hidden.execute(0, WorkflowContext(workflow_id="Hidden"))
    assert world.events == ["a", "undo a"]
    assert await world.doing("b")(0) == "b"


async def test_a_run_inside_of_a_run_is_on_its_own(world):
    @step
    async def other(_):
        return await (world.doing("b")).execute(0, WorkflowContext())

    with pytest.raises(LookupError):
        await (world.doing("a") >> other >> broken)(0)
    assert world.events == ["a", "b", "undo a"]


async def test_futures_and_tail_calls_are_undone(world):
    first, second = world.doing("a"), world.doing("b")

    @step
    def start(_):
        return second.future(first.future(0))

    with pytest.raises(LookupError):
        await (start >> broken)(0)
    assert world.events == ["a", "b", "undo b", "undo a"]


async def test_every_compensation_has_a_path_of_its_own(world, runtime):
    run = (world.doing("a") >> broken).named("order")
    with pytest.raises(LookupError):
        await run.execute(0, runtime.context())
    assert runtime.paths == [
        "order",
        "order/1:a",
        "order/1:a/forward",
        "order/2:broken",
        "order/1:a/compensation",
    ]


async def test_observers_are_told(world, runtime):
    async def refuse(_):
        raise PermissionError

    run = (world.doing("a") >> world.doing("b", undo=refuse) >> broken).named("order")
    with pytest.raises(LookupError):
        await run.execute(0, runtime.context())
    assert runtime.events == [
        ("compensate", "order/2:b/compensation", {"error": "PermissionError"}),
        ("compensate", "order/1:a/compensation", {}),
    ]


async def test_compensations_know_their_run_and_attempt(world):
    seen = []

    @step
    async def undo(_, context: WorkflowContext):
        seen.append((context.attempt, context.path, context.data["key"]))

    flaky = CompensationPrimitive(world.step("a"), undo) >> broken
    run = world.step("first") >> RetryPrimitive(flaky, 1, backoff=constant(0))
    with pytest.raises(LookupError):
        await run.execute(0, WorkflowContext(workflow_id="run", data={"key": 1}))
    assert seen == [
        (1, "run/2:sequential/attempt 1/1:a/compensation", 1),
        (2, "run/2:sequential/attempt 2/1:a/compensation", 1),
    ]


def test_it_looks_like_what_it_wraps(world):
    pay, refund = step(name="pay")(str), step(name="refund")(str)
    run = CompensationPrimitive(pay, refund)
    assert run.label == "pay"
    assert run.named("order").label == "order"
    assert run == CompensationPrimitive(pay, refund)
    assert run != CompensationPrimitive(refund, pay)
    assert [child.name for child in run.children] == ["pay", "refund"]


@pytest.mark.parametrize("arguments", [(str, 3), (3, str)])
def test_what_cannot_be_composed_is_refused(arguments):
    with pytest.raises(TypeError, match="cannot compose 3"):
        CompensationPrimitive(*arguments)


# Any tree of sequences and parallels, with failures somewhere in it.
LEAVES = st.sampled_from(["do", "fail"])
KINDS = st.sampled_from(["then", "at once", "fallback", "wrapped"])
TREES = st.deferred(lambda: LEAVES | st.tuples(KINDS, st.lists(TREES, min_size=1, max_size=3)))


class Model(World):
    """Builds workflows whose steps say when they have finished, and their compensations."""

    def build(self, tree):
        if tree == "fail":
            return step(name="broken")(broken._function)
        if tree == "do":
            name = f"s{len(self.names)}"
            self.names.append(name)
            return self.doing(name)
        kind, parts = tree
        children = [self.build(part) for part in parts]
        if kind == "at once":
            return ParallelPrimitive(children)
        if kind == "fallback":
            return FallbackPrimitive(children[0], [*children[1:], broken])
        if kind == "wrapped":
            return TimeoutPrimitive(SequentialPrimitive(children), 60)
        return SequentialPrimitive(children)

    names: list[str]


@given(TREES)
@settings(max_examples=150, deadline=None)
async def test_whatever_the_tree_all_that_finished_is_undone_once_and_in_order(tree):
    model = Model()
    model.names = []
    run = SequentialPrimitive([model.build(tree), broken])
    with pytest.raises(LookupError):
        await run(0)
    done = [event for event in model.events if not event.startswith("undo ")]
    undone = [event.removeprefix("undo ") for event in model.events if event.startswith("undo ")]
    assert sorted(done) == sorted(undone)
    for name in done:
        assert model.events.index(name) < model.events.index(f"undo {name}")
