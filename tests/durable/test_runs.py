"""Starting runs, finding them again, and what a runner says of them."""

from datetime import UTC, datetime

import anyio
import pytest
from interruption import Gate, carry_on

from plait import PermanentError, SerializationError, WorkflowContext, step
from plait.durable import (
    DurableRunner,
    JournalError,
    RunConflictError,
    RunNotFoundError,
)

pytestmark = pytest.mark.anyio

greet = (step(str.title) >> "Hello {}".format).named("greet")


@step
async def fail(message):
    raise ConnectionError(message)


async def test_a_run_returns_what_its_workflow_returns(journal):
    async with DurableRunner(journal) as runner:
        assert await runner.run(greet, "ada") == "Hello Ada"


async def test_a_run_raises_what_its_workflow_raises(journal):
    async with DurableRunner(journal) as runner:
        with pytest.raises(ConnectionError, match="line is down") as caught:
            await runner.run(fail, "line is down", run_id="call-7")
    assert caught.value.__notes__ == ["in step 'fail' (fail, run call-7)"]


async def test_a_run_goes_by_the_id_that_it_is_given(journal):
    async with DurableRunner(journal) as runner:
        run = await runner.start(greet, "ada", run_id="order-42")
    assert run.run_id == "order-42"
    assert repr(run) == "<Run 'order-42'>"


async def test_a_run_without_an_id_gets_a_new_one(journal):
    @step
    async def correlation_id(_, context: WorkflowContext):
        return context.correlation_id

    async with DurableRunner(journal) as runner:
        runs = [await runner.start(correlation_id, None) for _ in range(200)]
        ids = {run.run_id for run in runs} | {await run.result() for run in runs}
    assert len(ids) == 400


async def test_a_run_counts_the_nodes_that_it_executed(journal):
    async with DurableRunner(journal) as runner:
        run = await runner.start(greet, "ada")
        await run.result()
    assert (run.executed, run.replayed) == (2, 0)


async def test_a_step_sees_what_its_run_was_started_with(journal):
    @step
    async def look(_, context: WorkflowContext):
        return {
            "run_id": context.run_id,
            "path": context.path,
            "data": context.data,
            "metadata": dict(context.metadata),
            "correlation_id": context.correlation_id,
        }

    seen = {"data": {"user": "ada"}, "metadata": {"tier": "gold"}, "correlation_id": "request-1"}
    async with DurableRunner(journal) as runner:
        result = await runner.run(look, None, run_id="order-42", **seen)
    assert result == {"run_id": "order-42", "path": "look", **seen}


async def test_starting_a_run_twice_executes_it_once(journal):
    calls = []
    noting = step(calls.append)
    async with DurableRunner(journal) as runner:
        await runner.run(noting, "ada", run_id="order-42")
        again = await runner.start(noting, "ada", run_id="order-42")
        assert await again.result() is None
    assert calls == ["ada"]
    assert (again.executed, again.replayed) == (0, 0)


async def test_tasks_that_start_one_run_at_the_same_time_share_it(journal):
    calls = []
    results = []

    @step
    async def charge(order):
        calls.append(order)
        await anyio.sleep(0.01)
        return f"charged {order}"

    async def start_and_wait(runner):
        results.append(await runner.run(charge, "42", run_id="order-42"))

    async with DurableRunner(journal) as runner, anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(start_and_wait, runner)
    assert calls == ["42"]
    assert results == ["charged 42"] * 20


async def test_a_run_is_attached_to_while_it_is_under_way(journal):
    gate = Gate()
    workflow = step(gate)
    async with DurableRunner(journal) as runner:
        first = await runner.start(workflow, 1, run_id="run")
        second = await runner.start(workflow, 1, run_id="run")
        third = await runner.get("run")
        gate.open()
        assert [await run.result() for run in (first, second, third)] == [1, 1, 1]
    assert gate.passed == 1


async def test_a_finished_run_is_attached_to_by_another_runner(journal):
    async with DurableRunner(journal) as runner:
        await runner.run(greet, "ada", run_id="run")
    async with DurableRunner(journal) as runner:
        assert await runner.run(greet, "ada", run_id="run") == "Hello Ada"


async def test_a_failed_run_is_attached_to_by_another_runner(journal):
    async with DurableRunner(journal) as runner:
        await runner.start(fail, "line is down", run_id="run")
    async with DurableRunner(journal) as runner:
        with pytest.raises(ConnectionError, match="line is down"):
            await runner.run(fail, "line is down", run_id="run")


