"""An interrupted run goes on with the next runner, and does nothing twice."""

import time

import anyio
import pytest
from interruption import Gate, carry_on, interrupt
from pydantic import SecretStr

from plait import (
    CachePrimitive,
    ConditionalPrimitive,
    FallbackPrimitive,
    MapPrimitive,
    ParallelPrimitive,
    ReducePrimitive,
    RetryPrimitive,
    RouterPrimitive,
    SequentialPrimitive,
    Success,
    TimeoutPrimitive,
    WorkflowContext,
    WorkflowPrimitive,
    step,
    workflow,
)
from plait.durable import DurableRunner, StepInterruptedError
from plait.recovery import constant

pytestmark = pytest.mark.anyio

AT_ONCE = constant(0)


class Counted:
    """A function as a step, and the inputs that it was called with."""

    def __init__(self, function=lambda value: value):
        self._function = function
        self.calls = []

    def __call__(self, value):
        self.calls.append(value)
        return self._function(value)


def failing(times):
    """A step that fails so many times before it succeeds."""

    def attempt(value):
        if len(counted.calls) <= times:
            raise ConnectionError(f"failure {len(counted.calls)}")
        return value

    counted = Counted(attempt)
    return counted


def sequence(*steps):
    return SequentialPrimitive(steps).named("workflow")


async def test_the_steps_of_a_sequence_that_had_finished_are_not_repeated(journal):
    double, gate, increment = Counted(lambda n: n * 2), Gate(), Counted(lambda n: n + 1)
    workflow = sequence(double, gate, increment)
    await interrupt(journal, workflow, 20, gate)
    assert await carry_on(journal, workflow) == 41
    assert (double.calls, gate.passed, increment.calls) == ([20], 1, [40])


async def test_a_run_says_how_much_of_it_was_replayed(journal):
    gate = Gate()
    workflow = sequence(str.upper, str.title, gate, str.lower)
    await interrupt(journal, workflow, "ada", gate)
    async with DurableRunner(journal, workflows=[workflow]) as runner:
        run = await runner.get("run")
        await run.result()
    assert (run.replayed, run.executed) == (2, 2)


async def test_a_run_may_be_interrupted_again_and_again(journal):
    gates, counted = [Gate() for _ in range(3)], [Counted() for _ in range(3)]
    steps = [step for pair in zip(counted, gates, strict=True) for step in pair]
    workflow = sequence(*steps)
    for gate in gates:
        await interrupt(journal, workflow, 42, gate)
    assert await carry_on(journal, workflow) == 42
    assert [each.calls for each in counted] == [[42], [42], [42]]


async def test_every_interrupted_run_is_carried_on(journal):
    gate = Gate()
    workflow = sequence(gate)
    async with DurableRunner(journal, grace_seconds=0) as runner:
        for number in range(30):
            await runner.start(workflow, number, run_id=f"run {number}")
    gate.open()
    async with DurableRunner(journal, workflows=[workflow]) as runner:
        for number in range(30):
            assert await (await runner.get(f"run {number}")).result() == number


async def test_starting_an_interrupted_run_again_carries_it_on(journal):
    double, gate = Counted(lambda n: n * 2), Gate()
    workflow = sequence(double, gate)
    await interrupt(journal, workflow, 21, gate)
    async with DurableRunner(journal) as runner:
        assert await runner.run(workflow, 21, run_id="run") == 42
    assert double.calls == [21]


async def test_a_run_of_a_workflow_that_a_runner_does_not_have_is_left_alone(journal):
    gate = Gate()
    workflow = sequence(gate)
    await interrupt(journal, workflow, 42, gate)
    async with DurableRunner(journal, workflows=[step(str.upper)]) as runner:
        assert (await runner.info("run")).status == "running"
    assert gate.passed == 0
    assert await carry_on(journal, workflow) == 42


async def test_the_branches_of_a_parallel_that_had_finished_are_not_repeated(journal):
    left, right = Counted(lambda n: n + 1), Counted(lambda n: n * 2)
    finished, unfinished = Gate(), Gate()
    workflow = sequence((step(left) >> finished) | (step(unfinished) >> right))
    finished.open()
    await interrupt(journal, workflow, 20, finished, unfinished)
    assert await carry_on(journal, workflow) == (21, 40)
    assert (left.calls, right.calls) == ([20], [20])


