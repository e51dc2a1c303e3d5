import contextlib
import copy
import logging
import pickle
import threading

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait import (
    CircuitBreaker,
    CircuitBreakerPrimitive,
    CircuitOpenError,
    FallbackPrimitive,
    MapPrimitive,
    MockPrimitive,
    PlaitError,
    RetryPrimitive,
    TimeoutPrimitive,
    WorkflowContext,
    step,
)
from plait.recovery import BreakerChange, constant, exponential

pytestmark = pytest.mark.anyio


def opened(**options):
    """A breaker that has just opened, at the time 0."""
    breaker = CircuitBreaker("bank", **{"failure_threshold": 1, **options})
    breaker.enter(0).fail(0)
    assert breaker.state == "open"
    return breaker


def refused(breaker, now):
    with pytest.raises(CircuitOpenError) as caught:
        breaker.enter(now)
    return caught.value


def test_failures_in_a_row_open_it():
    breaker = CircuitBreaker("bank", failure_threshold=3)
    for end in ("fail", "fail", "succeed", "fail", "fail"):
        getattr(breaker.enter(0), end)(0)
        assert breaker.state == "closed"
    breaker.enter(0).fail(0)
    assert breaker.state == "open"


def test_open_it_says_when_to_try_again():
    breaker = opened(recovery_timeout=30)
    error = refused(breaker, 12.5)
    assert (error.name, error.retry_after) == ("bank", 17.5)
    assert str(error) == "circuit breaker 'bank' is open for another 17.5 s"
    assert isinstance(error, PlaitError)


def test_half_open_it_lets_in_so_many_and_no_more():
    breaker = opened(recovery_timeout=30, half_open_max=2)
    permits = [breaker.enter(30), breaker.enter(30)]
    assert breaker.state == "half_open"
    error = refused(breaker, 30)
    assert error.retry_after is None
    assert str(error) == "circuit breaker 'bank' lets nothing through"
    permits[0].succeed(31)
    breaker.enter(31)
    refused(breaker, 31)


def test_half_open_successes_close_it():
    breaker = opened(success_threshold=3)
    for _ in range(3):
        assert breaker.state in ("open", "half_open")
        breaker.enter(30).succeed(30)
    assert breaker.state == "closed"


def test_half_open_one_failure_opens_it_again():
    breaker = opened(half_open_max=2)
    first, second = breaker.enter(30), breaker.enter(30)
    first.fail(31)
    assert refused(breaker, 31).retry_after == 30
    second.succeed(32)
    assert breaker.state == "open"


def test_a_cancelled_call_gives_its_place_back_and_counts_neither_way():
    breaker = opened(success_threshold=1)
    breaker.enter(30).release()
    assert breaker.state == "half_open"
    breaker.enter(30).succeed(30)
    assert breaker.state == "closed"
    two = CircuitBreaker("bank", failure_threshold=2)
    two.enter(0).fail(0)
    two.enter(0).release()
    two.enter(0).fail(0)
    assert two.state == "open"


def test_what_started_before_the_last_change_comes_too_late_to_count():
    breaker = CircuitBreaker("bank", failure_threshold=1, success_threshold=1)
    late = [breaker.enter(0) for _ in range(3)]
    breaker.enter(0).fail(0)
    late[0].fail(29)
    assert refused(breaker, 29).retry_after == 1
    probe = breaker.enter(30)
    late[1].succeed(30)
    late[2].release()
    refused(breaker, 30)
    probe.succeed(31)
    assert breaker.state == "closed"


def test_an_end_is_told_once():
    breaker = opened(success_threshold=2)
    probe = breaker.enter(30)
    probe.succeed(30)
    probe.succeed(30)
    probe.fail(30)
    probe.release()
    assert breaker.state == "half_open"
    breaker.enter(30)
    refused(breaker, 30)