async def test_a_run_id_stands_for_one_input(journal):
    async with DurableRunner(journal) as runner:
        await runner.run(greet, "ada", run_id="order-42")
        with pytest.raises(RunConflictError, match=r"'order-42' of 'greet' .* another input"):
            await runner.start(greet, "bob", run_id="order-42")
        assert await runner.run(greet, "ada", run_id="order-42") == "Hello Ada"


async def test_a_run_id_stands_for_one_workflow(journal):
    async with DurableRunner(journal) as runner:
        await runner.run(greet, "ada", run_id="order-42")
        with pytest.raises(RunConflictError, match=r"'order-42' of 'greet' .* another workflow"):
            await runner.start(fail, "ada", run_id="order-42")


async def test_a_conflict_cannot_be_mended_by_trying_again():
    assert issubclass(RunConflictError, PermanentError)


async def test_equal_inputs_are_the_same_input_whatever_the_order_of_their_keys(
    journal,
):
    total = step(lambda order: sum(order.values()), name="total")
    async with DurableRunner(journal) as runner:
        await runner.run(total, {"tea": 1, "milk": 2}, run_id="order-42")
        assert await runner.run(total, {"milk": 2, "tea": 1}, run_id="order-42") == 3


async def test_an_input_that_cannot_be_encoded_starts_no_run(journal):
    async with DurableRunner(journal) as runner:
        with pytest.raises(SerializationError, match=r"cannot encode .*Lock at \.locks\[1\]"):
            await runner.start(greet, {"locks": [1, anyio.Lock()]})
        assert await runner.list() == []


async def test_the_metadata_of_one_run_may_be_passed_on_to_another(journal):
    async with DurableRunner(journal) as runner:
        first = await runner.start(greet, "ada", metadata={"tier": "gold"})
        metadata = (await first.info()).metadata
        second = await runner.start(greet, "bob", metadata=metadata)
        assert (await second.info()).metadata == {"tier": "gold"}


async def test_runs_are_listed_with_the_newest_first(journal):
    async with DurableRunner(journal) as runner:
        for name in ("ada", "bob", "eve"):
            await runner.run(greet, name, run_id=name)
        assert [info.run_id for info in await runner.list()] == ["eve", "bob", "ada"]
        assert [info.run_id for info in await runner.list(limit=2)] == ["eve", "bob"]


async def test_runs_are_listed_by_workflow_and_by_status(journal):
    gate = Gate()
    gated = step(gate)
    async with DurableRunner(journal) as runner:
        await runner.run(greet, "ada", run_id="greeted")
        with pytest.raises(ConnectionError):
            await runner.run(fail, "down", run_id="failed")
        await runner.start(gated, "eve", run_id="waiting")

        async def ids(**filters):
            return [info.run_id for info in await runner.list(**filters)]

        assert await ids(status="running") == ["waiting"]
        assert await ids(status="completed") == ["greeted"]
        assert await ids(status="failed") == ["failed"]
        assert await ids(workflow="fail") == ["failed"]
        assert await ids(workflow="fail", status="completed") == []
        gate.open()


async def test_a_list_that_cannot_be_asked_for_is_refused(journal):
    async with DurableRunner(journal) as runner:
        with pytest.raises(JournalError, match="too large"):
            await runner.list(limit=2**70)
        assert await runner.list() == []


async def test_info_says_what_the_journal_knows_of_a_run(journal):
    before = datetime.now(UTC)
    async with DurableRunner(journal) as runner:
        run = await runner.start(greet, "ada", run_id="order-42", metadata={"tier": "gold"})
        await run.result()
        info = await run.info()
    assert (info.run_id, info.workflow, info.status) == ("order-42", "greet", "completed")
    assert info.metadata == {"tier": "gold"}
    assert before <= info.created_at <= info.updated_at <= datetime.now(UTC)


async def test_a_run_that_is_not_there_is_named(journal):
    async with DurableRunner(journal) as runner:
        for method in (runner.get, runner.info, runner.resume):
            with pytest.raises(RunNotFoundError, match="no run 'order-42'") as caught:
                await method("order-42")
    assert isinstance(caught.value, LookupError)


async def test_two_workflows_of_one_name_are_refused(journal):
    other = step(name="greet")(str.upper)
    with pytest.raises(ValueError, match=r"named 'greet'.*\.named\("):
        DurableRunner(journal, workflows=[greet, other])
    async with DurableRunner(journal, workflows=[greet]) as runner:
        with pytest.raises(ValueError, match="named 'greet'"):
            await runner.start(other, "ada")


