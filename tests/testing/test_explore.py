import anyio
import pytest

from plait import (
    Failure,
    MapPrimitive,
    ParallelPrimitive,
    StepTimeoutError,
    Success,
    TimeoutPrimitive,
    WorkflowContext,
    step,
)
from plait.testing import Exploration, ExplorationError, explore, fail, hang, latency

pytestmark = pytest.mark.anyio


@step
async def add(n, context: WorkflowContext):
    context.data["sum"] = context.data.get("sum", 0) + n
    return n


@step
async def lose(n, context: WorkflowContext):
    # What another branch adds while this one waits is lost.
    before = context.data.get("sum", 0)
    await anyio.sleep(1)
    context.data["sum"] = before + n
    return n


async def test_branches_that_do_not_depend_on_their_order_pass():
    found = await explore(MapPrimitive(add), [1, 2, 3])
    assert found.outcome == Success([1, 2, 3])
    assert found.is_exhaustive
    assert found.runs == 90  # 6! / (2! * 2! * 2!)


async def test_a_sequence_has_one_order():
    assert (await explore(add >> add >> add, 1)).runs == 1
    assert (await explore(add >> add >> add, 1, runs=1)).is_exhaustive


async def test_many_branches_are_explored_in_orders_that_a_seed_draws():
    found = await explore(MapPrimitive(add), [*range(20)], runs=10, seed=7)
    assert found == Exploration(10, False, 7, Success([*range(20)]))


async def test_a_lost_update_is_found():
    with pytest.raises(ExplorationError, match=r"leaves context\.data as") as caught:
        await explore(lose | add, 2)
    assert "{'sum': 2}" in str(caught.value)
    assert "{'sum': 4}" in str(caught.value)


async def test_who_comes_first_is_told_with_the_order_that_shows_it():
    @step
    async def first(_, context: WorkflowContext):
        return context.data.setdefault("winner", "first")

    @step
    async def second(_, context: WorkflowContext):
        return context.data.setdefault("winner", "second")

    race = (first | second).named("race")
    with pytest.raises(ExplorationError) as caught:
        await explore(race, None, seed=1)
    assert str(caught.value) == (
        "'race' ends differently in another order of its steps:\n"
        "    race/1:first begins\n"
        "    race/1:first ends\n"
        "    race/2:second begins\n"
        "    race/2:second ends\n"
        "  ends with\n"
        "    ('first', 'first')\n"
        "and\n"
        "    race/2:second begins\n"
        "    race/1:first begins\n"
        "    race/1:first ends\n"
        "    race/2:second ends\n"
        "  ends with\n"
        "    ('second', 'second')\n"
        "seed 1, run 4; to see it again: explore(..., order='1-0-0')"
    )
    assert caught.value.order == "1-0-0"
    winners = []
    await explore(race, None, order="1-0-0", check=lambda outcome, _: winners.append(outcome.value))
    assert winners == [("second", "second")]


async def test_what_must_hold_may_be_said():
    def check(outcome, context):
        assert outcome.value == 3
        assert context.data["sum"] == 6, "an update was lost"

    sums = MapPrimitive(lose, max_concurrency=2) >> len
    with pytest.raises(ExplorationError) as caught:
        await explore(sums, [1, 2, 3], check=check)
    assert "is refused in this order:\n    sequential/1:lose[0] begins" in str(caught.value)
    assert "because of\n    AssertionError: an update was lost" in str(caught.value)
    assert isinstance(caught.value.__cause__, AssertionError)
    await explore(MapPrimitive(add) >> len, [1, 2, 3], check=check)


async def test_the_first_failure_depends_on_the_order():
    @step
    async def refuse(_):
        raise LookupError("refused")

    @step
    async def decline(_):
        raise ValueError("declined")

    with pytest.raises(ExplorationError, match="LookupError: refused"):
        await explore(refuse | decline, None)
    found = await explore(ParallelPrimitive([refuse, decline], errors="collect") >> len, None)
    assert found.outcome == Success(2)


async def test_faults_happen_in_each_run():
    found = await explore(add | add.named("other"), 1, faults=[fail("other")])
    assert isinstance(found.outcome, Failure)
    guarded = TimeoutPrimitive(add, 60)
    for fault in (latency("add", 90), hang("add")):
        found = await explore(guarded, 1, faults=[fault])
        assert isinstance(found.outcome.error, StepTimeoutError)


async def test_the_world_outside_is_put_back_before_each_run():
    seen = []
    stock = []

    @step
    async def take(n):
        stock.append(n)
        return len(stock)

    def setup():
        seen.append(len(stock))
        stock.clear()

    await explore(take >> take, 1, setup=setup, data={"sum": 1})
    assert seen == [0]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"runs": 0}, "runs=0 must be at least 1"), ({"order": "a-b"}, "not of the form '0-2-1'")],
)
async def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        await explore(add, 1, **options)
