import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.recovery import constant, exponential, linear, waits


def first(count, backoff):
    return list(itertools.islice(backoff, count))


def test_constant_waits_the_same_each_time():
    assert first(3, constant(2)) == [2, 2, 2]


def test_exponential_grows_by_a_factor():
    assert first(4, exponential(0.5)) == [0.5, 1, 2, 4]
    assert first(3, exponential(1, factor=3)) == [1, 3, 9]
    assert first(3, exponential(1, factor=1)) == [1, 1, 1]


def test_linear_grows_by_the_same_amount():
    assert first(4, linear(2)) == [2, 4, 6, 8]
    assert first(4, linear(2, max_delay=5)) == [2, 4, 5, 5]


def test_waits_may_be_listed():
    assert list(waits(0, 0.1, 5)) == [0, 0.1, 5]
    assert first(4, waits(1).then(constant(9))) == [1, 9, 9, 9]
    assert waits(1, 2) == waits(1, 2)


def test_a_cap_bounds_every_wait():
    assert first(4, exponential(1, max_delay=3)) == [1, 2, 3, 3]
    assert first(4, exponential(1).capped(3)) == [1, 2, 3, 3]


def test_a_schedule_may_end():
    assert list(constant(1).up_to(2)) == [1, 1]
    assert list(constant(1).up_to(0)) == []


def test_one_schedule_follows_another():
    assert first(4, constant(1).up_to(2).then(constant(5))) == [1, 1, 5, 5]


def test_schedules_compose_in_any_order():
    schedule = exponential(1).capped(4).up_to(3).then(constant(9).up_to(1)).capped(8)
    assert list(schedule) == [1, 2, 4, 8]


def test_a_schedule_starts_anew_for_each_run():
    schedule = exponential(1).up_to(2)
    assert list(schedule) == list(schedule) == [1, 2]


@given(
    base=st.floats(0, 1e6),
    factor=st.floats(1, 1e6),
    cap=st.floats(0, 1e6),
    count=st.integers(0, 2000),
)
def test_a_capped_exponential_never_falls_nor_exceeds_its_cap(base, factor, cap, count):
    waits = list(exponential(base, factor=factor, max_delay=cap).up_to(count))
    assert len(waits) == count
    assert waits == sorted(waits)
    assert all(0 <= wait <= cap for wait in waits)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: constant(-1), "seconds=-1 must not be negative"),
        (lambda: exponential(-1), "base=-1 must not be negative"),
        (lambda: exponential(1, factor=0.5), "factor=0.5 must be at least 1"),
        (lambda: exponential(1, max_delay=-1), "max_delay=-1 must not be negative"),
        (lambda: linear(-1), "step=-1 must not be negative"),
        (lambda: waits(1, -1), "seconds=-1 must not be negative"),
        (lambda: constant(1).capped(-1), "max_delay=-1 must not be negative"),
        (lambda: constant(1).up_to(-1), "retries=-1 must not be negative"),
        (lambda: constant(math.nan), "seconds=nan"),
    ],
)
def test_a_number_out_of_its_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
