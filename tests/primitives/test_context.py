import logging
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from plait import (
    MapPrimitive,
    MockPrimitive,
    ParallelPrimitive,
    RetryPrimitive,
    WorkflowContext,
    step,
)
from plait.recovery import constant

pytestmark = pytest.mark.anyio


def test_a_context_has_a_correlation_id_of_its_own():
    first, second = WorkflowContext(), WorkflowContext()
    assert first.correlation_id == first.correlation_id != second.correlation_id
    assert WorkflowContext("order-42").correlation_id == "order-42"


def test_outside_a_durable_runner_the_run_goes_by_its_correlation_id():
    assert WorkflowContext("order-42").run_id == "order-42"


def test_data_is_the_callers_own_dict():
    data = {"user": "ada"}
    assert WorkflowContext(data=data).data is data
    assert WorkflowContext().data == {}
    assert WorkflowContext().data is not WorkflowContext().data


def test_metadata_is_read_only_and_apart_from_what_was_passed():
    given = {"tenant": "a"}
    context = WorkflowContext(metadata=given)
    given["tenant"] = "b"
    assert context.metadata == {"tenant": "a"}
    with pytest.raises(TypeError):
        context.metadata["tenant"] = "c"
    assert WorkflowContext().metadata == {}


def test_a_parent_span_is_handed_on():
    span = object()
    assert WorkflowContext(parent_span=span).parent_span is span
    assert WorkflowContext().parent_span is None


def test_a_context_shows_its_run_and_path():
    context = WorkflowContext("order-42", workflow_id="orders")
    assert repr(context) == "<WorkflowContext run='order-42' path='orders'>"


def test_looking_at_a_context_changes_nothing():
    context = WorkflowContext()
    repr(context)
    with pytest.raises(ValueError, match="invalid literal") as caught:
        (step(int) >> str).run_sync("x", context)
    assert caught.value.__notes__ == ["in step 'int' (sequential/1:int)"]


async def test_every_node_sees_the_same_run():
    def facts(_, context):
        return context.correlation_id, context.workflow_id, dict(context.metadata)

    context = WorkflowContext("order-42", "orders", metadata={"tenant": "a"})
    workflow = step(list) >> MapPrimitive(step(str) >> facts) >> (step(list) | facts)
    results, fact = await workflow.execute("ab", context)
    assert results == [fact, fact] == [("order-42", "orders", {"tenant": "a"})] * 2


@step
def path(_: object, context: WorkflowContext) -> str:
    return context.path


@pytest.mark.parametrize(
    ("workflow", "paths"),
    [
        (step(str) >> path, "orders/2:path"),
        (step(str) >> (step(str) >> path).named("inner"), "orders/2:inner/2:path"),
        (path | path.named("again"), ("orders/1:path", "orders/2:again")),
        (ParallelPrimitive({"a": path, "b": path}), {"a": "orders/a", "b": "orders/b"}),
        (MapPrimitive(path), ["orders[0]", "orders[1]"]),
        (step(str) >> MapPrimitive(path), ["orders/2:path[0]", "orders/2:path[1]"]),
        (MapPrimitive(step(str) >> path), ["orders[0]/2:path", "orders[1]/2:path"]),
        (RetryPrimitive(path), "orders/attempt 1"),
    ],
)
async def test_a_path_says_where_a_node_stands(workflow, paths):
    context = WorkflowContext(workflow_id="orders")
    assert await workflow.execute("ab", context) == paths


async def test_the_outermost_node_is_the_root(runtime):
    def is_root(_, context: WorkflowContext):
        return context.is_root

    assert await step(is_root).execute(1, runtime.context())
    assert not await (step(str) >> is_root).execute(1, runtime.context())


async def test_without_a_workflow_id_the_root_goes_by_its_label():
    assert await (step(str) >> path)(1) == "sequential/2:path"
    assert await (step(str) >> path).named("orders")(1) == "orders/2:path"