def test_it_may_stay_open_longer_each_time_until_it_has_been_closed():
    breaker = opened(recovery_timeout=exponential(10).up_to(3), success_threshold=1)
    now = 0
    for wait in (10, 20, 40, 40):
        assert refused(breaker, now).retry_after == wait
        now += wait
        breaker.enter(now).fail(now)
    now += 40
    breaker.enter(now).succeed(now)
    breaker.enter(now).fail(now)
    assert refused(breaker, now).retry_after == 10


def test_a_share_of_failures_opens_it():
    breaker = CircuitBreaker("bank", failure_rate=0.5, minimum_calls=4, window=60)
    for end in ("fail", "fail", "succeed"):
        getattr(breaker.enter(0), end)(0)
        assert breaker.state == "closed"
    breaker.enter(1).fail(1)
    assert breaker.state == "open"


def test_only_the_last_seconds_count():
    breaker = CircuitBreaker("bank", failure_rate=0.5, minimum_calls=4, window=60)
    for _ in range(3):
        breaker.enter(0).fail(0)
    for now in (61, 62, 63):
        breaker.enter(now).succeed(now)
    breaker.enter(64).fail(64)
    assert breaker.state == "closed"
    breaker.enter(65).fail(65)
    breaker.enter(65).fail(65)
    assert breaker.state == "open"


@given(st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=60))
def test_the_share_is_that_of_about_the_last_window(calls):
    breaker = CircuitBreaker("bank", failure_rate=1, minimum_calls=1000, window=10)
    now, ended = 0.0, []
    for pause, failed in calls:
        now += pause
        permit = breaker.enter(now)
        (permit.fail if failed else permit.succeed)(now)
        ended.append((now, failed))
    counted, failures = breaker._window.counts(now)
    within = [failed for at, failed in ended if at > now - 9]
    at_most = [failed for at, failed in ended if at > now - 10]
    assert len(within) <= counted <= len(at_most)
    assert sum(within) <= failures <= sum(at_most)


def test_it_can_be_closed_and_held_open_by_hand():
    breaker = opened()
    breaker.reset()
    assert breaker.state == "closed"
    breaker.enter(0).succeed(0)
    breaker.isolate()
    assert refused(breaker, 1e9).retry_after is None
    breaker.reset()
    breaker.enter(0)


def test_it_tells_of_each_change():
    changes = []
    breaker = opened(success_threshold=1, on_change=changes.append)
    breaker.enter(30).succeed(30)
    breaker.reset()
    breaker.isolate()
    assert changes == [
        BreakerChange("bank", "closed", "open"),
        BreakerChange("bank", "open", "half_open"),
        BreakerChange("bank", "half_open", "closed"),
        BreakerChange("bank", "closed", "isolated"),
    ]


def test_a_listener_that_fails_is_logged_and_changes_nothing(caplog):
    def fail(_):
        raise OSError("no pager")

    with caplog.at_level(logging.ERROR, "plait"):
        breaker = opened(on_change=fail)
    assert breaker.state == "open"
    assert "on_change of circuit breaker 'bank' failed" in caplog.text


def test_a_listener_may_use_the_breaker():
    breaker = opened(on_change=lambda change: change.after == "open" and breakers[0].reset())
    breakers = [breaker]
    breaker.reset()
    breaker.enter(0).fail(0)
    assert breaker.state == "closed"


def test_threads_share_it():
    breaker = opened(half_open_max=3)
    let_in = []

    def ask():
        for _ in range(200):
            with contextlib.suppress(CircuitOpenError):
                let_in.append(breaker.enter(30))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(let_in) == 3


def test_pickled_it_starts_anew_and_is_still_shared():
    breaker = opened(recovery_timeout=exponential(1))
    pair = pickle.loads(
        pickle.dumps([CircuitBreakerPrimitive(step(len), breaker=breaker) for _ in range(2)])
    )
    assert pair[0].breaker is pair[1].breaker
    assert (pair[0].breaker.state, pair[0].breaker.name) == ("closed", "bank")
    assert repr(breaker) == "<CircuitBreaker 'bank' open>"
    assert copy.copy(breaker).state == "closed"


# The primitive


