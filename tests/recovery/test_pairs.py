"""Wrappers alone and in pairs do what a model of them says, call by call, in virtual time."""

import math

import anyio
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from plait import (
    CircuitBreakerPrimitive,
    CircuitOpenError,
    CompensationPrimitive,
    FallbackPrimitive,
    HedgePrimitive,
    RetryPrimitive,
    StepTimeoutError,
    TimeoutPrimitive,
    WorkflowContext,
    step,
)
from plait.recovery import constant
from plait.testing import VirtualClock

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
HANGS = math.inf
# Whole seconds: no call ends just when a deadline of 2.5 or 3.25 seconds passes.
CALLS = st.lists(
    st.tuples(st.sampled_from([0, 1, 2, 4, HANGS]), st.sampled_from(["ok", "fail"])),
    min_size=1,
    max_size=8,
)


class CancelledError(Exception):
    """In the model: a deadline further out passed."""


class Model:
    """What should happen: each wrapper is a function of its start and the deadline around it."""

    def __init__(self, calls):
        self._script = calls
        self.calls = []
        self._asked = 0

    def dependency(self, start, deadline):
        seconds, outcome = self._script[len(self.calls) % len(self._script)]
        self.calls.append(start)
        if start + seconds > deadline:
            raise CancelledError
        return outcome, start + seconds

    def retry(self, inner):
        def execute(start, deadline):
            for attempt in (1, 2, 3):
                outcome, end = inner(start, deadline)
                if outcome in ("ok", "other") or attempt == 3:
                    return outcome, end
                start = end + (self._asked if outcome == "open" else 1)
                if start > deadline:
                    raise CancelledError
            raise AssertionError

        return execute

    def fallback(self, inner):
        def execute(start, deadline):
            outcome, end = inner(start, deadline)
            return (outcome, end) if outcome == "ok" else ("other", end)

        return execute

    def timeout(self, inner, seconds=2.5):
        def execute(start, deadline):
            own = start + seconds
            try:
                return inner(start, min(deadline, own))
            except CancelledError:
                if own > deadline:
                    raise
                return "timeout", own

        return execute

    def breaker(self, inner):
        """Opens after two failures for ten seconds; one success closes it."""
        failures, until = 0, None

        def execute(start, deadline):
            nonlocal failures, until
            if until is not None and start < until:
                self._asked = until - start
                return "open", start
            outcome, end = inner(start, deadline)
            if outcome in ("ok", "other"):
                failures, until = 0, None
            else:
                failures += 1
                if failures == 2 or until is not None:
                    failures, until = 0, end + 10
            return outcome, end

        return execute

    def none(self, inner):
        return inner


class Real:
    """The same of plait."""

    def __init__(self, calls):
        self._script = calls
        self.calls = []

    @property
    def dependency(self):
        @step
        async def dependency(_):
            seconds, outcome = self._script[len(self.calls) % len(self._script)]
            self.calls.append(anyio.current_time() - self.started)
            await anyio.sleep(seconds)
            if outcome == "fail":
                raise ConnectionError
            return outcome

        return dependency

    def retry(self, inner):
        return RetryPrimitive(inner, 2, backoff=constant(1), jitter=False)

    def fallback(self, inner):
        return FallbackPrimitive(inner, [lambda _: "other"])

    def timeout(self, inner, seconds=2.5):
        return TimeoutPrimitive(inner, seconds)

    def breaker(self, inner):
        return CircuitBreakerPrimitive(
            inner, failure_threshold=2, recovery_timeout=10, success_threshold=1
        )

    def none(self, inner):
        return inner

    async def outcome(self, workflow):
        try:
            return await workflow.execute(0, WorkflowContext())
        except ConnectionError:
            return "fail"
        except StepTimeoutError:
            return "timeout"
        except CircuitOpenError:
            return "open"


KINDS = ["none", "retry", "fallback", "timeout", "breaker"]


