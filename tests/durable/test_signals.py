"""Signals: what a run is told from outside, once, in order, whenever it comes."""

from dataclasses import dataclass

import anyio
import pytest
from interruption import Gate
from waiting import runner_of, until, until_status, until_waiting

from plait import (
    SignalPayloadError,
    SignalPrimitive,
    StepTimeoutError,
    WorkflowContext,
    step,
    workflow,
)
from plait.durable import (
    DurableRunner,
    FolderBlobStore,
    JournalError,
    RunEndedError,
    RunNotFoundError,
)

pytestmark = pytest.mark.anyio


@dataclass
class Approval:
    by: str
    amount: int = 0


@workflow
async def order(number: int, context: WorkflowContext) -> str:
    approval = await context.wait_for("approval", Approval)
    return f"{number} by {approval.by}"


@workflow
async def collect(count: int, context: WorkflowContext) -> list:
    return [await context.wait_for("item") for _ in range(count)]


async def test_a_run_waits_for_a_signal_and_is_told_what_it_brought(journal):
    async with runner_of(journal, order) as runner:
        run = await runner.start(order, 42, run_id="run")
        await run.signal("approval", Approval("ada", 10))
        assert await run.result() == "42 by ada"


async def test_plain_data_becomes_the_type_that_is_waited_for(journal):
    async with runner_of(journal, order) as runner:
        run = await runner.start(order, 42)
        await run.signal("approval", {"by": "ada"})
        assert await run.result() == "42 by ada"


async def test_a_run_out_of_memory_is_woken_by_its_signal(journal):
    async with runner_of(journal, order) as runner:
        run = await runner.start(order, 42, run_id="run")
        info = await until_waiting(runner, "run")
        assert [wait.signal for wait in info.waits] == ["approval"]
        await run.signal("approval", Approval("ada"))
        assert await run.result() == "42 by ada"


async def test_a_signal_that_comes_early_is_kept(journal):
    gate = Gate()

    @workflow
    async def late(number: int, context: WorkflowContext) -> str:
        await context.step("gate", gate, number)
        return await context.wait_for("approval", str)

    async with runner_of(journal, late) as runner:
        run = await runner.start(late, 42)
        await run.signal("approval", "ada")
        gate.open()
        assert await run.result() == "ada"


async def test_a_signal_to_a_run_that_has_not_begun_is_kept(journal):
    async with runner_of(journal, order) as runner:
        run = await runner.start(order, 42, delay=0.1)
        await run.signal("approval", Approval("ada"))
        assert await run.result() == "42 by ada"


async def test_several_signals_are_taken_in_the_order_in_which_they_were_sent(journal):
    async with runner_of(journal, collect) as runner:
        run = await runner.start(collect, 5, run_id="run")
        for number in range(3):
            await run.signal("item", number)
        await until_waiting(runner, "run")
        for number in range(3, 5):
            await run.signal("item", number)
        assert await run.result() == [0, 1, 2, 3, 4]


async def test_signals_of_other_names_are_none_of_its_business(journal):
    @workflow
    async def both(_: None, context: WorkflowContext) -> list:
        return [await context.wait_for("b"), await context.wait_for("a")]

    async with runner_of(journal, both) as runner:
        run = await runner.start(both, None)
        await run.signal("a", 1)
        await run.signal("b", 2)
        assert await run.result() == [2, 1]


async def test_a_signal_sent_twice_with_an_id_comes_once(journal):
    async with runner_of(journal, collect) as runner:
        run = await runner.start(collect, 3, run_id="run")
        for _ in range(3):
            await runner.signal("run", "item", "a", signal_id="one")
        await until_waiting(runner, "run")
        await runner.signal("run", "item", "a", signal_id="one")
        await runner.signal("run", "item", "b", signal_id="two")
        await runner.signal("run", "item", "c")
        assert await run.result() == ["a", "b", "c"]


async def test_an_id_stands_for_a_signal_of_one_run(journal):
    async with runner_of(journal, order) as runner:
        runs = [await runner.start(order, n, run_id=f"run-{n}") for n in range(2)]
        for run in runs:
            await runner.signal(run.run_id, "approval", Approval("ada"), signal_id="one")
        assert [await run.result() for run in runs] == ["0 by ada", "1 by ada"]


async def test_a_payload_of_another_type_is_refused_where_it_is_sent(journal):
    review = SignalPrimitive("approval", Approval).named("review")
    async with runner_of(journal, review) as runner:
        run = await runner.start(review, 42)
        with pytest.raises(SignalPayloadError, match="payload of signal 'approval' does not fit"):
            await run.signal("approval", 7)
        await run.signal("approval", Approval("ada"))
        assert await run.result() == Approval("ada")


