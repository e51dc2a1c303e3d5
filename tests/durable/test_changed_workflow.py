"""A workflow that no longer fits a run's journal is refused, and the journal left as it is."""

import sqlite3

import anyio
import pytest
from interruption import Gate, carry_on, interrupt
from waiting import until

from plait import (
    ConditionalPrimitive,
    FallbackPrimitive,
    MapPrimitive,
    ParallelPrimitive,
    PermanentError,
    RetryPrimitive,
    RouterPrimitive,
    SequentialPrimitive,
    step,
    workflow,
)
from plait.durable import DurableRunner, JournalError, WorkflowChangedError

pytestmark = pytest.mark.anyio


class Never:
    """A step that must not be reached."""

    def __call__(self, value):
        raise AssertionError("a changed workflow went on")


def sequence(*steps):
    return SequentialPrimitive(steps).named("workflow")


def content(file):
    """What a journal keeps of its runs."""
    with sqlite3.connect(file) as connection:
        # All but which runner's a run is.
        run = "run_id, workflow, status, updated, digest, input, context, failures, outcome"
        rows = [
            connection.execute(f"SELECT {columns} FROM {table} ORDER BY rowid").fetchall()
            for columns, table in ((run, "runs"), ("*", "records"))
        ]
    connection.close()
    return rows


async def refuse(journal, file, workflow):
    """What a changed workflow is refused with; the journal must not change with it."""
    before = content(file)
    async with DurableRunner(journal, workflows=[workflow]) as runner:
        run = await runner.get("run")
        with anyio.fail_after(5), pytest.raises(WorkflowChangedError) as caught:
            await run.result()
        assert (await run.info()).status == "running"
    assert content(file) == before
    return caught.value


def increment(number):
    return number + 1


def double(number):
    return number * 2


async def test_a_step_that_was_renamed_is_named(journal, file):
    gate = Gate()
    workflow = sequence(increment, double, gate)
    await interrupt(journal, workflow, 20, gate)
    renamed = sequence(increment, step(name="twice")(double), Never())
    error = await refuse(journal, file, renamed)
    assert error.path == "workflow/2:double"
    assert "'workflow/2:twice' is recorded as 'workflow/2:double'" in str(error)


async def test_a_run_that_is_left_as_it_is_stands_in_the_log(journal, caplog):
    gate = Gate()
    await interrupt(journal, sequence(increment, gate), 20, gate)
    async with DurableRunner(journal, workflows=[sequence(double, Never())]):
        # Nobody waits for the run here, as in a worker.
        await until(lambda: "left as it is" in caplog.text)
    assert "run 'run' is left as it is: 'workflow/1:double'" in caplog.text


async def test_a_run_goes_on_once_the_workflow_fits_again(journal, file):
    gate = Gate()
    workflow = sequence(increment, double, gate)
    await interrupt(journal, workflow, 20, gate)
    for changed in (sequence(double, Never()), sequence(increment, increment, Never())):
        await refuse(journal, file, changed)
    assert await carry_on(journal, workflow) == 42


async def test_a_step_that_was_inserted_is_found_at_the_first_place_that_differs(journal, file):
    gate = Gate()
    await interrupt(journal, sequence(increment, double, gate), 20, gate)
    error = await refuse(journal, file, sequence(increment, str, double, Never()))
    assert error.path == "workflow/2:double"


async def test_a_step_that_was_removed_is_found_at_the_first_place_that_differs(journal, file):
    gate = Gate()
    await interrupt(journal, sequence(increment, double, gate), 20, gate)
    error = await refuse(journal, file, sequence(double, Never()))
    assert error.path == "workflow/1:increment"


async def test_a_step_that_gets_another_input_is_named(journal, file):
    gate, factor = Gate(), [1]

    class Scaled(SequentialPrimitive):
        async def execute(self, input_data, context):
            return await super().execute(input_data * factor[0], context)

    workflow = Scaled([increment, gate]).named("workflow")
    await interrupt(journal, workflow, 20, gate)
    factor[0] = 2
    error = await refuse(journal, file, workflow)
    assert error.path == "workflow/1:increment"
    assert "'workflow/1:increment' got another input" in str(error)


async def test_a_step_may_be_added_where_a_run_has_not_come_to(journal):
    gate = Gate()
    await interrupt(journal, sequence(increment, gate), 20, gate)
    assert await carry_on(journal, sequence(increment, gate, double)) == 42


async def test_no_fallback_hides_a_change(journal, file):
    gate = Gate()
    await interrupt(journal, sequence(FallbackPrimitive(increment, [str]), gate), 20, gate)
    renamed = FallbackPrimitive(step(name="renamed")(increment), [Never()])
    error = await refuse(journal, file, sequence(renamed, Never()))
    assert error.path == "workflow/1:increment/primary"