async def test_it_executes_what_is_inside():
    assert await CircuitBreakerPrimitive(len)("abc") == 3


async def test_once_open_nothing_is_executed(clock):
    mock = MockPrimitive("charge", side_effect=OSError)
    run = CircuitBreakerPrimitive(mock, failure_threshold=2, recovery_timeout=30)
    context = clock.context(workflow_id="orders")
    for _ in range(2):
        with pytest.raises(OSError):  # noqa: PT011 - it says nothing
            await run.execute(0, context)
    with pytest.raises(CircuitOpenError) as caught:
        await run.execute(0, context)
    assert mock.call_count == 2
    assert run.breaker.state == "open"
    assert caught.value.retry_after == 30
    assert caught.value.__notes__ == ["in step 'charge' (3:orders/guarded)"]
    clock.now += 30
    with pytest.raises(OSError):  # noqa: PT011
        await run.execute(0, context)
    assert mock.call_count == 3


@pytest.mark.parametrize("most", [1, 3])
async def test_half_open_under_concurrency_only_so_many_are_executed(most, clock, gauge):
    dependency = {"is_up": False}

    @step
    async def call(_):
        with gauge:
            await anyio.sleep(0.001)
            if not dependency["is_up"]:
                raise OSError

    run = CircuitBreakerPrimitive(
        call, failure_threshold=1, half_open_max=most, success_threshold=most
    )
    context = clock.context()
    fifty = MapPrimitive(run, errors="collect")
    await MapPrimitive(run, errors="collect", max_concurrency=1).execute(range(2), context)
    assert gauge.total == 1
    clock.now += 30
    dependency["is_up"] = True
    outcomes = await fifty.execute(range(50), context)
    assert gauge.total == 1 + most
    assert gauge.peak == most
    assert sum(isinstance(getattr(o, "error", None), CircuitOpenError) for o in outcomes) == (
        50 - most
    )
    assert run.breaker.state == "closed"


async def test_a_cancelled_probe_leaves_its_place_to_the_next_one(clock):
    mock = MockPrimitive(side_effect=[OSError, None], delay=0)
    hang = step(anyio.sleep_forever)
    breaker = CircuitBreaker("bank", failure_threshold=1, success_threshold=1)
    failing = CircuitBreakerPrimitive(mock, breaker=breaker)
    hanging = CircuitBreakerPrimitive(lambda _: hang(), breaker=breaker)
    with pytest.raises(OSError):  # noqa: PT011
        await failing.execute(0, clock.context())
    clock.now += 30
    with anyio.move_on_after(0.01):
        await hanging.execute(0, clock.context())
    assert breaker.state == "half_open"
    assert await failing.execute(0, clock.context()) is None
    assert breaker.state == "closed"


async def test_a_timeout_inside_counts_as_a_failure():
    run = CircuitBreakerPrimitive(
        TimeoutPrimitive(MockPrimitive(delay=60), 0.001), failure_threshold=1
    )
    with pytest.raises(TimeoutError):
        await run(0)
    assert run.breaker.state == "open"


async def test_a_timeout_outside_does_not():
    run = CircuitBreakerPrimitive(MockPrimitive(delay=60), failure_threshold=1)
    with pytest.raises(TimeoutError):
        await TimeoutPrimitive(run, 0.001)(0)
    assert run.breaker.state == "closed"


@pytest.mark.parametrize("expected", [OSError, lambda error: isinstance(error, OSError)])
async def test_only_expected_failures_count(expected):
    mock = MockPrimitive(side_effect=[OSError, ValueError, OSError, OSError])
    run = CircuitBreakerPrimitive(mock, failure_threshold=2, expected=expected)
    for _ in range(4):
        assert run.breaker.state == "closed"
        with pytest.raises((OSError, ValueError)):
            await run(0)
    assert run.breaker.state == "open"