async def test_the_branches_of_a_dict_are_found_by_their_keys(journal):
    low, high, gate = Counted(min), Counted(max), Gate()
    workflow = sequence(ParallelPrimitive({"low": low, "high": high}), gate)
    await interrupt(journal, workflow, [3, 1, 2], gate)
    assert await carry_on(journal, workflow) == {"low": 1, "high": 3}
    assert (low.calls, high.calls) == ([[3, 1, 2]], [[3, 1, 2]])


async def test_the_items_of_a_map_that_had_finished_are_not_repeated(journal):
    squared, gate = Counted(lambda n: n * n), Gate()

    async def stop_at_9(number):
        return await gate(number) if number == 9 else number

    workflow = sequence(MapPrimitive(step(squared) >> stop_at_9, max_concurrency=1))
    await interrupt(journal, workflow, [1, 2, 3, 4], gate)
    assert await carry_on(journal, workflow) == [1, 4, 9, 16]
    assert squared.calls == [1, 2, 3, 4]


async def test_a_map_that_is_reduced_goes_on_within(journal):
    squared, gate = Counted(lambda n: n * n), Gate()

    async def stop_at_9(number):
        return await gate(number) if number == 9 else number

    total = ReducePrimitive(lambda total, n: total + n, 0)
    workflow = sequence(MapPrimitive(step(squared) >> stop_at_9, max_concurrency=1), total, str)
    await interrupt(journal, workflow, [1, 2, 3, 4], gate)
    assert await carry_on(journal, workflow) == "30"
    assert squared.calls == [1, 2, 3, 4]


async def test_a_reduced_map_that_had_finished_is_not_repeated(journal):
    squared, folded, gate = Counted(lambda n: n * n), [], Gate()

    def fold(total, number):
        folded.append(number)
        return total + number

    workflow = sequence(MapPrimitive(squared), ReducePrimitive(fold, 0), gate)
    await interrupt(journal, workflow, [1, 2, 3], gate)
    assert await carry_on(journal, workflow) == 14
    assert (sorted(squared.calls), folded) == ([1, 2, 3], [1, 4, 9])


async def test_a_map_over_an_iterator_goes_on_when_it_is_made_again(journal):
    squared, gate = Counted(lambda n: n * n), Gate()

    class Square(WorkflowPrimitive):
        async def execute(self, input_data, context):
            numbers = iter(range(input_data))
            return await MapPrimitive(squared, max_concurrency=1).execute(numbers, context)

    workflow = sequence(Square(), gate)
    await interrupt(journal, workflow, 3, gate)
    assert await carry_on(journal, workflow) == [0, 1, 4]
    assert squared.calls == [0, 1, 2]


async def test_collected_failures_stay_what_they_were(journal):
    risky, gate = failing(1), Gate()
    workflow = sequence(MapPrimitive(risky, max_concurrency=1, errors="collect"), gate)
    await interrupt(journal, workflow, [1, 2], gate)
    failure, success = await carry_on(journal, workflow)
    assert (type(failure.error), str(failure.error)) == (ConnectionError, "failure 1")
    assert success == Success(2)
    assert risky.calls == [1, 2]


async def test_a_condition_is_not_asked_again_when_the_world_has_changed(journal):
    world, gate = {"is_rich": True}, Gate()
    workflow = sequence(
        ConditionalPrimitive(
            lambda _: world["is_rich"], step(gate) >> "{} in gold".format, "{} in silver".format
        )
    )
    await interrupt(journal, workflow, "paid", gate)
    world["is_rich"] = False
    assert await carry_on(journal, workflow) == "paid in gold"


async def test_a_condition_that_did_not_hold_still_lets_the_input_pass(journal):
    world, gate = {"is_rich": False}, Gate()
    workflow = sequence(ConditionalPrimitive(lambda _: world["is_rich"], str.upper), gate)
    await interrupt(journal, workflow, "paid", gate)
    world["is_rich"] = True
    assert await carry_on(journal, workflow) == "paid"


@pytest.mark.parametrize(
    ("before", "after", "result"),
    [
        ("cash", "card", "paid in cash"),
        (["cash", "card"], "card", {"cash": "paid in cash", "card": "paid by card"}),
        ({"card", "cash"}, [], {"card": "paid by card", "cash": "paid in cash"}),
    ],
)
async def test_a_router_keeps_to_the_route_that_it_took(journal, before, after, result):
    world, gate = {"route": before}, Gate()
    cash = step(gate) >> "{} in cash".format
    routes = RouterPrimitive({"cash": cash, "card": "{} by card".format}, lambda _: world["route"])
    workflow = sequence(routes)
    await interrupt(journal, workflow, "paid", gate)
    world["route"] = after
    assert await carry_on(journal, workflow) == result


