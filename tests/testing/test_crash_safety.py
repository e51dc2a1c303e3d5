"""`assert_crash_safe` finds planted faults, and passes their mended twins."""

import itertools
import logging
import random
import sqlite3
import time
import uuid
from dataclasses import dataclass, field

import anyio
import pytest

from plait import (
    CachePrimitive,
    CompensationPrimitive,
    ConditionalPrimitive,
    FallbackPrimitive,
    MapPrimitive,
    RetryPrimitive,
    Success,
    TimeoutPrimitive,
    WorkflowContext,
    step,
    workflow,
)
from plait.durable import JournalError, MemoryJournal, StepInterruptedError, TransactionStep
from plait.recovery import constant
from plait.testing import (
    CrashSafetyError,
    InjectedError,
    assert_crash_safe,
    cancel,
    fail,
    latency,
)

pytestmark = pytest.mark.anyio

DAY = 24 * 60 * 60


@dataclass
class Bank:
    """The world outside."""

    charges: list = field(default_factory=list)
    keys: set = field(default_factory=set)

    def clear(self):
        self.charges.clear()
        self.keys.clear()

    def charge(self, total, key=None):
        if key is None or key not in self.keys:
            self.charges.append(total)
        self.keys.add(key)


@pytest.fixture
def bank():
    return Bank()


async def find(workflow, input_data, **options):
    """What is said of a workflow that is not crash-safe."""
    with pytest.raises(CrashSafetyError) as caught:
        await assert_crash_safe(workflow, input_data, **options)
    return str(caught.value)


# An effect that is not guarded.


async def test_an_unguarded_effect_is_found(bank):
    @step
    async def charge(total):
        bank.charge(total)
        return "paid"

    orders = (step(sum) >> charge).named("orders")
    message = await find(orders, [40, 2], setup=bank.clear, state=lambda: bank.charges)
    assert message == (
        "'orders' is not crash-safe: 1 of 4 kills made a difference\n"
        "\n"
        "killed at write 3, the record of 'orders/2:charge', and carried on:\n"
        "  without a kill the state is\n"
        "    [42]\n"
        "  with it\n"
        "    [42, 42]\n"
        "A step that was killed before its record was written is executed again, and so is its "
        "effect: pass context.idempotency_key to what drops a repeated request, look before, or "
        "make it at_most_once=True."
    )


async def test_a_guarded_effect_is_safe(bank):
    @step
    async def charge(total, context: WorkflowContext):
        bank.charge(total, context.idempotency_key)
        return "paid"

    orders = (step(sum) >> charge).named("orders")
    report = await assert_crash_safe(orders, [40, 2], setup=bank.clear, state=lambda: bank.charges)
    assert (report.writes, report.kills, report.outcome.value) == (4, 4, "paid")


# A condition that turns out otherwise the next time.


@step
async def express(order):
    return f"express {order}"


@step
async def plain(order):
    return f"plain {order}"


async def test_a_condition_that_changes_is_found():
    flips = itertools.cycle([True, False, True])

    @workflow
    async def ship(order):
        is_express = next(flips)
        packed = await plain(order)
        return await (express if is_express else plain)(packed)

    def rewind():
        nonlocal flips
        flips = itertools.cycle([True, False, True])

    message = await find(ship, 1, setup=rewind)
    assert "killed at write 4, the run's outcome, and carried on:" in message
    assert (
        "WorkflowChangedError: 'ship/2:express' is recorded, and 'plain' is called there now"
        in message
    )
    assert "must be the same each time" in message


async def test_a_condition_that_is_a_node_is_safe():
    flips = itertools.cycle([True, False, True])

    def rewind():
        nonlocal flips
        flips = itertools.cycle([True, False, True])

    ship = plain >> ConditionalPrimitive(lambda _: next(flips), express, plain)
    # Killed before it is recorded, the decision is made anew: to the other branch.
    assert "express" in await find(ship, 1, setup=rewind)
    await assert_crash_safe(
        plain >> ConditionalPrimitive(lambda order: "1" in order, express, plain), 1
    )


# A write to `context.data` that gets lost.


@step
async def start_list(_, context: WorkflowContext):
    context.data["items"] = []
    return context.data["items"]