async def test_a_payload_is_refused_by_what_a_body_was_seen_to_wait_for(journal):
    async with runner_of(journal, order) as runner:
        run = await runner.start(order, 42, run_id="run")
        await until_waiting(runner, "run")
        with pytest.raises(SignalPayloadError, match="'approval'"):
            await run.signal("approval", 7)
        assert (await run.info()).status == "waiting"


async def test_a_payload_that_fits_one_of_several_waits_is_taken(journal):
    either = (
        SignalPrimitive("answer", int)
        >> SignalPrimitive("answer", str, combine=lambda a, b: (a, b))
    ).named("either")
    async with runner_of(journal, either) as runner:
        run = await runner.start(either, None)
        with pytest.raises(SignalPayloadError):
            await run.signal("answer", [])
        await run.signal("answer", 1)
        await run.signal("answer", "two")
        assert await run.result() == (1, "two")


async def test_a_payload_that_turns_out_not_to_fit_fails_the_wait_and_not_for_good(journal):
    async with runner_of(journal, order) as runner:
        run = await runner.start(order, 42, run_id="run", delay=0.1)
        await run.signal("approval", 7)  # nobody has waited for it here, so nobody knows
        with pytest.raises(SignalPayloadError):
            await run.result()
        run = await runner.resume("run")
        await run.signal("approval", Approval("ada"))
        assert await run.result() == "42 by ada"


async def test_a_payload_of_any_class_is_checked(journal):
    class Token:
        pass

    tokens = SignalPrimitive("token", Token).named("tokens")
    async with runner_of(journal, tokens) as runner:
        run = await runner.start(tokens, None)
        with pytest.raises(SignalPayloadError, match=r"7 is no .*Token"):
            await run.signal("token", 7)


async def test_a_signal_that_nothing_can_wait_for_is_refused(journal):
    review = (step(str) >> SignalPrimitive("approval")).named("review")
    async with runner_of(journal, review) as runner:
        run = await runner.start(review, 42)
        with pytest.raises(
            ValueError, match=r"'review' waits for no signal 'aproval'; .* 'approval'"
        ):
            await run.signal("aproval")


async def test_what_a_body_may_wait_for_is_not_known_before(journal):
    @workflow
    async def nested(_: None, context: WorkflowContext) -> str:
        return await inner(None)

    @workflow
    async def inner(_: None, context: WorkflowContext) -> str:
        return await context.wait_for("deep", str)

    async with runner_of(journal, nested) as runner:
        run = await runner.start(nested, None)
        await run.signal("deep", "found")
        assert await run.result() == "found"


async def test_a_run_that_is_not_there_takes_no_signal(journal):
    async with runner_of(journal) as runner:
        with pytest.raises(RunNotFoundError, match="no run 'nobody'"):
            await runner.signal("nobody", "approval")


async def test_a_run_that_has_ended_takes_no_signal(journal):
    async with runner_of(journal, order) as runner:
        run = await runner.start(order, 42, run_id="run")
        await run.signal("approval", Approval("ada"))
        await run.result()
        with pytest.raises(RunEndedError, match=r"'run' has completed, and takes no signal"):
            await run.signal("approval", Approval("bob"))


async def test_a_signal_comes_from_another_runner(journal):
    @workflow(name="order")
    async def unlike(number: int) -> None: ...

    async with runner_of(journal, order) as first, runner_of(journal) as second:
        run = await first.start(order, 42, run_id="run")
        await second.signal("run", "approval", Approval("ada"))
        assert await run.result() == "42 by ada"
        await first.start(order, 43, run_id="other")
        await until_waiting(first, "other")
        await second.signal("other", "approval", Approval("bob"))
        assert await (await first.get("other")).result() == "43 by bob"


async def test_a_run_is_woken_by_whichever_runner_comes_first(journal):
    async with runner_of(journal, order) as runner:
        await runner.start(order, 42, run_id="run")
        await until_waiting(runner, "run")
    async with runner_of(journal) as runner:
        await runner.signal("run", "approval", Approval("ada"))
        assert (await runner.info("run")).status == "waiting"
    async with runner_of(journal, order) as runner:
        assert await (await runner.get("run")).result() == "42 by ada"