async def test_a_route_may_be_called_router(journal):
    gate = Gate()
    routes = RouterPrimitive({"router": str.upper, "switch": str.lower}, lambda _: "router")
    workflow = sequence(routes, gate)
    await interrupt(journal, workflow, "ada", gate)
    assert await carry_on(journal, workflow) == "ADA"


@pytest.mark.parametrize("key", ["deadline", "sleep", "miss", "attempt 1", "condition"])
async def test_a_branch_may_have_any_name(journal, key):
    calls, gate = Counted(), Gate()
    branches = ParallelPrimitive({key: calls, "other": step(gate)})
    inside = ConditionalPrimitive(lambda _: True, TimeoutPrimitive(branches, 60))
    workflow = RetryPrimitive(CachePrimitive(inside, 60)).named("workflow")
    await interrupt(journal, workflow, 42, gate)
    assert await carry_on(journal, workflow) == {key: 42, "other": 42}
    assert calls.calls == [42]


async def test_attempts_that_failed_before_stay_spent(journal):
    risky, gate = failing(2), Gate()
    workflow = sequence(RetryPrimitive(risky, 2, backoff=AT_ONCE), gate)
    await interrupt(journal, workflow, 42, gate)
    assert await carry_on(journal, workflow) == 42
    assert len(risky.calls) == 3


async def test_a_retry_goes_on_with_the_attempt_that_it_had_come_to(journal):
    attempts, gate = [], Gate()

    @step
    async def risky(value, context: WorkflowContext):
        attempts.append(context.attempt)
        if context.attempt == 2:
            await gate(value)
        raise ConnectionError(f"failure {context.attempt}")

    workflow = sequence(RetryPrimitive(risky, 2, backoff=AT_ONCE))
    await interrupt(journal, workflow, 42, gate)
    with pytest.raises(ConnectionError, match="failure 3"):
        await carry_on(journal, workflow)
    assert attempts == [1, 2, 2, 3]


async def test_a_retry_that_gave_up_in_time_stays_given_up(journal):
    risky, gate = failing(3), Gate()
    retry = RetryPrimitive(risky, 10, backoff=constant(0.03), jitter=False, max_elapsed=0.05)
    workflow = sequence(FallbackPrimitive(retry, [str.upper]), gate)
    await interrupt(journal, workflow, "ada", gate)
    calls = len(risky.calls)
    assert await carry_on(journal, workflow) == "ADA"
    assert len(risky.calls) == calls


async def test_a_step_may_change_its_input_and_be_tried_again(journal):
    gate = Gate()

    @step
    async def charge(order, context: WorkflowContext):
        order["attempts"] = context.attempt
        if context.attempt == 1:
            raise ConnectionError
        return order

    workflow = sequence(RetryPrimitive(charge, backoff=AT_ONCE), gate)
    await interrupt(journal, workflow, {"item": "tea"}, gate)
    assert await carry_on(journal, workflow) == {"item": "tea", "attempts": 2}


async def test_every_attempt_has_one_idempotency_key(journal):
    keys, gate = [], Gate()

    @step
    async def charge(value, context: WorkflowContext):
        keys.append(context.idempotency_key)
        if context.attempt == 1:
            raise ConnectionError
        return await gate(value)

    workflow = sequence(RetryPrimitive(charge, backoff=AT_ONCE))
    await interrupt(journal, workflow, 42, gate)
    await carry_on(journal, workflow)
    assert keys == ["run:workflow/1:charge"] * 3


async def test_a_fallback_that_was_taken_stays_taken(journal):
    primary, fallback, gate = failing(1), Counted(str.upper), Gate()
    workflow = sequence(FallbackPrimitive(primary, [fallback]), gate)
    await interrupt(journal, workflow, "ada", gate)
    assert await carry_on(journal, workflow) == "ADA"
    assert (primary.calls, fallback.calls) == (["ada"], ["ada"])