@step
async def append_to_input(items):
    items.append("x")
    return len(items)


@step
async def append_to_data(items, context: WorkflowContext):
    context.data["items"].append("x")
    return len(context.data["items"])


async def test_a_lost_write_to_the_data_is_found():
    message = await find(start_list >> append_to_input, None)
    assert "without a kill context.data is\n    {'items': ['x']}" in message
    assert "with it\n    {'items': []}" in message
    assert "change it as context.data[key]" in message


async def test_a_write_through_the_context_is_safe():
    await assert_crash_safe(start_list >> append_to_data, None)


# A result that does not come back as it was.


class Handle:
    pass


@dataclass
class Ticket:
    number: int


async def test_a_result_that_does_not_round_trip_is_found():
    @step
    async def connect(_):
        return Handle()

    with pytest.raises(CrashSafetyError, match="no form that a journal could give") as caught:
        await assert_crash_safe(connect >> id, None)
    assert "in step 'connect'" in caught.value.__cause__.__notes__[0]


async def test_a_result_that_round_trips_is_safe():
    @step
    async def connect(_) -> Ticket:
        return Ticket(1)

    await assert_crash_safe(connect >> (lambda ticket: ticket.number), None)


# The wall clock in a workflow's body.


async def test_wall_clock_use_is_found():
    @workflow
    async def stamp(order):
        return await plain((order, time.time_ns()))

    message = await find(stamp >> (lambda _: None), 1)
    assert "is called there now, or with another input" in message
    assert "context.now()" in message


# Random numbers, too.


async def test_random_ids_are_found():
    @workflow
    async def label(order):
        return await plain(str(uuid.uuid4()))

    assert "WorkflowChangedError" in await find(label >> (lambda _: None), 1)


async def test_ids_from_the_context_are_safe():
    @workflow
    async def label(order, context: WorkflowContext):
        return await plain((str(context.uuid()), context.random.random()))

    await assert_crash_safe(label, 1)


# A failure that leaves something behind.


class Stock:
    def __init__(self):
        self.reserved = set()

    def check(self, outcome):
        assert not self.reserved, f"{self.reserved} is still reserved after {outcome}"


@pytest.fixture
def stock():
    return Stock()


@step
async def pay(order):
    return "paid"


async def test_a_missing_compensation_is_found(stock):
    @step
    async def reserve(order):
        stock.reserved.add(order)
        return order

    orders = (reserve >> pay).named("orders")
    with pytest.raises(AssertionError, match=r"\{1\} is still reserved after Failure"):
        await assert_crash_safe(
            orders,
            1,
            setup=stock.reserved.clear,
            check=stock.check,
            faults=[fail("pay", times=None)],
        )


async def test_a_compensation_is_safe(stock):
    @step
    async def reserve(order):
        stock.reserved.add(order)
        return order

    @step
    async def release(order):
        stock.reserved.discard(order)

    @workflow
    async def orders(order):
        reserved = await reserve(order)
        try:
            return await pay(reserved)
        except Exception:
            await release(reserved)
            raise

    await assert_crash_safe(
        orders, 1, setup=stock.reserved.clear, check=stock.check, faults=[fail("pay", times=None)]
    )


async def test_a_compensation_primitive_is_safe(stock):
    @step
    async def reserve(order):
        stock.reserved.add(order)
        return order

    @step
    async def release(order):
        stock.reserved.discard(order)

    orders = (CompensationPrimitive(reserve, release) >> pay).named("orders")
    report = await assert_crash_safe(
        orders, 1, setup=stock.reserved.clear, check=stock.check, faults=[fail("pay", times=None)]
    )
    assert isinstance(report.outcome.error, InjectedError)


async def test_a_compensation_that_repeats_its_effect_is_found(stock):
    refunds = []

    @step
    async def refund(order):
        refunds.append(order)

    orders = (CompensationPrimitive(plain, refund) >> pay).named("orders")
    message = await find(
        orders, 1, setup=refunds.clear, state=lambda: len(refunds), faults=[fail("pay", times=None)]
    )
    assert "/compensation" in message


# What comes from outside.