async def test_a_wait_for_a_signal_ends_when_its_time_is_over(journal):
    @workflow
    async def patient(_: None, context: WorkflowContext) -> str:
        try:
            return await context.wait_for("approval", timeout=0.15)
        except StepTimeoutError as error:
            return str(error)

    async with runner_of(journal, patient) as runner:
        run = await runner.start(patient, None, run_id="run")
        info = await until_status(runner, "run", "waiting", "completed")
        assert info.status == "completed" or info.waits[0].until is not None
        assert await run.result() == "'patient' was sent no signal 'approval' within 0.15 s"


async def test_a_wait_that_was_given_up_stays_given_up(journal):
    gate = Gate()

    @workflow
    async def patient(_: None, context: WorkflowContext) -> list:
        try:
            await context.wait_for("approval", timeout=0.01)
        except StepTimeoutError:
            await context.step("gate", gate, None)
        return ["late", await context.wait_for("approval")]

    async with runner_of(journal, patient) as runner:
        await runner.start(patient, None, run_id="run")
        await gate.reached.wait()
    gate.open()
    async with runner_of(journal, patient) as runner:
        await runner.signal("run", "approval", "ada")
        assert await (await runner.get("run")).result() == ["late", "ada"]


async def test_a_run_whose_wait_was_over_waits_anew_when_it_is_resumed(journal):
    asked = []

    @workflow
    async def review(_: None, context: WorkflowContext) -> list:
        first = await context.wait_for("first")
        await context.step("note", asked.append, first)
        return [first, await context.wait_for("second", timeout=0.1)]

    async with runner_of(journal, review) as runner:
        run = await runner.start(review, None, run_id="run")
        await run.signal("first", 1)
        with pytest.raises(StepTimeoutError):
            await run.result()
        run = await runner.resume("run")
        await run.signal("second", 2)
        assert await run.result() == [1, 2]
    assert asked == [1]


async def test_what_a_failed_run_was_told_is_not_asked_for_again(journal):
    is_up = []

    @step
    async def charge(by):
        if not is_up:
            raise ConnectionError
        return f"charged for {by}"

    @workflow
    async def pay(_: None, context: WorkflowContext) -> str:
        return await charge(await context.wait_for("approval"))

    async with runner_of(journal, pay) as runner:
        run = await runner.start(pay, None, run_id="run")
        await run.signal("approval", "ada")
        with pytest.raises(ConnectionError):
            await run.result()
        is_up.append(True)
        assert await (await runner.resume("run")).result() == "charged for ada"


async def test_a_signal_that_was_taken_is_told_again_after_an_interruption(journal):
    gate = Gate()

    @workflow
    async def review(_: None, context: WorkflowContext) -> str:
        by = await context.wait_for("approval", str)
        return await context.step("gate", gate, by)

    async with runner_of(journal, review) as runner:
        run = await runner.start(review, None, run_id="run")
        await run.signal("approval", "ada")
        await gate.reached.wait()
        await run.signal("approval", "bob")
    gate.open()
    async with runner_of(journal, review) as runner:
        assert await (await runner.get("run")).result() == "ada"


async def test_tasks_that_wait_for_one_signal_each_get_one(journal):
    @workflow
    async def share(_: None, context: WorkflowContext) -> list:
        return await context.gather(*(context.wait_for("item") for _ in range(3)))

    async with runner_of(journal, share) as runner:
        run = await runner.start(share, None, run_id="run")
        await until_waiting(runner, "run")
        for item in "abc":
            await run.signal("item", item)
        assert sorted(await run.result()) == ["a", "b", "c"]


async def test_a_wait_that_lost_a_race_has_lost_it_for_good(journal):
    """What came first stays first, whatever has come before the run is executed again."""
    gate = Gate()

    @workflow
    async def race(_: None, context: WorkflowContext) -> list:
        won = []

        async def wait(name):
            won.append(await context.wait_for(name))
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, "a")
            tasks.start_soon(wait, "b")
        await context.step("gate", gate, None)
        return [*won, await context.wait_for("a")]

    async with runner_of(journal, race) as runner:
        run = await runner.start(race, None, run_id="run")
        await run.signal("b", "b first")
        await gate.reached.wait()
        await run.signal("a", "a later")
    gate.open()
    async with runner_of(journal, race) as runner:
        assert await (await runner.get("run")).result() == ["b first", "a later"]


async def test_a_sleep_that_lost_a_race_has_lost_it_for_good(journal):
    gate = Gate()

    @workflow
    async def race(_: None, context: WorkflowContext) -> list:
        done = []

        async def first(name, call):
            await call
            done.append(name)
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first, "time", context.sleep(0.3))
            tasks.start_soon(first, "signal", context.wait_for("go"))
        await context.step("gate", gate, None)
        return done

    async with runner_of(journal, race) as runner:
        run = await runner.start(race, None, run_id="run")
        await run.signal("go")
        await gate.reached.wait()
    await anyio.sleep(0.35)
    gate.open()
    async with runner_of(journal, race) as runner:
        assert await (await runner.get("run")).result() == ["signal"]