@pytest.mark.parametrize(
    ("expected", "open_file"),
    [
        (FileNotFoundError, lambda _: open("/not/there")),  # noqa: PTH123, SIM115
        (UnicodeDecodeError, lambda _: b"\xff".decode()),
        (KeyError, lambda _: {}["ada"]),
    ],
)
async def test_a_fallback_knows_again_the_errors_that_it_is_for(journal, expected, open_file):
    gate = Gate()
    workflow = sequence(FallbackPrimitive(open_file, [str.upper], fallback_on=expected), gate)
    await interrupt(journal, workflow, "ada", gate)
    assert await carry_on(journal, workflow) == "ADA"


async def test_a_report_of_collected_failures_is_not_made_again(journal):
    def read(path):
        raise FileNotFoundError(2, "No such file or directory", path)

    report, gate = Counted(lambda outcomes: [str(each.error) for each in outcomes]), Gate()
    workflow = sequence(MapPrimitive(read, errors="collect"), report, gate)
    await interrupt(journal, workflow, ["/a"], gate)
    assert await carry_on(journal, workflow) == ["[Errno 2] No such file or directory: '/a'"]
    assert len(report.calls) == 1


async def test_a_report_of_failures_of_no_known_class_is_not_made_again(journal):
    class LocalError(Exception):
        pass

    def read(path):
        raise LocalError(path)

    report, gate = Counted(lambda outcomes: [str(each.error) for each in outcomes]), Gate()
    workflow = sequence(MapPrimitive(read, errors="collect"), report, gate)
    await interrupt(journal, workflow, ["/a"], gate)
    assert await carry_on(journal, workflow) == ["/a"]
    assert len(report.calls) == 1


async def test_failures_of_no_known_class_may_be_what_a_run_returns(journal):
    class LocalError(Exception):
        pass

    def read(path):
        raise LocalError(path)

    async with DurableRunner(journal) as runner:
        workflow = sequence(MapPrimitive(read, errors="collect"))
        (failure,) = await runner.run(workflow, ["/a"], run_id="run")
    assert isinstance(failure.error, LocalError)
    (failure,) = await carry_on(journal, workflow)
    assert str(failure.error).endswith("LocalError: /a")


async def test_what_was_in_the_cache_is_what_the_run_goes_on_with(journal):
    prices, gate = {"tea": 3}, Gate()
    workflow = sequence(CachePrimitive(prices.get, 60), gate)
    async with DurableRunner(journal) as runner:
        gate.open()
        await runner.run(workflow, "tea")
    closed = Gate()
    workflow = sequence(workflow.children[0], closed).named("priced")
    await interrupt(journal, workflow, "tea", closed)
    assert workflow.children[0].stats.hits == 1
    prices["tea"] = 4
    elsewhere = sequence(CachePrimitive(prices.get, 60), closed).named("priced")
    assert await carry_on(journal, elsewhere) == 3


async def test_a_miss_that_had_finished_is_not_repeated(journal):
    price, gate = Counted(lambda _: 3), Gate()
    workflow = sequence(CachePrimitive(step(price) >> gate, 60))
    await interrupt(journal, workflow, "tea", gate)
    assert await carry_on(journal, workflow) == 3
    assert price.calls == ["tea"]


async def test_what_finished_under_a_deadline_is_not_repeated(journal):
    price, gate = Counted(lambda _: 3), Gate()
    workflow = sequence(TimeoutPrimitive(step(price) >> gate, 60))
    await interrupt(journal, workflow, "tea", gate)
    assert await carry_on(journal, workflow) == 3
    assert price.calls == ["tea"]


async def test_a_step_in_a_thread_is_not_repeated(journal):
    double, gate = Counted(lambda n: n * 2), Gate()

    @step(thread=True)
    def blocking(number):
        return double(number)

    workflow = sequence(blocking, gate)
    await interrupt(journal, workflow, 21, gate)
    assert await carry_on(journal, workflow) == 42
    assert double.calls == [21]


async def test_a_primitive_of_the_users_own_finds_its_calls_done(journal):
    charge, ship, gate = Counted("charged {}".format), Counted("shipped {}".format), Gate()
    charging, waiting, shipping = step(charge), step(gate), step(ship)

    class Checkout(WorkflowPrimitive):
        children = (charging, waiting, shipping)

        async def execute(self, input_data, context):
            charged = await charging.execute(input_data, context)
            waited = await waiting.execute(charged, context)
            return await shipping.execute(waited, context)

    workflow = Checkout()
    await interrupt(journal, workflow, 42, gate)
    assert await carry_on(journal, workflow) == "shipped charged 42"
    assert (charge.calls, ship.calls) == ([42], ["charged 42"])