async def test_a_function_is_a_workflow_as_often_as_it_is_started(journal):
    async def shout(text):
        return text.upper()

    async with DurableRunner(journal, workflows=[shout]) as runner:
        assert await runner.run(shout, "ada") == "ADA"
        assert await runner.run(shout, "bob") == "BOB"


@pytest.mark.parametrize(
    "address", ["", "runs.db", "sqlite:runs.db", "sqlite://runs.db", "sqlite:///", "mysql:///runs"]
)
async def test_an_address_of_another_form_is_refused(address):
    with pytest.raises(ValueError, match="no address of a journal") as caught:
        DurableRunner(address)
    assert repr(address) in str(caught.value)


async def test_an_address_is_relative_with_three_slashes(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    async with DurableRunner("sqlite:///runs.db") as runner:
        await runner.run(greet, "ada")
    assert file.exists()


async def test_a_runner_is_entered_once(journal):
    runner = DurableRunner(journal)
    async with runner:
        with pytest.raises(RuntimeError, match="entered already"):
            await runner.__aenter__()
        assert await runner.run(greet, "ada") == "Hello Ada"
    with pytest.raises(RuntimeError, match="make another one"):
        await runner.__aenter__()


async def test_a_runner_is_used_after_it_is_entered(journal, file):
    runner = DurableRunner(journal)
    with pytest.raises(RuntimeError, match="enter the DurableRunner first"):
        await runner.start(greet, "ada")
    assert not file.exists()


async def test_a_runner_is_not_used_after_it_is_left(journal):
    async with DurableRunner(journal) as runner:
        pass
    with pytest.raises(JournalError, match="not open"):
        await runner.start(greet, "ada")


async def test_leaving_waits_for_the_runs_that_are_under_way(journal):
    @step
    async def slow(value):
        await anyio.sleep(0.1)
        return value

    async with DurableRunner(journal) as runner:
        run = await runner.start(slow, 42)
    assert await run.result() == 42


async def test_leaving_suspends_what_outlasts_the_grace(journal):
    gate = Gate()
    gated = step(gate)
    async with DurableRunner(journal, grace_seconds=0.05) as runner:
        run = await runner.start(gated, 42, run_id="run")
    with pytest.raises(JournalError, match="'run' was suspended"):
        await run.result()
    gate.open()
    assert await carry_on(journal, gated) == 42


async def test_leaving_by_an_error_waits_for_nothing(journal):
    gated = step(Gate())

    async def leave_by_an_error():
        async with DurableRunner(journal) as runner:
            await runner.start(gated, 42)
            raise KeyError("mine")

    with anyio.fail_after(5), pytest.raises(KeyError, match="mine"):
        await leave_by_an_error()


async def test_a_runner_that_is_cancelled_suspends_its_runs(journal):
    gate = Gate()
    gated = step(gate)
    scope = anyio.CancelScope()

    async def cancel_once_it_is_under_way():
        await gate.reached.wait()
        scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cancel_once_it_is_under_way)
        with scope:
            async with DurableRunner(journal) as runner:
                await runner.run(gated, 42, run_id="run")
    assert scope.cancelled_caught
    gate.open()
    assert await carry_on(journal, gated) == 42


async def test_a_waiter_that_is_cancelled_leaves_its_run_alone(journal):
    gate = Gate()
    gated = step(gate)
    async with DurableRunner(journal) as runner:
        with anyio.move_on_after(0.05):
            await runner.run(gated, 42, run_id="run")
        gate.open()
        assert await runner.run(gated, 42, run_id="run") == 42
    assert gate.passed == 1


async def test_a_failure_that_cannot_be_encoded_fails_its_own_run_alone(journal):
    @step
    async def entangle(_):
        knot = []
        knot.append((knot,))
        return knot

    gate = Gate()
    gated = step(gate)
    async with DurableRunner(journal) as runner:
        other = await runner.start(gated, 42)
        with pytest.raises(SerializationError, match="contains itself"):
            await runner.run(entangle, None)
        gate.open()
        assert await other.result() == 42


async def test_an_error_that_cannot_say_what_it_is_fails_its_own_run_alone(journal):
    class SpeechlessError(Exception):
        def __str__(self):
            raise LookupError("no words")

    @step
    async def break_down(_):
        raise SpeechlessError

    async with DurableRunner(journal) as runner:
        with pytest.raises(SpeechlessError):
            await runner.run(break_down, None, run_id="run")
        assert (await runner.info("run")).status == "failed"
