import itertools
import pickle
from datetime import timedelta

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plait import (
    MapPrimitive,
    MockPrimitive,
    PermanentError,
    RetryPrimitive,
    StepTimeoutError,
    WorkflowContext,
    step,
)
from plait.recovery import RetryAttempt, RetryBudget, constant, exponential, no_waiting

pytestmark = pytest.mark.anyio


def failing(times, error=ConnectionError):
    """A primitive that fails so often, then returns "done"."""
    return MockPrimitive("flaky", side_effect=[*itertools.repeat(error, times), "done"])


async def test_what_succeeds_is_executed_once(clock):
    mock = MockPrimitive(return_value="done")
    assert await RetryPrimitive(mock).execute("in", clock.context()) == "done"
    assert (mock.calls, clock.sleeps) == (["in"], [])


async def test_what_fails_is_executed_again_with_the_same_input(clock):
    mock = failing(2)
    assert await RetryPrimitive(mock).execute("in", clock.context()) == "done"
    assert mock.calls == ["in"] * 3
    assert len(clock.sleeps) == 2


async def test_max_retries_is_how_often_it_is_tried_again(clock):
    mock = failing(9)
    with pytest.raises(ConnectionError):
        await RetryPrimitive(mock, max_retries=4).execute("in", clock.context())
    assert mock.call_count == 5


async def test_by_default_it_is_tried_three_times_more(clock):
    assert await RetryPrimitive(failing(3)).execute("in", clock.context()) == "done"
    with pytest.raises(ConnectionError):
        await RetryPrimitive(failing(4)).execute("in", clock.context())


async def test_the_last_error_is_raised_with_a_note_of_all_attempts(clock):
    errors = [ConnectionError("one"), ValueError("two"), KeyError("three")]
    with pytest.raises(KeyError, match="three") as caught:
        await RetryPrimitive(MockPrimitive("flaky", side_effect=errors), 2).execute(
            "in", clock.context(correlation_id="run-1")
        )
    assert caught.value.__notes__ == [
        "in step 'flaky' (flaky, attempt 3 of 3, run run-1)",
        "gave up after 3 attempts: "
        """["ConnectionError('one')", "ValueError('two')", "KeyError('three')"]""",
    ]


async def test_without_retries_there_is_nothing_to_give_up():
    with pytest.raises(ConnectionError) as caught:
        await RetryPrimitive(failing(1), max_retries=0)("in")
    assert caught.value.__notes__ == ["in step 'flaky' (flaky, attempt 1 of 1)"]


async def test_the_default_waits_are_random_shares_of_an_exponential(clock):
    with pytest.raises(ConnectionError):
        await RetryPrimitive(failing(99), max_retries=20).execute(0, clock.context())
    schedule = list(exponential(0.5, max_delay=60).up_to(20))
    assert all(0 <= slept <= wait for slept, wait in zip(clock.sleeps, schedule, strict=True))
    assert len(set(clock.sleeps)) == 20


