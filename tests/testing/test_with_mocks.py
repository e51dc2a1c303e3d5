import pytest

from plait import (
    ConditionalPrimitive,
    FallbackPrimitive,
    MapPrimitive,
    MockPrimitive,
    RetryPrimitive,
    RouterPrimitive,
    WorkflowContext,
    WorkflowPrimitive,
    step,
    workflow,
)
from plait.durable import DurableRunner, MemoryJournal
from plait.recovery import constant
from plait.testing import (
    ExplorationError,
    UnknownNodeError,
    VirtualClock,
    explore,
    fail,
    latency,
    record,
    replayed,
    with_faults,
)

pytestmark = pytest.mark.anyio


@step
async def charge(total: int) -> str:
    raise ConnectionError("not in a test")


@step
async def ship(receipt: str) -> str:
    raise ConnectionError("not in a test")


orders = (step(sum) >> RetryPrimitive(charge, backoff=constant(0)) >> MapPrimitive(ship)).named(
    "orders"
)


async def test_a_node_is_replaced_by_its_name():
    mock = MockPrimitive(return_value="ab")
    context = WorkflowContext()
    tested = orders.with_mocks({"charge": mock, "ship": str.upper})
    assert await tested.execute([40, 2], context) == ["A", "B"]
    assert mock.name == "charge"
    assert mock.history[0].path == "orders/2:charge/attempt 1"
    assert mock.last_input == 42


async def test_what_is_around_a_node_stays():
    mock = MockPrimitive(side_effect=[TimeoutError, ConnectionError, ""])
    assert await orders.with_mocks({"charge": mock})([1]) == []
    assert mock.call_count == 3


async def test_the_workflow_itself_is_left_alone():
    orders.with_mocks({"charge": MockPrimitive()})
    with pytest.raises(ConnectionError):
        await orders([1])


@pytest.mark.parametrize(
    "name",
    [
        "ship",
        "s*p",
        "orders/3:ship[0]",
        "orders/3:ship[*]",
        "*/3:ship[*]",
        "*[0]",
    ],
)
async def test_a_node_is_replaced_by_its_path_or_a_pattern(name):
    tested = orders.with_mocks({"orders/2:charge/attempt *": lambda _: "x", name: str.upper})
    assert await tested([1]) == ["X"]


async def test_one_element_is_replaced_by_its_path():
    mocks = {"charge": lambda _: "abc", "orders/3:ship[1]": lambda _: "second", "ship": str.upper}
    assert await orders.with_mocks(mocks)([1]) == ["A", "second", "C"]


async def test_a_node_is_replaced_by_a_composition():
    tested = orders.with_mocks({"charge": step(str) >> str.strip, "ship": MockPrimitive()})
    assert await tested([42]) == [None, None]


async def test_mocks_are_put_in_front_of_mocks():
    inner = orders.with_mocks({"charge": lambda _: "ab", "ship": lambda _: "inner"})
    assert await inner.with_mocks({"ship": lambda _: "outer"})([1]) == ["outer", "outer"]


async def test_a_part_of_a_workflow_is_replaced():
    tested = step(len) >> charge.with_mocks({"charge": lambda total: f"paid {total}"}) >> str.upper
    assert await tested("abc") == "PAID 3"
    assert str(tested) == "len >> charge >> upper"


async def test_an_imperative_workflow_has_its_steps_replaced():
    @workflow
    async def order(total, context: WorkflowContext):
        receipt = await charge(total)
        return await context.step("pack", ship, receipt)

    mock = MockPrimitive(return_value="paid")
    tested = order.with_mocks({"order/1:charge": mock, "pack": str.upper})
    assert await tested(42) == "PAID"
    assert mock.history[0].path == "order/1:charge"


async def test_each_call_in_a_body_is_a_node_of_its_own():
    mocked = charge.with_mocks({"charge": lambda total: total})

    @workflow
    async def twice(total):
        return [await mocked(total), await mocked(total + 1)]

    assert await twice(1) == [1, 2]


async def test_a_workflow_with_mocks_runs_durably():
    journal = MemoryJournal()
    mock = MockPrimitive(return_value="ab")
    tested = orders.with_mocks({"charge": mock, "ship": str.upper})
    assert tested.name == "orders"
    async with DurableRunner(journal) as runner:
        assert await runner.run(tested, [1], run_id="run") == ["A", "B"]
        assert await runner.run(tested, [1], run_id="run") == ["A", "B"]
    assert mock.call_count == 1
    assert mock.history[0].path == "orders/2:charge/attempt 1"


def test_a_version_stays():
    @workflow(version="2")
    async def order(total):
        return total

    assert order.with_mocks({}).name == "order@2"


# What is not there.


tree = (
    step(str)
    >> FallbackPrimitive(charge, [ship])
    >> ConditionalPrimitive(bool, str.upper, str.lower)
    >> RouterPrimitive({"a": str.title, "router": str.strip}, lambda _: "a")
    >> (step(len) | min)
).named("tree")


@pytest.mark.parametrize(
    "name",
    [
        "charge",
        "tree/2:charge/primary",
        "tree/2:charge/fallback 1",
        "tree/3:conditional/condition",
        "tree/3:conditional/else",
        "tree/4:router/a",
        "tree/4:router/router",
        "tree/4:router/'router'",
        "tree/5:parallel/2:min",
        "another-name/5:parallel/2:min",
    ],
)
def test_every_place_of_a_tree_is_known_before_it_runs(name):
    assert str(tree.with_mocks({name: MockPrimitive()})) == "tree"
    with pytest.raises(UnknownNodeError, match="'tree' has no node"):
        tree.with_mocks({f"{name} there": MockPrimitive()})


