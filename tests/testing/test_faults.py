import anyio
import pytest

from plait import (
    ConditionalPrimitive,
    FallbackPrimitive,
    RateLimitPrimitive,
    RetryPrimitive,
    StepTimeoutError,
    TimeoutPrimitive,
    WorkflowContext,
    step,
    workflow,
)
from plait.durable import DurableRunner, MemoryJournal
from plait.recovery import constant
from plait.testing import (
    InjectedCancelError,
    InjectedError,
    UnknownNodeError,
    UnusedFaultError,
    VirtualClock,
    assert_crash_safe,
    cancel,
    explore,
    fail,
    hang,
    latency,
    with_faults,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def calls():
    return []


@pytest.fixture
def charge(calls):
    @step
    async def charge(total):
        calls.append(total)
        return f"paid {total}"

    return charge


@pytest.fixture
def orders(charge):
    return (step(sum) >> RetryPrimitive(charge, 2, backoff=constant(0)) >> str.upper).named(
        "orders"
    )


async def test_a_node_fails_as_often_as_it_is_told(orders, calls):
    assert await with_faults(orders, fail("charge", times=2))([42]) == "PAID 42"
    assert calls == [42]
    with pytest.raises(InjectedError) as caught:
        await with_faults(orders, fail("charge", times=3))([42])
    assert str(caught.value) == "fail('charge')"
    assert "(orders/2:charge, attempt 3 of 3" in caught.value.__notes__[0]


async def test_a_node_fails_always(orders):
    with pytest.raises(InjectedError):
        await with_faults(orders, fail("upper", times=None))([42])


async def test_a_node_fails_with_an_error_of_the_tests_own(orders):
    for error in (LookupError, LookupError("gone")):
        with pytest.raises(LookupError):
            await with_faults(orders, fail("sum", error))([42])


async def test_the_answer_of_a_node_is_lost(orders, calls):
    assert await with_faults(orders, fail("charge", answer_lost=True))([42]) == "PAID 42"
    assert calls == [42, 42]


async def test_a_fault_is_at_a_path(orders, calls):
    faults = [fail("orders/2:charge/attempt 1"), fail("*/attempt 2")]
    assert await with_faults(orders, *faults)([42]) == "PAID 42"
    assert calls == [42]


async def test_faults_are_counted_anew_in_each_run(orders, calls):
    faulty = with_faults(orders, fail("charge", times=2))
    for _ in range(2):
        assert await faulty([42]) == "PAID 42"
    assert calls == [42, 42]


async def test_a_node_takes_longer(orders):
    async with VirtualClock() as clock:
        assert await with_faults(orders, latency("*", 60))([42]) == "PAID 42"
        assert clock.elapsed == 5 * 60  # the sequence, the retry, and three steps


async def test_a_node_that_takes_longer_than_it_may_is_cancelled(charge, calls):
    async with VirtualClock():
        with pytest.raises(StepTimeoutError):
            await with_faults(TimeoutPrimitive(charge, 10), latency("charge", 60))(42)
    assert calls == []


async def test_a_node_hangs_until_it_is_cancelled(charge, calls):
    guarded = FallbackPrimitive(TimeoutPrimitive(charge, 10), [charge.named("again")])
    async with VirtualClock() as clock:
        assert await with_faults(guarded, hang("charge"))(42) == "paid 42"
        assert clock.elapsed == 10
    assert calls == [42]


async def test_the_run_is_cancelled_at_a_node(calls):
    cleaned = []

    @step
    async def wait(_):
        try:
            await anyio.sleep_forever()
        finally:
            cleaned.append("wait")

    @step
    async def reach(value):
        await anyio.sleep(1)
        return value

    @step
    async def never(_):
        calls.append("never")

    async with VirtualClock():
        with pytest.raises(InjectedCancelError, match="was cancelled"):
            await with_faults(wait | (reach >> never), cancel("never"))(1)
    assert cleaned == ["wait"]
    assert calls == []


async def test_a_journal_records_a_fault_as_what_the_node_did(orders, calls):
    async with DurableRunner(MemoryJournal()) as runner:
        run = await runner.start(with_faults(orders, fail("charge", times=2)), [42], run_id="run")
        assert await run.result() == "PAID 42"
        assert run.executed == 5
    assert calls == [42]


async def test_a_fault_at_a_node_that_is_not_there_is_refused(orders):
    with pytest.raises(UnknownNodeError, match="did you mean 'charge'"):
        with_faults(orders, fail("chrage"))

    @workflow
    async def empty(value):
        return value

    with pytest.raises(UnknownNodeError, match="'empty' has no node 'charge'"):
        await with_faults(empty, hang("charge"))(1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fail("charge", times=0), "times=0 must be at least 1"),
        (lambda: latency("charge", -1), "seconds=-1 must not be negative"),
        (lambda: hang(""), "must not be empty"),
    ],
)
def test_what_a_fault_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Faults that do not happen.


async def test_a_fault_that_a_run_never_came_to_is_told(charge):
    paid = ConditionalPrimitive(lambda total: total > 0, charge, step(str, name="refund"))
    tested = with_faults(paid.named("orders"), fail("refund"))
    with pytest.raises(InjectedError):
        await tested(-42)
    with pytest.raises(UnusedFaultError) as caught:
        await tested(42)
    assert str(caught.value) == (
        "'orders' never came to 'refund', so that its fault did not happen: choose an input that "
        "leads there, or leave the fault out"
    )


async def test_a_fault_that_no_crash_or_order_comes_to_is_told(charge):
    paid = ConditionalPrimitive(lambda total: total > 0, charge, step(str, name="refund"))
    with pytest.raises(UnusedFaultError):
        await assert_crash_safe(paid, 42, faults=[fail("refund")])
    with pytest.raises(UnusedFaultError):
        await explore(paid, 42, faults=[fail("refund")])

    @workflow
    async def order(total):
        return await charge(total)

    for fault in (fail("refund"), fail("order/2:*")):
        with pytest.raises(UnknownNodeError, match="'order' has no node"):
            await assert_crash_safe(order, 42, faults=[fault])


async def test_a_fault_that_only_some_orders_come_to_is_one(charge):
    @step
    async def settle(_, context: WorkflowContext):
        context.data["settled"] = True

    late = ConditionalPrimitive(
        lambda _, context: "settled" in context.data, charge, step(str, name="wait")
    )
    found = await explore(settle | late, 42, faults=[fail("charge")], check=lambda *_: None)
    assert found.is_exhaustive


def test_a_fault_behind_one_that_always_happens_is_refused(orders):
    with pytest.raises(ValueError, match="a fault of 'charge' is behind one that happens to all"):
        with_faults(orders, latency("charge", 1), fail("charge"))


async def test_a_run_that_is_carried_on_need_not_come_there_again(charge):
    limited = RateLimitPrimitive(charge, 10, 1)

    @workflow
    async def order(total, context: WorkflowContext):
        paid = await limited(total)
        await context.sleep(24 * 60 * 60)
        return paid

    slow = with_faults(order, latency("charge", 60))
    mocked = order.named("mocked order").with_mocks({"charge": str})
    async with VirtualClock(), DurableRunner(MemoryJournal()) as runner:
        assert await runner.run(slow, 42) == "paid 42"
        assert await runner.run(mocked, 42) == "42"


def test_what_is_no_exception_is_no_error_of_a_fault():
    with pytest.raises(TypeError, match=r"the error of fail\('charge'\) is 'boom'"):
        fail("charge", "boom")