@given(
    schedule=st.builds(
        exponential, st.floats(0, 1e3), factor=st.floats(1, 10), max_delay=st.floats(0, 1e3)
    ),
    run_id=st.text(max_size=5),
    retries=st.integers(0, 12),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_jitter_never_exceeds_the_schedule(schedule, run_id, retries, clock):
    clock.sleeps.clear()
    retry = RetryPrimitive(failing(99), retries, backoff=schedule)
    with pytest.raises(ConnectionError):
        await retry.execute(0, clock.context(correlation_id=run_id))
    waits = list(schedule.up_to(retries))
    assert all(0 <= slept <= wait for slept, wait in zip(clock.sleeps, waits, strict=True))


async def test_without_jitter_the_waits_are_the_schedule(clock):
    retry = RetryPrimitive(failing(4), 4, backoff=exponential(1).capped(3), jitter=False)
    assert await retry.execute(0, clock.context()) == "done"
    assert clock.sleeps == [1, 2, 3, 3]


async def test_jitter_is_the_same_when_a_run_is_repeated(clock):
    for _ in range(2):
        await RetryPrimitive(failing(3)).execute(0, clock.context(correlation_id="run-1"))
    assert clock.sleeps[:3] == clock.sleeps[3:]


async def test_callers_that_failed_together_do_not_come_back_together(clock):
    retry = RetryPrimitive(MockPrimitive(side_effect=ConnectionError), 1, backoff=constant(60))
    await MapPrimitive(retry, errors="collect").execute(range(20), clock.context())
    assert len(set(clock.sleeps)) == 20


async def test_where_the_schedule_ends_so_do_the_retries(clock):
    mock = failing(9)
    retry = RetryPrimitive(mock, max_retries=8, backoff=constant(1).up_to(2), jitter=False)
    with pytest.raises(ConnectionError):
        await retry.execute(0, clock.context())
    assert (mock.call_count, clock.sleeps) == (3, [1, 1])


async def test_each_run_starts_the_schedule_anew(clock):
    retry = RetryPrimitive(MockPrimitive(side_effect=[ConnectionError(), 1] * 2), jitter=False)
    for _ in range(2):
        await retry.execute(0, clock.context())
    assert clock.sleeps == [0.5, 0.5]


async def test_it_really_waits():
    started = anyio.current_time()
    await RetryPrimitive(failing(2), backoff=constant(0.01), jitter=False)(0)
    assert anyio.current_time() - started >= 0.02


@pytest.mark.parametrize(
    "retry_on",
    [
        ConnectionError,
        (KeyError, ConnectionError),
        lambda error: isinstance(error, ConnectionError),
        lambda error: "again" in str(error),
    ],
)
async def test_retry_on_says_what_is_worth_another_attempt(retry_on):
    retried, raised = failing(1, ConnectionError("again")), failing(1, ValueError("enough"))
    assert await RetryPrimitive(retried, retry_on=retry_on, backoff=constant(0))(0) == "done"
    with pytest.raises(ValueError, match="enough"):
        await RetryPrimitive(raised, retry_on=retry_on, backoff=constant(0))(0)
    assert raised.call_count == 1


class CardClosedError(PermanentError):
    pass


@pytest.mark.parametrize(
    "error",
    [
        PermanentError("closed"),
        CardClosedError("closed"),
        TypeError("closed"),
        NameError("closed"),
        UnboundLocalError("closed"),
        AttributeError("closed"),
        ImportError("closed"),
        ModuleNotFoundError("closed"),
        NotImplementedError("closed"),
        SyntaxError("closed"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("retry_on", [Exception, lambda _: True])
async def test_what_another_attempt_cannot_mend_is_never_retried(error, retry_on):
    mock = failing(1, error)
    with pytest.raises(type(error), match="closed"):
        await RetryPrimitive(mock, retry_on=retry_on, backoff=constant(0))(0)
    assert mock.call_count == 1


async def test_a_timeout_is_retried(clock):
    late = failing(1, StepTimeoutError("late", 1))
    assert await RetryPrimitive(late).execute(0, clock.context()) == "done"


async def test_after_other_errors_a_permanent_one_ends_it(clock):
    mock = MockPrimitive(side_effect=[ConnectionError("one"), PermanentError("two")])
    with pytest.raises(PermanentError) as caught:
        await RetryPrimitive(mock).execute(0, clock.context())
    assert caught.value.__notes__[-1].startswith(
        "gave up after 2 attempts: [\"ConnectionError('one')\""
    )


class BusyError(Exception):
    def __init__(self, retry_after):
        self.retry_after = retry_after


@pytest.mark.parametrize(
    ("retry_after", "slept"),
    [
        (7.5, 7.5),
        (7, 7),
        (0, 0),
        (timedelta(minutes=2), 120),
        (-1, 0),
        (timedelta(seconds=-1), 0),
    ],
)
@pytest.mark.parametrize("jitter", [True, False])
async def test_an_error_that_says_when_wins_over_the_backoff(retry_after, slept, jitter, clock):
    retry = RetryPrimitive(failing(1, BusyError(retry_after)), backoff=constant(3), jitter=jitter)
    assert await retry.execute(0, clock.context()) == "done"
    assert clock.sleeps == [slept]


@pytest.mark.parametrize("retry_after", [None, "tomorrow"])
async def test_an_error_that_says_nothing_useful_leaves_it_to_the_backoff(retry_after, clock):
    retry = RetryPrimitive(failing(1, BusyError(retry_after)), backoff=constant(3), jitter=False)
    await retry.execute(0, clock.context())
    assert clock.sleeps == [3]


@pytest.mark.parametrize("retry_after", [-1.0, timedelta(seconds=-1)])
async def test_a_time_that_has_passed_is_no_wait_on_the_real_clock(retry_after):
    assert await RetryPrimitive(failing(1, BusyError(retry_after)))(0) == "done"


async def test_no_attempt_starts_later_than_max_elapsed(clock):
    mock = failing(99)
    retry = RetryPrimitive(mock, 99, backoff=constant(10), jitter=False, max_elapsed=30)
    with pytest.raises(ConnectionError):
        await retry.execute(0, clock.context())
    assert (mock.call_count, clock.sleeps) == (4, [10, 10, 10])


async def test_max_elapsed_counts_what_the_attempts_take_too(clock):
    mock = MockPrimitive(side_effect=ConnectionError, delay=8)
    retry = RetryPrimitive(mock, 99, backoff=constant(10), jitter=False, max_elapsed=30)
    with pytest.raises(ConnectionError):
        await retry.execute(0, clock.context())
    assert mock.call_count == 2


async def test_max_elapsed_bounds_what_an_error_asks_for(clock):
    retry = RetryPrimitive(failing(1, BusyError(3600)), max_elapsed=60)
    with pytest.raises(BusyError):
        await retry.execute(0, clock.context())
    assert clock.sleeps == []


async def test_every_attempt_knows_its_number_and_path():
    seen = []

    @step
    def flaky(_: int, context: WorkflowContext) -> str:
        seen.append((context.attempt, context.path))
        if len(seen) < 3:
            raise ConnectionError
        return "done"

    workflow = step(abs) >> RetryPrimitive(flaky, backoff=constant(0))
    await workflow.execute(0, WorkflowContext(workflow_id="orders"))
    assert seen == [
        (1, "orders/2:flaky/attempt 1"),
        (2, "orders/2:flaky/attempt 2"),
        (3, "orders/2:flaky/attempt 3"),
    ]


async def test_runs_at_the_same_time_count_their_attempts_apart():
    @step
    def flaky(number: int, context: WorkflowContext) -> int:
        if context.attempt <= number:
            raise ConnectionError
        return context.attempt

    retry = RetryPrimitive(flaky, backoff=constant(0))
    assert await MapPrimitive(retry)([0, 3, 1, 2]) == [1, 4, 2, 3]


async def test_retries_nest():
    mock = failing(5)
    inner = RetryPrimitive(mock, 1, backoff=constant(0))
    assert await RetryPrimitive(inner, 2, backoff=constant(0))(0) == "done"
    assert mock.call_count == 6


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_retries": -1}, ValueError, "max_retries=-1 must not be negative"),
        ({"max_elapsed": -1}, ValueError, "max_elapsed=-1 must not be negative"),
        ({"backoff": 3}, TypeError, "backoff=3 must be a Backoff, such as constant"),
        ({"backoff": [1, 2]}, TypeError, r"backoff=\[1, 2\] must be a Backoff"),
        (
            {"retry_on": "ConnectionError"},
            TypeError,
            "retry_on='ConnectionError' must be exception classes",
        ),
        ({"retry_on": ()}, TypeError, r"retry_on=\(\) must be exception classes"),
        ({"retry_on": (ConnectionError, 3)}, TypeError, "retry_on=.* must be exception classes"),
        ({"retry_on": int}, TypeError, "retry_on=<class 'int'> must be exception classes"),
        ({"on_retry": 3}, TypeError, "on_retry=3 must be a function of a RetryAttempt"),
        ({"budget": 3}, TypeError, "budget=3 must be a RetryBudget"),
        ({"retry_on": KeyboardInterrupt}, TypeError, "retry_on=.* must be exception classes"),
    ],
)
def test_what_is_out_of_range_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        RetryPrimitive(str, **options)


# What is told of each attempt


async def test_on_retry_is_told_of_each_failed_attempt_that_another_one_follows(clock):
    told = []
    errors = [ConnectionError("one"), KeyError("two"), OSError("three")]
    retry = RetryPrimitive(
        MockPrimitive("flaky", side_effect=errors),
        2,
        backoff=exponential(1),
        jitter=False,
        on_retry=told.append,
    )
    with pytest.raises(OSError, match="three"):
        await retry.execute(0, clock.context(workflow_id="orders"))
    assert told == [
        RetryAttempt(1, errors[0], 1.0, "orders/attempt 1"),
        RetryAttempt(2, errors[1], 2.0, "orders/attempt 2"),
    ]


async def test_on_retry_may_be_async(clock):
    told = []

    async def tell(attempt):
        await anyio.lowlevel.checkpoint()
        told.append(attempt.attempt)

    await RetryPrimitive(failing(2), on_retry=tell).execute(0, clock.context())
    assert told == [1, 2]


async def test_what_on_retry_raises_ends_the_retries(clock):
    def refuse(attempt):
        raise RuntimeError("enough") from attempt.error

    mock = failing(9)
    with pytest.raises(RuntimeError, match="enough"):
        await RetryPrimitive(mock, on_retry=refuse).execute(0, clock.context())
    assert mock.call_count == 1


async def test_observers_are_told_of_each_retry(clock):
    retry = RetryPrimitive(failing(2), backoff=constant(3), jitter=False)
    await retry.execute(0, clock.context(workflow_id="w"))
    seen = {"wait_seconds": 3, "error": "ConnectionError"}
    assert clock.events == [
        ("retry", "w/attempt 1", {"attempt": 1, **seen}),
        ("retry", "w/attempt 2", {"attempt": 2, **seen}),
    ]


# Budgets


async def test_a_budget_that_is_spent_ends_the_retries_at_once(clock):
    budget = RetryBudget(max_tokens=4)
    mock = MockPrimitive(side_effect=ConnectionError)
    retries = [RetryPrimitive(mock, 3, backoff=constant(1), budget=budget) for _ in range(2)]
    for retry in retries:
        with pytest.raises(ConnectionError) as caught:
            await retry.execute(0, clock.context())
    assert mock.call_count == 3
    assert caught.value.__notes__[1:] == [
        "not tried again, as too much fails: <RetryBudget 1 of 4>"
    ]


async def test_successes_fill_a_budget_again(clock):
    budget = RetryBudget(max_tokens=2, token_ratio=0.5)
    mock = MockPrimitive(side_effect=[ConnectionError, 1, 2, 3])
    retry = RetryPrimitive(mock, budget=budget)
    with pytest.raises(ConnectionError):
        await retry.execute(0, clock.context())
    for left in (1.5, 2, 2):
        await retry.execute(0, clock.context())
        assert budget.tokens == left


async def test_what_is_never_retried_takes_nothing_from_a_budget(clock):
    budget = RetryBudget(max_tokens=2)
    with pytest.raises(TypeError):
        await RetryPrimitive(failing(1, TypeError()), budget=budget).execute(0, clock.context())
    assert budget.tokens == 2


def test_pickled_a_budget_starts_anew():
    budget = RetryBudget(4, 0.5)
    budget.fail()
    assert pickle.loads(pickle.dumps(budget)).tokens == 4


@pytest.mark.parametrize("options", [{"max_tokens": 0}, {"token_ratio": -1}])
def test_the_numbers_of_a_budget_are_positive(options):
    with pytest.raises(ValueError, match="must be positive"):
        RetryBudget(**options)


# Without waiting


async def test_waits_can_be_turned_off_for_a_test():
    mock = MockPrimitive(side_effect=[BusyError(3600), BusyError(3600), "done"])
    with no_waiting(), anyio.fail_after(5):
        assert await RetryPrimitive(mock, backoff=constant(3600))(0) == "done"
    assert mock.call_count == 3


async def test_retries_can_be_bounded_for_a_test():
    mock = failing(9)
    with no_waiting(max_retries=5), no_waiting(max_retries=1), pytest.raises(ConnectionError):
        await RetryPrimitive(mock, 3)(0)
    assert mock.call_count == 2


async def test_waits_come_back_after_the_block(clock):
    with no_waiting():
        pass
    await RetryPrimitive(failing(1), backoff=constant(3), jitter=False).execute(0, clock.context())
    assert clock.sleeps == [3]


def test_the_bound_for_a_test_is_not_negative():
    with pytest.raises(ValueError, match="max_retries=-1"), no_waiting(max_retries=-1):
        pass


async def test_an_error_that_cannot_be_shown_is_raised_all_the_same(clock):
    class DetachedError(Exception):
        def __repr__(self):
            raise LookupError("the session is closed")

    retry = RetryPrimitive(failing(2, DetachedError("row")), 1, backoff=constant(0))
    with pytest.raises(DetachedError) as caught:
        await retry.execute(0, clock.context())
    assert "<DetachedError, of which repr() failed>" in caught.value.__notes__[-1]
