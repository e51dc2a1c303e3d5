import pytest
from interruption import Gate, carry_on, fail, interrupt

from plait import CircuitBreaker, CircuitBreakerPrimitive, FallbackPrimitive, MockPrimitive

pytestmark = pytest.mark.anyio


async def test_what_is_recorded_is_not_counted_again(journal):
    breaker = CircuitBreaker("bank", failure_threshold=2)
    gate = Gate()
    failing = CircuitBreakerPrimitive(MockPrimitive(side_effect=OSError), breaker=breaker)
    run = (FallbackPrimitive(failing, [str]) >> gate).named("run")
    await interrupt(journal, run, 1, gate)
    assert await carry_on(journal, run) == "1"
    assert breaker.state == "closed"


async def test_a_rejection_stays_one(journal):
    breaker = CircuitBreaker("bank")
    breaker.isolate()
    gate = Gate()
    mock = MockPrimitive(return_value="paid")
    pay = CircuitBreakerPrimitive(mock, breaker=breaker)
    run = (FallbackPrimitive(pay, [str]) >> gate).named("run")
    await interrupt(journal, run, 1, gate)
    breaker.reset()
    assert await carry_on(journal, run) == "1"
    assert mock.call_count == 0


async def test_a_result_is_handed_back_while_it_is_open(journal):
    breaker = CircuitBreaker("bank")
    gate = Gate()
    run = (CircuitBreakerPrimitive(len, breaker=breaker) >> gate).named("run")
    await interrupt(journal, run, "abc", gate)
    breaker.isolate()
    assert await carry_on(journal, run) == 3


async def test_a_rejection_comes_back_as_what_it_was(journal):
    breaker = CircuitBreaker("bank", failure_threshold=1)
    breaker.enter(0).fail(1e12)
    run = CircuitBreakerPrimitive(len, breaker=breaker).named("run")
    error = await fail(journal, run, "abc")
    assert (error.name, error.retry_after > 0) == ("bank", True)