async def test_no_retry_hides_a_change(journal, file):
    gate = Gate()
    retry = RetryPrimitive(step(increment) >> double)
    await interrupt(journal, sequence(retry, gate), 20, gate)
    renamed = sequence(RetryPrimitive(step(double) >> double).named("sequential"), Never())
    error = await refuse(journal, file, renamed)
    assert error.path == "workflow/1:sequential/attempt 1/1:increment"


async def test_no_failure_of_another_branch_hides_a_change(journal, file):
    @step
    async def fail(_):
        raise ConnectionError

    def falling_back(errors, *branches):
        return FallbackPrimitive(ParallelPrimitive(branches, errors=errors), [Never()])

    gate = Gate()
    workflow = sequence(falling_back("collect", fail, increment), gate)
    await interrupt(journal, workflow, 20, gate)
    changed = sequence(falling_back("raise", fail, step(name="renamed")(increment)))
    error = await refuse(journal, file, changed)
    assert error.path == "workflow/1:parallel/primary/2:increment"


async def test_no_task_group_of_a_step_hides_a_change(journal, file):
    gate, names = Gate(), ["increment"]

    @step
    async def shop(value):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(step(name=names[0])(increment), value)
        await step(gate)(value)
        return value

    await interrupt(journal, shop, 20, gate)
    names[0] = "renamed"
    error = await refuse(journal, file, shop)
    assert error.path == "shop/1:increment"


async def test_a_change_in_what_was_given_up_is_found(journal, file):
    gate, hang, names = Gate(), Gate(), ["increment"]

    @workflow
    async def shop(value):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon((step(name=names[0])(increment) >> hang).named("both"), value)
            await hang.reached.wait()
            tasks.cancel_scope.cancel()
        return await step(gate)(value)

    await interrupt(journal, shop, 20, gate)
    names[0] = "renamed"
    error = await refuse(journal, file, shop)
    assert error.path == "shop/1:both/1:increment"


async def test_a_finished_step_that_was_wrapped_is_not_done_again(journal, file):
    gate = Gate()
    await interrupt(journal, sequence(increment, gate), 20, gate)
    wrapped = RetryPrimitive(Never(), 0).named("increment")
    error = await refuse(journal, file, sequence(wrapped, Never()))
    assert error.path == "workflow/1:increment"


async def test_a_route_that_a_run_took_and_that_is_gone_is_named(journal, file):
    gate = Gate()
    router = RouterPrimitive({"cash": step(increment) >> gate, "card": double}, lambda _: "cash")
    await interrupt(journal, sequence(router), 20, gate)
    other = RouterPrimitive({"card": double}, lambda _: "card")
    error = await refuse(journal, file, sequence(other, Never()))
    assert error.path.startswith("workflow/1:router/")


async def test_a_map_over_other_items_is_named(journal, file):
    gate, items = Gate(), [1, 2]

    class Items(SequentialPrimitive):
        async def execute(self, input_data, context):
            return await super().execute(items, context)

    workflow = Items([MapPrimitive(increment), gate]).named("workflow")
    await interrupt(journal, workflow, None, gate)
    items[1] = 3
    error = await refuse(journal, file, workflow)
    assert error.path == "workflow/1:increment"


@step(name="pair")
async def annotated(value) -> tuple[int, ...]:
    return (value, value)


@step(name="pair")
async def bare(value):
    return (value, value)


@step(name="pair")
async def listed(value) -> list[int]:
    return (value, value)


@step(name="pair")
async def named(value) -> tuple[str, str]:
    return (value, value)


@step(name="pair")
async def unknown(value) -> Never:
    return (value, value)


@pytest.mark.parametrize(
    "changed", [bare, listed, named, unknown], ids=["bare", "listed", "named", "unknown"]
)
async def test_a_result_is_not_taken_for_another_type(journal, changed):
    gate = Gate()
    await interrupt(journal, sequence(annotated, gate), 20, gate)
    with pytest.raises((WorkflowChangedError, JournalError), match="workflow/1:pair"):
        await carry_on(journal, sequence(changed, Never()))


async def test_a_condition_that_was_exchanged_is_not_asked(journal):
    gate = Gate()
    before = ConditionalPrimitive(lambda _: True, step(increment) >> gate, Never())
    await interrupt(journal, sequence(before), 20, gate)
    after = ConditionalPrimitive(Never(), step(increment) >> gate, Never())
    assert await carry_on(journal, sequence(after)) == 21


async def test_a_change_cannot_be_mended_by_trying_again():
    assert issubclass(WorkflowChangedError, PermanentError)