@workflow
async def approval(order, context: WorkflowContext):
    first = await context.wait_for("approved", str, timeout=DAY)
    second = await context.wait_for("approved", str)
    await context.set_event("decided", [first, second])
    return [first, second]


async def approve(run):
    for name in ("ada", "bob"):
        await anyio.sleep(3600)
        await run.signal("approved", name)


async def test_signals_come_once():
    report = await assert_crash_safe(approval, 1, during=approve)
    assert report.outcome.value == ["ada", "bob"]
    # The start, the deadline, two signals that come and are taken, the event, the outcome, and that
    # it leaves memory while it waits.
    assert report.writes > 8


async def test_a_signal_that_a_step_sends_comes_once():
    runners = []

    async def lend(run):
        runners.append(run._runner)

    @step
    async def tell(value):
        await anyio.sleep(1)  # until it is lent the runner
        await runners[-1].signal("crash-test", "said", value)

    @workflow
    async def talk(_, context: WorkflowContext):
        await tell(1)
        await tell(2)
        return [await context.wait_for("said", int) for _ in range(2)]

    report = await assert_crash_safe(talk, 0, during=lend)
    assert report.outcome.value == [1, 2]


@pytest.mark.parametrize("error", [JournalError, LookupError])
async def test_what_goes_wrong_beside_the_run_is_told(error):
    async def fail_at_once(_):
        raise error

    with pytest.raises(ExceptionGroup) as caught:
        await assert_crash_safe(plain, 1, during=fail_at_once)
    assert caught.group_contains(error)


async def test_a_journal_that_fails_by_itself_is_told(monkeypatch):
    async def broken(*_):
        raise JournalError("the disk is full")

    monkeypatch.setattr(MemoryJournal, "create", broken)
    with pytest.raises(ExceptionGroup) as caught:
        await assert_crash_safe(plain, 1)
    assert caught.group_contains(JournalError, match="the disk is full")


# State that outlives runs.


@dataclass
class Account:
    balance: int = 0


async def test_an_entity_changes_once():
    @workflow
    async def deposit(amount, context: WorkflowContext):
        async with context.entity(Account, "ada") as account:
            account.balance += amount
        async with context.entity(Account, "ada") as account:
            return account.balance

    report = await assert_crash_safe(deposit, 42)
    assert report.outcome.value == 42
    assert report.writes == 6


async def test_a_transaction_is_done_once():
    @TransactionStep
    def book(seat: int, database: sqlite3.Connection) -> list[int]:
        database.execute("CREATE TABLE IF NOT EXISTS seats (seat INTEGER)")
        database.execute("INSERT INTO seats VALUES (?)", (seat,))
        return [seat for (seat,) in database.execute("SELECT seat FROM seats")]

    report = await assert_crash_safe(step(int) >> book >> sum, 42)
    assert report.outcome.value == 42
    assert report.writes == 5


async def test_a_transaction_that_fails_fails_each_time():
    @TransactionStep
    def book(seat: int, database: sqlite3.Connection) -> None:
        database.execute("INSERT INTO seats VALUES (?)", (seat,))

    report = await assert_crash_safe(book, 42)
    assert isinstance(report.outcome.error, sqlite3.OperationalError)


async def test_a_child_run_is_started_once():
    runners = []

    async def lend(run):
        runners.append(run._runner)

    @workflow
    async def parent(order):
        await anyio.sleep(1)  # until it is lent the runner
        child = await runners[-1].start(plain, order)
        return await child.result()

    report = await assert_crash_safe(parent, 1, during=lend)
    assert report.outcome.value == "plain 1"


# What only memory holds.


async def test_state_that_only_memory_holds_is_found():
    rates = {}

    @step
    async def fetch_rate(currency):
        rates[currency] = 2
        return currency

    @step
    async def convert(currency):
        return rates.get(currency, 0) * 21

    workflow = fetch_rate >> convert
    message = await find(workflow, "EUR", setup=rates.clear, on_crash=rates.clear)
    assert "without a kill it ends with\n    42\n  with it\n    0" in message
    assert "is gone; context.data is kept" in message