def test_a_name_that_the_tree_does_not_have_is_refused_at_once():
    with pytest.raises(UnknownNodeError) as caught:
        orders.with_mocks({"chagre": MockPrimitive()})
    assert str(caught.value) == (
        "'orders' has no node 'chagre'; did you mean 'charge'? "
        "It has 'charge', 'map', 'orders', 'retry', 'ship', 'sum'"
    )


def test_a_path_that_the_tree_does_not_have_is_refused_at_once():
    with pytest.raises(UnknownNodeError, match="did you mean 'orders/3:ship'"):
        orders.with_mocks({"orders/4:ship": MockPrimitive()})


async def test_a_branch_that_is_not_taken_may_be_replaced():
    tested = tree.with_mocks({"charge": lambda _: "abc", "lower": MockPrimitive()})
    assert await tested(1) == (3, "A")


async def test_a_name_that_an_imperative_workflow_does_not_call_is_refused_at_its_end():
    @workflow
    async def order(total):
        return await charge(total)

    tested = order.with_mocks({"charge": lambda _: "paid", "shpi": MockPrimitive()})
    with pytest.raises(UnknownNodeError, match="'order' has no node 'shpi'"):
        await tested(1)


async def test_a_failure_of_the_workflow_is_not_hidden():
    @workflow
    async def order(total):
        return await charge(total)

    with pytest.raises(ConnectionError):
        await order.with_mocks({"ship": MockPrimitive()})(1)


async def test_calls_of_a_primitive_of_ones_own_are_known_when_they_are_made():
    class Twice(WorkflowPrimitive[int, list[str]]):
        @property
        def children(self):
            return (charge,)

        async def execute(self, input_data, context):
            return [await charge.execute(n, context) for n in range(2)]

    mock = MockPrimitive(return_value="paid")
    assert await Twice().with_mocks({"Twice/2:charge": mock, "charge": mock})(1) == ["paid"] * 2
    assert [call.path for call in mock.history] == ["Twice/1:charge", "Twice/2:charge"]


@pytest.mark.parametrize("mock", [None, 42, "paid"])
def test_a_mock_that_cannot_be_called_is_refused(mock):
    with pytest.raises(TypeError, match=r"the mock for 'charge' is .*MockPrimitive\(return_value"):
        orders.with_mocks({"charge": mock})


def test_an_empty_name_is_refused():
    with pytest.raises(ValueError, match="must not be empty"):
        orders.with_mocks({"": MockPrimitive()})


async def test_without_a_context_it_says_what_to_pass():
    with pytest.raises(TypeError, match="takes a WorkflowContext, got None"):
        await orders.with_mocks({}).execute([1], None)


async def test_what_stands_around_a_node_stands_around_its_mock(tmp_path):
    tested = orders.with_mocks({"charge": lambda total: f"{total}", "ship": lambda receipt: "sent"})
    async with VirtualClock() as clock:
        assert await with_faults(tested, fail("charge"), latency("charge", 5))([1]) == ["sent"]
    assert clock.elapsed == 5
    file = tmp_path / "calls.json"
    await record(tested, [40, 2], file, nodes=["charge", "ship"])
    assert await orders.with_mocks(replayed(file))([40, 2]) == ["sent", "sent"]


async def test_faults_one_above_the_other_happen_to_a_mock():
    tested = orders.with_mocks({"charge": lambda total: "a", "ship": str.upper})
    async with VirtualClock() as clock:
        faulty = with_faults(with_faults(tested, latency("charge", 1)), latency("charge", 2))
        assert await faulty([1]) == ["A"]
    assert clock.elapsed == 3


async def test_mocks_take_their_turns_in_an_exploration():
    @step
    async def first(_: None) -> None:
        raise ConnectionError("not in a test")

    async def wins(_: None, context: WorkflowContext) -> None:
        context.data.setdefault("winner", context.path)

    raced = (first | first.named("second")).with_mocks({"first": wins, "second": wins})
    with pytest.raises(ExplorationError, match=r"leaves context\.data as"):
        await explore(raced, None)


async def test_a_composition_that_a_mock_stands_in_for_is_a_step_of_an_exploration():
    tested = (orders | orders.named("others")).with_mocks(
        {"orders": lambda numbers: 1, "others": lambda numbers: 2}
    )
    assert (await explore(tested, [1])).runs > 1


async def test_a_mock_is_executed_in_a_run_that_is_killed(crash):
    tested = orders.with_mocks({"charge": lambda total: "a", "ship": str.upper})
    survival = await crash.at("orders/2:charge/attempt 1", tested, [1])
    assert "orders/2:charge/attempt 1" in survival.before
    assert survival.after[0] == "orders/2:charge/attempt 1"


async def test_a_branch_that_is_not_taken_in_what_a_body_calls_may_be_replaced():
    refund = step(lambda total: "refund").named("refund")
    settle = ConditionalPrimitive(lambda total: total > 0, charge, refund)

    @workflow
    async def order(total: int) -> str:
        return await settle(total)

    mocks = {"charge": lambda total: "paid", "refund": MockPrimitive(return_value="back")}
    assert await order.with_mocks(mocks)(1) == "paid"
    assert mocks["refund"].call_count == 0


async def test_an_exploration_of_mocks_of_nothing_is_refused():
    @workflow
    async def order(total: int) -> str:
        return await charge(total)

    tested = order.with_mocks({"charge": lambda total: "paid", "shpi": MockPrimitive()})
    with pytest.raises(UnknownNodeError, match="this run of 'order' has no node 'shpi'"):
        await explore(tested, 1)
