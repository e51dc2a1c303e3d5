"""Each primitive and wrapper on a real Restate server."""

from decimal import Decimal

import carried
import pytest
from effects import effects_of, until_begun

from plait import Failure, RecordedError, SerializationError, StepTimeoutError, Success
from plait.durable import RunCancelledError
from plait.durable.restate import UnsupportedOnRestateError

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=[0, 60], ids=["replayed", "stays"])
def stays(request):
    """Both ways: a run is replayed at each of its waits, or stays in memory all the time."""
    return request.param


RUNS = [
    (carried.journey, carried.JOURNEY_INPUT, carried.JOURNEY_RESULT),
    (carried.typed, carried.Order(1, Decimal("1.50")), carried.Order(1, Decimal("6.00"))),
    (carried.chosen, 9, "9"),
    (carried.chosen, 2, "2"),
    (carried.at_once, 2, 6),
    (carried.mapped_at_once, [1, 2, 3], [1, 2, 3]),
    (carried.streamed, 5, [0, 2, 4, 6, 8]),
    (carried.custom, 1, 3),
    (carried.guarded, 1, 6),
    (carried.careful, 1, 2),
    (carried.large, 9_000_000, 9_000_000),
    (carried.many, list(range(100)), list(range(100))),
    (carried.timed_out, 1, "1"),
    (carried.swallows, 1, [0.05, 0.2]),
    (carried.unhurried, 1, 2),
    (carried.folds, 4, [0, 1, 2, 3]),
]


@pytest.mark.parametrize(("workflow", "given", "expected"), RUNS, ids=lambda it: str(it)[:20])
async def test_run_comes_to_the_same_as_in_process_and_nothing_runs_twice(
    client, workflow, given, expected
):
    run = await client.start(workflow, given)
    assert await run.result() == expected
    effects_of(run.run_id).check_each_ran_once()


async def test_failures_are_collected_with_their_types(client):
    outcomes = await client.run(carried.collected, 1)
    assert outcomes["fine"] == Success("1")
    assert isinstance(outcomes["bad"], Failure)
    assert isinstance(outcomes["bad"].error, KeyError)
    assert outcomes["bad"].path == "collected/bad"


async def test_failure_keeps_its_type_and_says_where_it_was(client):
    with pytest.raises(ConnectionError, match="down") as caught:
        await client.run(carried.exhausted, 1, run_id="down-1")
    notes = "\n".join(caught.value.__notes__)
    assert "in step 'always' (exhausted, attempt 3 of 3, run down-1)" in notes
    assert "gave up after 3 attempts" in notes
    assert effects_of("down-1").paths == [f"exhausted/attempt {n}" for n in (1, 2, 3)]


async def test_error_of_a_class_that_is_not_here_is_told_by_name(client):
    with pytest.raises(RecordedError, match="UnheardError: number 7"):
        await client.run(carried.unknown_error, 7)


@pytest.mark.parametrize("workflow", [carried.unencodable, carried.returns_what_has_no_form])
async def test_result_that_has_no_form_fails_its_node_at_once(client, workflow):
    with pytest.raises(SerializationError, match="object"):
        await client.run(workflow, 1)


async def test_what_had_finished_is_undone_in_reverse_order(client):
    run = await client.start(carried.saga, 1)
    with pytest.raises(ValueError, match="no truck"):
        await run.result()
    assert [path.split(":")[-1] for path in effects_of(run.run_id).paths] == [
        "reserve/forward",
        "pay/forward",
        "ship",
        "pay/compensation",
        "reserve/compensation",
    ]


async def test_failed_branch_cancels_the_others_and_waits_for_them(client, stays):
    if not stays:
        pytest.skip("Restate tells a run that is to leave memory nothing while a step is under way")
    run = await client.start(carried.stuck_branches, 1)
    with pytest.raises(ValueError, match="bad"):
        await run.result()
    stages = [stage for stage, _ in effects_of(run.run_id).lines]
    assert sorted(stages) == [1, 2, 2, 3, 100]
    assert stages[-2:] == [3, 100], "compensated before the cancelled branch had ended"


async def test_cancelled_step_ends_before_it_is_compensated(client, stays):
    if not stays:
        pytest.skip("Restate tells a run that is to leave memory nothing while a step is under way")
    run = await client.start(carried.stuck_run, 1)
    await until_begun(run, 2)
    assert await run.cancel()
    with pytest.raises(RunCancelledError):
        await run.result()
    assert [stage for stage, _ in effects_of(run.run_id).lines] == [1, 2, 3, 100]


async def test_step_that_finished_though_it_was_cancelled_is_undone(client, stays):
    if not stays:
        pytest.skip("Restate tells a run that is to leave memory nothing while a step is under way")
    run = await client.start(carried.finishes_late, 1)
    await until_begun(run, 1)
    await run.cancel()
    with pytest.raises(RunCancelledError):
        await run.result()
    assert [stage for stage, _ in effects_of(run.run_id).lines] == [1, 100]


async def test_cancelled_branches_are_waited_for(client):
    run = await client.start(carried.from_both_sides, 3)
    with pytest.raises(StepTimeoutError):
        await run.event("never", timeout=0.1)
    assert await run.cancel()
    with pytest.raises(RunCancelledError):
        await run.result()


async def test_compensation_is_not_cancelled(client, stays):
    run = await client.start(carried.undone_slowly, 1)
    await until_begun(run, 3)
    await run.cancel()
    with pytest.raises((ValueError, RunCancelledError)):
        await run.result()
    assert [stage for stage, _ in effects_of(run.run_id).lines] == [1, 2, 100, 101]


async def test_timeout_undoes_what_had_finished(client):
    run = await client.start(carried.impatient, 1)
    with pytest.raises(StepTimeoutError, match=r"within 0\.1 s"):
        await run.result()
    assert effects_of(run.run_id).lines[-1][0] == 100


@pytest.mark.parametrize(
    ("workflow", "given", "reason"),
    [
        (carried.waits_for_the_loop, 1, "awaited outside of a step"),
        (carried.gathers_tasks, 1, "not for tasks of the event loop"),
        (carried.sleeps_in_task, 1, "use context.gather"),
        (carried.holds_entity, 1, "holds the entity dict 'ada'"),
        (carried.limits_more_than_a_step, 1, "more than one step"),
        (carried.asking, "signal", "waits for the signal 'approved' inside of a step"),
        (carried.asking, "event", "sets the event 'begun' inside of a step"),
        (carried.asking, "entity", "holds the entity dict 'ada'"),
    ],
    ids=lambda it: str(it)[:20],
)
async def test_what_restate_cannot_carry_fails_at_its_node(client, workflow, given, reason):
    with pytest.raises(UnsupportedOnRestateError, match=reason):
        await client.run(workflow, given)


async def test_step_that_cancels_itself_fails(client):
    with pytest.raises(RuntimeError, match="was cancelled by what it does itself"):
        await client.run(carried.self_cancelled, 1)


async def test_wait_that_nothing_can_end_is_a_failure(client):
    with pytest.raises(RuntimeError, match="waits for something that nothing in it will do"):
        await client.run(carried.waits_for_nobody, 1)