async def test_state_in_the_data_is_safe():
    @step
    async def fetch_rate(currency, context: WorkflowContext):
        context.data[currency] = 2
        return currency

    @step
    async def convert(currency, context: WorkflowContext):
        return context.data[currency] * 21

    await assert_crash_safe(fetch_rate >> convert, "EUR")


# An error whose class is not there when it comes back.


async def test_an_error_that_cannot_be_built_again_is_found():
    class Declined(Exception):  # noqa: N818
        def __init__(self, *, code):
            super().__init__(code)

    @step
    async def charge(order):
        raise Declined(code=7)

    @workflow
    async def orders(order):
        try:
            await charge(order)
        except Declined:
            return await plain(order)

    message = await find(orders, 1)
    assert "RecordedError" in message


class Declined(Exception):  # noqa: N818
    pass


async def test_an_error_that_can_be_built_again_is_safe():
    @step
    async def charge(order):
        raise Declined(7)

    @workflow
    async def orders(order):
        try:
            await charge(order)
        except Declined:
            return await plain(order)

    await assert_crash_safe(orders, 1)


# A step that may run at most once.


async def test_an_interrupted_step_that_nobody_looks_after_is_found(bank):
    @step(at_most_once=True)
    async def charge(total):
        bank.charge(total)
        return "paid"

    message = await find(charge >> str.upper, 42, setup=bank.clear, state=lambda: bank.charges)
    assert "StepInterruptedError" in message
    assert "a fallback around it may look" in message


async def test_an_interrupted_step_with_a_fallback_that_looks_is_safe(bank):
    @step(at_most_once=True)
    async def charge(total):
        bank.charge(total)
        return "paid"

    @step
    async def look(total):
        if total not in bank.charges:
            bank.charge(total)
        return "paid"

    orders = FallbackPrimitive(charge, [look], fallback_on=StepInterruptedError)
    await assert_crash_safe(orders, 42, setup=bank.clear, state=lambda: bank.charges)


# A step's place that depends on what the others do.


# Choices that are made outside of a step.


async def test_a_random_choice_is_found():
    draws = random.Random(3)

    @workflow
    async def ship(order):
        courier = draws.random()
        return await plain(f"{order} by {courier}")

    message = await find(ship, 1, setup=lambda: draws.seed(3))
    assert "WorkflowChangedError: " in message
    assert "context.random" in message


async def test_a_random_choice_of_the_contexts_is_safe():
    @workflow
    async def ship(order, context: WorkflowContext):
        return await plain(f"{order} by {context.random.random()}")

    await assert_crash_safe(ship, 1)


async def test_a_counter_of_the_process_is_found():
    numbers = itertools.count(1)

    def rewind():
        nonlocal numbers
        numbers = itertools.count(1)

    @workflow
    async def ship(order):
        number = next(numbers)
        return await plain(order), number

    message = await find(ship, 1, setup=rewind)
    assert "it ends with" in message


async def test_a_counter_in_the_data_is_safe():
    @workflow
    async def ship(order, context: WorkflowContext):
        number = context.data["number"] = context.data.get("number", 0) + 1
        return await plain(order), number

    await assert_crash_safe(ship, 1)


async def test_calls_in_an_order_that_changes_are_found():
    starts = itertools.count()

    @workflow
    async def both(order):
        names = ["a", "b"] if next(starts) % 2 else ["b", "a"]
        return sorted([await plain(name) for name in names])

    message = await find(both, 1)
    assert "is called there now, or with another input" in message


async def test_calls_in_one_order_are_safe():
    @workflow
    async def both(order):
        return sorted([await plain(name) for name in ("a", "b")])

    await assert_crash_safe(both, 1)


# A journal that forgets.


async def test_a_finished_step_that_is_executed_again_is_found(monkeypatch):
    records = MemoryJournal.records

    async def forgetful(journal, key):
        return (await records(journal, key))[1:]

    monkeypatch.setattr(MemoryJournal, "records", forgetful)
    message = await find(plain >> express, 1)
    assert message.endswith("'sequential/1:plain' had finished before, and was executed again")


# The tool itself.