async def test_steps_that_a_step_calls_are_nodes_of_its_run(journal):
    gate, calls = Gate(), []

    @step
    async def add(left, right=0):
        calls.append((left, right))
        return left + right

    @step
    async def tick():
        calls.append("tick")
        return 1

    @step
    async def shop(value):
        first = await add(value, right=await tick())
        second = await add(first)
        await step(gate)(second)
        return second

    await interrupt(journal, shop, 41, gate)
    assert await carry_on(journal, shop) == 42
    assert calls == ["tick", (41, 1), (42, 0)]


async def test_calls_at_the_same_time_find_their_own_results_in_any_order(journal):
    delays, calls, gate = {"a": 0.04, "b": 0.02, "c": 0}, [], Gate()

    @step
    async def fetch(key):
        await anyio.sleep(delays[key])
        calls.append(key)
        return key.upper()

    @step
    async def gather(keys):
        results = {}

        async def collect(key, call):
            results[key] = await call

        async with anyio.create_task_group() as tasks:
            for key in keys:
                tasks.start_soon(collect, key, fetch(key))
        await step(gate)(None)
        return [results[key] for key in keys]

    await interrupt(journal, gather, ["a", "b", "c"], gate)
    delays.update(a=0, b=0, c=0)
    assert await carry_on(journal, gather) == ["A", "B", "C"]
    assert calls == ["c", "b", "a"]


async def test_random_numbers_are_the_same_again(journal):
    seen, gate = [], Gate()

    @step
    async def draw(value, context: WorkflowContext):
        seen.append((context.random.random(), context.uuid()))
        return await gate(value)

    await interrupt(journal, draw, 42, gate)
    await carry_on(journal, draw)
    assert seen[0] == seen[1]


async def test_a_run_keeps_its_correlation_id(journal):
    seen, gate = [], Gate()

    @step
    async def call(value, context: WorkflowContext):
        seen.append(context.correlation_id)
        return await gate(value)

    await interrupt(journal, call, 42, gate)
    await carry_on(journal, call)
    assert seen[0] == seen[1]


async def test_a_run_that_another_runner_executes_is_waited_for(journal):
    gate = Gate()
    workflow = sequence(gate)
    results = []

    async def wait(runner):
        results.append(await (await runner.get("run")).result())

    async with (
        DurableRunner(journal, workflows=[workflow]) as executing,
        DurableRunner(journal, workflows=[workflow]) as waiting,
        anyio.create_task_group() as tasks,
    ):
        await executing.start(workflow, 42, run_id="run")
        tasks.start_soon(wait, waiting)
        await anyio.sleep(0.01)
        gate.open()
    assert results == [42]
    assert gate.passed == 1


async def test_a_run_that_another_runner_leaves_is_taken_over_by_one_that_waits_for_it(journal):
    gate, other = Gate(), Gate()
    workflow = sequence(gate)
    left = anyio.Event()

    async def execute_for_a_while():
        await interrupt(journal, workflow, 42, gate, other)
        left.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(execute_for_a_while)
        await gate.reached.wait()
        async with DurableRunner(journal, workflows=[workflow]) as waiting:
            run = await waiting.get("run")
            other.reached.set()
            await left.wait()
            with anyio.fail_after(3):
                assert await run.result() == 42


async def test_waiting_runs_of_two_workflows_do_not_mix(journal):
    gates = Gate(), Gate()
    workflows = [sequence(gate).named(name) for gate, name in zip(gates, "ab", strict=True)]
    async with DurableRunner(journal, grace_seconds=0) as runner:
        for workflow in workflows:
            await runner.start(workflow, workflow.name, run_id=workflow.name)
    for gate in gates:
        gate.open()
    async with DurableRunner(journal, workflows=workflows) as runner:
        assert [await (await runner.get(name)).result() for name in "ab"] == ["a", "b"]