@BACKENDS
@pytest.mark.parametrize("outer", KINDS)
@pytest.mark.parametrize("inner", KINDS)
@given(calls=CALLS)
@settings(max_examples=25, deadline=None)
def test_pairs_of_wrappers_call_as_often_and_in_the_order_that_they_should(
    backend, outer, inner, calls
):
    model, real = Model(calls), Real(calls)
    nested = {}
    for each in (model, real):
        outermost = getattr(each, outer)(getattr(each, inner)(each.dependency))
        # Nothing hangs for good, whatever is inside.
        nested[each] = each.timeout(outermost, 33.25)

    expected = []
    clock = 0.0
    for _ in range(4):
        outcome, clock = nested[model](clock, math.inf)
        expected.append((outcome, clock))
        clock += 3

    async def main():
        real.started = anyio.current_time()
        outcomes = []
        for _ in range(4):
            outcome = await real.outcome(nested[real])
            outcomes.append((outcome, anyio.current_time() - real.started))
            await anyio.sleep(3)
        return outcomes

    outcomes = VirtualClock().run(main, backend=backend)
    assert [outcome for outcome, _ in outcomes] == [outcome for outcome, _ in expected]
    assert [end for _, end in outcomes] == pytest.approx([end for _, end in expected])
    assert real.calls == pytest.approx(model.calls)


@BACKENDS
@given(
    ways=st.lists(
        st.tuples(st.sampled_from([1, 3, 5, 8, HANGS]), st.sampled_from(["ok", "fail"])),
        min_size=3,
        max_size=3,
    )
)
@settings(max_examples=60, deadline=None)
def test_of_hedged_attempts_the_first_answer_wins(backend, ways):
    # The attempts start at 0, 2 and 4.
    ends = [2 * index + seconds for index, (seconds, _) in enumerate(ways)]
    finite = [end for end in ends if end < HANGS]
    assume(len(finite) == len(set(finite)))
    made = 1
    while made < 3 and _is_open_at(2 * made, ends[:made], ways):
        made += 1
    answers = [ends[index] for index in range(made) if ways[index][1] == "ok"]
    assume(min(answers, default=HANGS) < HANGS or HANGS not in ends[:made])
    started = []

    @step
    async def attempt(_, context: WorkflowContext):
        index = context.attempt - 1
        started.append(index)
        seconds, outcome = ways[index]
        await anyio.sleep(seconds)
        if outcome == "fail":
            raise ConnectionError
        return index

    async def main():
        start = anyio.current_time()
        try:
            result = await HedgePrimitive(attempt, 2, max_hedges=2).execute(0, WorkflowContext())
        except ConnectionError:
            result = "fail"
        return result, anyio.current_time() - start

    result, end = VirtualClock().run(main, backend=backend)
    assert started == list(range(made))
    expected = min(answers, default=HANGS)
    if expected < HANGS:
        assert (result, end) == (ends.index(expected), expected)
    else:
        assert (result, end) == ("fail", max(ends[:made]))


def _is_open_at(now, ends, ways):
    """Whether a race is still undecided: nothing has answered, and something may."""
    answered = any(
        end < now for end, (_, outcome) in zip(ends, ways, strict=False) if outcome == "ok"
    )
    return not answered and max(ends) > now


@BACKENDS
@pytest.mark.parametrize("outer", KINDS)
@pytest.mark.parametrize("inner", KINDS)
@given(calls=CALLS)
@settings(max_examples=15, deadline=None)
def test_whatever_is_around_it_what_was_done_is_kept_or_undone_once(backend, outer, inner, calls):
    real = Real(calls)
    done, undone = [], []

    @step
    async def reserve(_):
        done.append(len(done))
        return done[-1]

    @step
    async def release(number):
        undone.append(number)

    reserved = CompensationPrimitive(reserve, release) >> real.dependency
    nested = real.timeout(getattr(real, outer)(getattr(real, inner)(reserved)), 33.25)

    async def main():
        real.started = anyio.current_time()
        return await real.outcome(nested)

    outcome = VirtualClock().run(main, backend=backend)
    assert undone == sorted(set(undone))
    assert len(done) - len(undone) == (outcome == "ok")