async def test_everything_at_once_is_safe():
    @step
    async def flaky(n, context: WorkflowContext):
        if context.attempt < 3:
            raise ConnectionError(f"attempt {context.attempt}")
        context.data[f"n{n}"] = [context.attempt]
        return n

    @step(thread=True)
    def double(n):
        return 2 * n

    @workflow
    async def approve(n, context: WorkflowContext):
        await context.sleep(24 * 60 * 60)
        return await double(n)

    flow = (
        step(lambda n: [*range(n)])
        >> MapPrimitive(RetryPrimitive(flaky, backoff=constant(60)), max_concurrency=2)
        >> (sum | TimeoutPrimitive(step(len) >> double, 10) | CachePrimitive(max, 60))
        >> ConditionalPrimitive(lambda found: found[0] > 2, sum)
        >> approve
    ).named("flow")
    report = await assert_crash_safe(flow, 3)
    assert report.outcome.value == (3 + 6 + 2) * 2
    assert report.kills == report.writes > 20


async def test_a_run_that_fails_the_same_way_each_time_is_safe():
    report = await assert_crash_safe(plain >> int, "four", faults=[latency("plain", 60)])
    assert isinstance(report.outcome.error, ValueError)


async def test_what_happens_beside_the_run_is_part_of_it():
    approved = anyio.Event()

    def forget():
        nonlocal approved
        approved = anyio.Event()

    @step
    async def approval(order):
        await approved.wait()
        return order

    async def approve(run):
        await anyio.sleep(3600)
        approved.set()

    await assert_crash_safe(approval >> plain, 1, setup=forget, during=approve)


async def test_runs_that_differ_without_a_kill_are_no_measure():
    ids = itertools.count()
    with pytest.raises(CrashSafetyError, match="differ although none was killed") as caught:
        await assert_crash_safe(step(lambda _: next(ids)), 1)
    assert "setup=" in str(caught.value)


async def test_a_long_run_is_killed_in_evenly_spread_places():
    report = await assert_crash_safe(MapPrimitive(plain), [*range(50)], max_kills=10)
    assert (report.writes, report.kills) == (53, 10)


async def test_kills_in_one_place_are_told_together(bank):
    @step
    async def charge(total):
        bank.charge(total)

    message = await find(
        MapPrimitive(charge), [1, 2, 3], setup=bank.clear, state=lambda: len(bank.charges)
    )
    assert "kills made a difference" in message


async def test_a_cancelled_run_ends_the_same_way():
    report = await assert_crash_safe(plain >> express, 1, faults=[cancel("express")])
    assert "was cancelled" in str(report.outcome.error)


async def test_a_fault_that_is_spent_on_the_process_that_was_killed_is_told_of():
    @step
    async def charge(total: int) -> str:
        return "paid"

    with pytest.raises(CrashSafetyError, match="Give it times=None"):
        await assert_crash_safe(charge, 42, faults=[fail("charge")])
    await assert_crash_safe(charge, 42, faults=[fail("charge", times=None)])


async def test_a_cache_that_outlives_the_runs_leaves_fewer_places_to_kill():
    @step
    async def rate(currency: str) -> float:
        return 1.25

    @step
    async def note(rate: float, context: WorkflowContext) -> float:
        context.data["rate"] = rate
        return rate

    cached = CachePrimitive(rate, 60)
    report = await assert_crash_safe(cached >> note, "EUR")
    assert report.outcome == Success(1.25)
    await assert_crash_safe(cached >> note, "EUR", setup=cached.invalidate_all)


async def test_a_run_that_was_not_killed_is_compared_as_it_is():
    trial = itertools.count()
    current = [0]

    @workflow
    async def order(_: None, context: WorkflowContext) -> str:
        for number in range(3 if current[0] < 2 else 1):  # 5 writes in the first two runs, then 3
            await context.step("charge", abs, number)
        return "late" if current[0] > 4 else "early"  # the runs that are to be killed at 4 and 5

    def setup() -> None:
        current[0] = next(trial)

    with pytest.raises(CrashSafetyError, match=r"\nnot killed \(and 1 more\), for it made fewer"):
        await assert_crash_safe(order, None, setup=setup)


async def test_carrying_a_run_on_warns_of_nothing(caplog):
    await assert_crash_safe(step(lambda total: total), 42)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