async def test_a_step_that_runs_alone_is_the_root():
    assert await path.execute(1, WorkflowContext(workflow_id="orders")) == "orders"
    assert await path.execute(1, WorkflowContext()) == "path"


async def test_attempt_is_that_of_the_nearest_retry():
    attempts = []

    @step
    def flaky(_: object, context: WorkflowContext) -> str:
        attempts.append(context.attempt)
        if len(attempts) < 3:
            raise OSError
        return "done"

    workflow = step(str) >> RetryPrimitive(step(str) >> flaky, backoff=constant(0))
    assert await workflow(1) == "done"
    assert attempts == [1, 2, 3]


async def test_outside_of_a_retry_the_attempt_is_the_first():
    assert WorkflowContext().attempt == 1
    assert await (step(str) >> (lambda _, context: context.attempt))(1) == 1


async def test_every_attempt_of_a_node_has_the_same_idempotency_key():
    keys = []

    @step
    def flaky(_: object, context: WorkflowContext) -> str:
        keys.append(context.idempotency_key)
        if len(keys) < 3:
            raise OSError
        return "done"

    workflow = RetryPrimitive(flaky, backoff=constant(0)) >> str
    await workflow.execute(1, WorkflowContext("order-42", "orders"))
    assert keys == ["order-42:orders/1:flaky"] * 3


@step
def key(_: object, context: WorkflowContext) -> str:
    return context.idempotency_key


async def test_each_node_of_a_run_has_an_idempotency_key_of_its_own():
    keys = await (step(lambda _: "abc") >> (MapPrimitive(key) | key | key)).execute(
        1, WorkflowContext("order-42")
    )
    flat = [*keys[0], *keys[1:]]
    assert len(set(flat)) == len(flat) == 5


async def test_steps_that_are_executed_one_by_one_have_idempotency_keys_of_their_own():
    context = WorkflowContext("order-42")
    charge, ship = key.named("charge"), key.named("ship")
    assert await charge.execute(1, context) != await ship.execute(1, context)


async def test_random_numbers_and_uuids_are_the_same_for_the_same_node_of_a_run():
    @step
    def draw(_: object, context: WorkflowContext) -> tuple:
        return context.random.random(), context.random.random(), context.uuid(), context.uuid()

    workflow = draw | draw
    first, second = await workflow.execute(1, WorkflowContext("order-42"))
    assert len({*first, *second}) == 8
    assert await workflow.execute(1, WorkflowContext("order-42")) == (first, second)
    assert await workflow.execute(1, WorkflowContext("order-43")) != (first, second)
    assert first[2].version == 4


def test_now_is_the_time_in_utc():
    now = WorkflowContext().now()
    assert now.tzinfo is UTC
    assert abs(datetime.now(UTC) - now) < timedelta(seconds=5)


def test_time_goes_forward():
    context = WorkflowContext()
    assert context.time() <= context.time()


@step
def log(count: int, context: WorkflowContext) -> None:
    context.logger.info("counted", count=count)


async def test_a_logger_binds_the_run_and_the_path(caplog):
    with caplog.at_level(logging.INFO, logger="plait"):
        await (step(abs) >> log).execute(3, WorkflowContext("order-42", "orders"))
    (record,) = caplog.records
    assert (record.name, record.levelname, record.message) == ("plait", "INFO", "counted")
    assert (record.count, record.run_id, record.path) == (3, "order-42", "orders/2:log")
    assert record.correlation_id == "order-42"


async def test_a_logger_keeps_below_the_level_that_is_set(caplog):
    with caplog.at_level(logging.WARNING, logger="plait"):
        await log(3)
    assert caplog.records == []


def test_a_logger_says_nothing_until_logging_is_configured():
    script = (
        "from plait import WorkflowContext\n"
        "logger = WorkflowContext().logger\n"
        "logger.info('info')\n"
        "logger.warning('warning')\n"
        "logger.error('error')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


async def test_a_mock_sees_the_run_like_any_node(clock):
    await MockPrimitive(delay=2).execute(1, clock.context())
    assert clock.sleeps == [2]