async def test_200_runs_at_the_same_time_are_each_their_own(journal):
    @step
    async def split(number, context: WorkflowContext):
        context.data["number"] = number
        return [number] * 3

    @step
    async def check(total, context: WorkflowContext):
        return total, context.data["number"]

    total = ReducePrimitive(lambda total, n: total + n, 0)
    workflow = sequence(split, MapPrimitive(lambda n: n + 1), total, check)
    async with DurableRunner(journal) as runner:
        runs = [await runner.start(workflow, n, run_id=f"run {n}") for n in range(200)]
        assert [await run.result() for run in runs] == [(3 * n + 3, n) for n in range(200)]
    async with DurableRunner(journal, workflows=[workflow]) as runner:
        runs = [await runner.get(f"run {n}") for n in range(200)]
        assert [await run.result() for run in runs] == [(3 * n + 3, n) for n in range(200)]
        assert len(await runner.list(status="completed", limit=1000)) == 200


async def test_an_input_without_a_form_may_be_tried_again(journal):
    calls = []

    @step
    async def risky(thing):
        calls.append(thing)
        if len(calls) == 1:
            raise ConnectionError
        return "done"

    @workflow
    async def shop(_):
        return await RetryPrimitive(risky, backoff=AT_ONCE)(object())

    async with DurableRunner(journal) as runner:
        assert await runner.run(shop, None) == "done"
    assert len(calls) == 2


async def test_every_attempt_gets_the_input_as_it_is(journal):
    inputs = []

    @step
    async def log_in(password, context: WorkflowContext):
        inputs.append(password.get_secret_value())
        if context.attempt == 1:
            raise ConnectionError

    @step
    async def enter(_):
        await RetryPrimitive(log_in, backoff=AT_ONCE)(SecretStr("open sesame"))

    async with DurableRunner(journal) as runner:
        await runner.run(enter, None)
    assert inputs == ["open sesame"] * 2


async def test_a_step_may_be_called_with_what_has_no_form_as_json(journal):
    gate, calls = Gate(), []

    @step
    async def use(lock):
        calls.append(lock)
        if len(calls) == 1:
            raise ConnectionError
        return "used"

    @step
    async def enter(_):
        used = await RetryPrimitive(use, backoff=AT_ONCE)(anyio.Lock())
        return await step(gate)(used)

    await interrupt(journal, enter, None, gate)
    assert await carry_on(journal, enter) == "used"
    assert len(calls) == 2
    assert calls[0] is calls[1]


async def test_replaying_a_map_takes_no_longer_than_it_took(journal):
    gate = Gate()

    @step
    async def write(number, context: WorkflowContext):
        context.data["last"] = number

    workflow = sequence(MapPrimitive(write, max_concurrency=100), gate)
    times = [time.monotonic()]
    await interrupt(journal, workflow, list(range(4000)), gate)
    times.append(time.monotonic())
    await carry_on(journal, workflow)
    times.append(time.monotonic())
    assert times[2] - times[1] < 4 * (times[1] - times[0])


async def test_a_run_goes_on_with_the_version_that_it_began_with(journal):
    gate = Gate()

    @workflow(name="orders", version="1")
    async def old(value):
        return await step(gate)(value)

    @workflow(name="orders", version="2")
    async def new(value):
        return -value

    await interrupt(journal, old, 42, gate)
    async with DurableRunner(journal, workflows=[old, new]) as runner:
        assert await (await runner.get("run")).result() == 42
        assert await runner.run(new, 42) == -42
        assert [info.workflow for info in await runner.list()] == ["orders@2", "orders@1"]


async def test_a_step_that_may_run_once_is_not_run_again(journal):
    gate = Gate()
    once = step(gate, name="once", at_most_once=True)
    workflow = (step(abs) >> once).named("workflow")
    await interrupt(journal, workflow, 42, gate)
    with pytest.raises(StepInterruptedError, match="'workflow/2:once' was interrupted"):
        await carry_on(journal, workflow)
    assert gate.passed == 0


async def test_a_fallback_may_see_to_a_step_that_may_run_once(journal):
    gate = Gate()
    once = step(gate, name="once", at_most_once=True)
    careful = FallbackPrimitive(once, [str], fallback_on=StepInterruptedError)
    workflow = (step(abs) >> careful).named("workflow")
    await interrupt(journal, workflow, 42, gate)
    assert await carry_on(journal, workflow) == "42"


async def test_a_step_that_may_run_once_and_did_is_replayed(journal):
    gate, calls = Gate(), Counted()
    workflow = (step(calls, name="once", at_most_once=True) >> gate).named("workflow")
    await interrupt(journal, workflow, 42, gate)
    assert await carry_on(journal, workflow) == 42
    assert calls.calls == [42]