async def test_a_predicate_that_fails_gives_the_place_back(clock):
    run = CircuitBreakerPrimitive(
        MockPrimitive(side_effect=OSError), failure_threshold=1, expected=lambda error: 1 / 0
    )
    run.breaker.enter(clock.time()).fail(clock.time())
    clock.now += 30
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await run.execute(0, clock.context())


async def test_a_retry_waits_until_it_lets_something_through(clock):
    mock = MockPrimitive(side_effect=[OSError, "done"])
    run = CircuitBreakerPrimitive(mock, failure_threshold=1, recovery_timeout=30)
    assert await RetryPrimitive(run, backoff=constant(1), jitter=False).execute(
        0, clock.context()
    ) == ("done")
    assert clock.sleeps == [1, 29]
    assert mock.call_count == 2


async def test_a_fallback_answers_while_it_is_open():
    mock = MockPrimitive(side_effect=OSError)
    run = FallbackPrimitive(CircuitBreakerPrimitive(mock, failure_threshold=1), [str])
    assert [await run(n) for n in range(3)] == ["0", "1", "2"]
    assert mock.call_count == 1


async def test_several_primitives_share_one_state():
    breaker = CircuitBreaker("bank", failure_threshold=2)
    pay, refund = (
        CircuitBreakerPrimitive(MockPrimitive(side_effect=OSError), breaker=breaker)
        for _ in range(2)
    )
    for run in (pay, refund):
        with pytest.raises(OSError):  # noqa: PT011
            await run(0)
    for run in (pay, refund):
        with pytest.raises(CircuitOpenError, match="'bank' is open"):
            await run(0)


async def test_observers_are_told(clock):
    mock = MockPrimitive("charge", side_effect=[OSError, "done"])
    run = CircuitBreakerPrimitive(mock, failure_threshold=1, success_threshold=1)
    context = WorkflowContext(workflow_id="w")
    context._runtime = clock
    for _ in range(3):
        try:
            await run.execute(0, context)
        except (OSError, CircuitOpenError):
            clock.now += 16
    assert [(event, attributes) for event, _, attributes in clock.events] == [
        ("breaker_opened", {"breaker": "charge"}),
        ("breaker_rejected", {"breaker": "charge"}),
        ("breaker_half_opened", {"breaker": "charge"}),
        ("breaker_closed", {"breaker": "charge"}),
    ]


def test_it_looks_like_what_it_wraps():
    charge = step(name="charge")(len)
    run = CircuitBreakerPrimitive(charge, failure_threshold=3)
    assert (run.label, run.breaker.name) == ("charge", "charge")
    assert run == CircuitBreakerPrimitive(charge, failure_threshold=3)
    assert run != CircuitBreakerPrimitive(charge, failure_threshold=4)
    assert pickle.loads(pickle.dumps(CircuitBreakerPrimitive(step(len)))).run_sync("a") == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"failure_threshold": 0}, ValueError, "failure_threshold=0 of circuit breaker 'str' must"),
        ({"success_threshold": 0}, ValueError, "success_threshold=0"),
        ({"half_open_max": -1}, ValueError, "half_open_max=-1"),
        ({"minimum_calls": 0}, ValueError, "minimum_calls=0"),
        ({"recovery_timeout": 0}, ValueError, "recovery_timeout=0"),
        ({"window": -1}, ValueError, "window=-1"),
        ({"failure_rate": 0}, ValueError, r"failure_rate=0 of circuit breaker 'str' must be in"),
        ({"failure_rate": 1.1}, ValueError, "failure_rate=1.1"),
        ({"on_change": 3}, TypeError, "on_change=3 of circuit breaker 'str' must be a function"),
        ({"expected": int}, TypeError, "expected=<class 'int'> must be exception classes"),
        ({"breaker": "bank"}, TypeError, "breaker='bank' must be a CircuitBreaker, such as"),
        (
            {"breaker": CircuitBreaker("bank"), "window": 3},
            TypeError,
            "window beside breaker=<CircuitBreaker 'bank' closed>, which has numbers of its own",
        ),
    ],
)
def test_what_is_out_of_range_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        CircuitBreakerPrimitive(str, **options)