async def test_a_signal_is_not_lost_to_a_wait_that_is_given_up_as_it_comes(journal):
    """Each of many waits is cut off at about the time when a signal is sent."""

    @workflow
    async def hurried(_: None, context: WorkflowContext) -> list:
        got = []
        while len(got) < 20:
            try:
                got.append(await context.within(0.003, lambda: context.wait_for("item")))
            except StepTimeoutError:
                continue
        return got

    async with runner_of(journal, hurried, suspend_after=5) as runner:
        run = await runner.start(hurried, None, run_id="run")
        for number in range(20):
            await runner.signal("run", "item", number, signal_id=f"item-{number}")
            await anyio.sleep(0.002)
        assert await run.result() == list(range(20))
        assert (await runner.verify("run")).fits


async def test_a_large_payload_goes_through_the_blobs(journal, tmp_path):
    @workflow
    async def read(_: None, context: WorkflowContext) -> int:
        first = await context.wait_for("text", str)
        await context.set_event("read", first)
        return len(first) + len(await context.wait_for("text", str))

    async with runner_of(journal, read, blobs=FolderBlobStore(tmp_path / "blobs")) as runner:
        run = await runner.start(read, None, run_id="run")
        await run.signal("text", "a" * 100_000)
        assert await run.event("read") == "a" * 100_000
        await until_waiting(runner, "run")
        await run.signal("text", "b" * 100_000)
        assert await run.result() == 200_000


async def test_a_body_sends_a_signal_once_wherever_it_is_interrupted(journal):
    gate = Gate()
    runners = []

    @workflow
    async def teller(_: None, context: WorkflowContext) -> None:
        await runners[-1].signal("collect", "item", "told")
        await context.step("gate", gate, None)
        await runners[-1].signal("collect", "item", "told again")

    async with runner_of(journal, teller, collect) as runner:
        runners.append(runner)
        await runner.start(collect, 3, run_id="collect")
        await runner.start(teller, None, run_id="run")
        await gate.reached.wait()
    gate.open()
    async with runner_of(journal, teller, collect) as runner:
        runners.append(runner)
        await (await runner.get("run")).result()
        assert (await runner.verify("run")).fits
        await runner.signal("collect", "item", "last")
        told = await (await runner.get("collect")).result()
    assert told == ["told", "told again", "last"]


async def test_a_step_of_a_run_may_send_a_signal(journal):
    @step
    async def tell(run_id: str) -> None:
        await runners[0].signal(run_id, "item", "told")

    runners = []
    async with runner_of(journal, tell, collect) as runner:
        runners.append(runner)
        collecting = await runner.start(collect, 1, run_id="collect")
        await runner.run(tell, "collect")
        assert await collecting.result() == ["told"]


async def test_a_changed_signal_in_a_body_is_a_changed_workflow(journal):
    gate = Gate()
    text = ["told"]
    runners = []

    @workflow
    async def teller(_: None, context: WorkflowContext) -> None:
        await runners[-1].signal("collect", "item", text[0])
        await context.step("gate", gate, None)

    async with runner_of(journal, teller, collect) as runner:
        runners.append(runner)
        await runner.start(collect, 3, run_id="collect")
        await runner.start(teller, None, run_id="run")
        await gate.reached.wait()
        text[0] = "something else"
        verification = await runner.verify("run")
    assert not verification.fits
    assert verification.error.path == "teller/#send"


async def test_two_thousand_runs_wait_and_are_woken(journal):
    async with runner_of(journal, order) as runner, anyio.create_task_group() as tasks:
        for number in range(2000):
            tasks.start_soon(runner.start, order, number)

        async def count(status):
            return len(await runner.list(status=status, limit=5000))

        async def all_wait():
            return await count("waiting") == 2000

        await until(all_wait, 45)
        await until(lambda: not runner._executor.executions)
        for info in await runner.list(limit=5000):
            tasks.start_soon(runner.signal, info.run_id, "approval", Approval("ada"))

        async def all_ended():
            return await count("completed") == 2000

        await until(all_ended, 45)
        assert await count("completed") == 2000


async def test_a_runner_that_was_left_takes_no_signal(journal):
    async with DurableRunner(journal) as runner:
        pass
    with pytest.raises(JournalError, match="is not open"):
        await runner.signal("run", "approval")
