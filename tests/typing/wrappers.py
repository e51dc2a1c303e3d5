"""Wrappers keep the types of what is inside; read by mypy and basedpyright, never run."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import assert_type

from plait import (
    BatchPrimitive,
    CachePrimitive,
    CircuitBreaker,
    CircuitBreakerPrimitive,
    CompensationPrimitive,
    ConcurrencyLimitPrimitive,
    ConditionalPrimitive,
    Failure,
    FallbackPrimitive,
    HedgePrimitive,
    MapPrimitive,
    MockPrimitive,
    Outcome,
    ParallelPrimitive,
    RateLimitPrimitive,
    ReducePrimitive,
    RetryBudget,
    RetryPrimitive,
    RouterPrimitive,
    SequentialPrimitive,
    Success,
    TimeoutPrimitive,
    WorkflowContext,
    step,
)
from plait.performance import ConcurrencyLimit, RateLimit, RedisStore
from plait.recovery import Backoff, RetryAttempt, constant, exponential


@step
async def length(text: str) -> int:
    return len(text)


@step
async def double(number: int) -> int:
    return number * 2


@step
async def shout(text: str) -> str:
    return text.upper()


async def length_async(text: str) -> int:
    return len(text)


def by_context(text: str, context: WorkflowContext) -> bool:
    return text in context.data


# Of a primitive.
assert_type(RetryPrimitive(length), RetryPrimitive[str, int])
assert_type(TimeoutPrimitive(length, 1), TimeoutPrimitive[str, int])
assert_type(CachePrimitive(length, 60), CachePrimitive[str, int])
assert_type(FallbackPrimitive(length, [length]), FallbackPrimitive[str, int])
assert_type(RateLimitPrimitive(length, 10, 1.5), RateLimitPrimitive[str, int])
assert_type(RateLimitPrimitive(length, RateLimit(1, 1)), RateLimitPrimitive[str, int])
assert_type(ConcurrencyLimitPrimitive(length, 10), ConcurrencyLimitPrimitive[str, int])
assert_type(
    ConcurrencyLimitPrimitive(length, ConcurrencyLimit(1)), ConcurrencyLimitPrimitive[str, int]
)
assert_type(CircuitBreakerPrimitive(length), CircuitBreakerPrimitive[str, int])
assert_type(HedgePrimitive(length, 1), HedgePrimitive[str, int])
assert_type(CompensationPrimitive(length, double), CompensationPrimitive[str, int])
assert_type(MapPrimitive(length), MapPrimitive[str, int])

# Of an async function; one that is sync becomes a step first.
assert_type(RetryPrimitive(length_async), RetryPrimitive[str, int])
assert_type(TimeoutPrimitive(length_async, 1), TimeoutPrimitive[str, int])
assert_type(CachePrimitive(length_async, 60), CachePrimitive[str, int])
assert_type(FallbackPrimitive(length_async, [length]), FallbackPrimitive[str, int])
assert_type(CircuitBreakerPrimitive(length_async), CircuitBreakerPrimitive[str, int])
assert_type(HedgePrimitive(length_async, 1), HedgePrimitive[str, int])
assert_type(CompensationPrimitive(length_async, double), CompensationPrimitive[str, int])
assert_type(MapPrimitive(length_async), MapPrimitive[str, int])

# In any order, and in compositions.
assert_type(
    RetryPrimitive(TimeoutPrimitive(CachePrimitive(length, 60), 1)), RetryPrimitive[str, int]
)
assert_type(
    TimeoutPrimitive(RetryPrimitive(CircuitBreakerPrimitive(HedgePrimitive(length, 1))), 10),
    TimeoutPrimitive[str, int],
)
assert_type(
    CompensationPrimitive(RetryPrimitive(shout), length) >> length, SequentialPrimitive[str, int]
)
assert_type(RetryPrimitive(shout >> length), RetryPrimitive[str, int])
assert_type(RetryPrimitive(length) >> double, SequentialPrimitive[str, int])
assert_type(shout >> TimeoutPrimitive(length, 1), SequentialPrimitive[str, int])
assert_type(RetryPrimitive(length) | CachePrimitive(shout, 1), ParallelPrimitive[str, int, str])
assert_type(RetryPrimitive(length | shout), RetryPrimitive[str, tuple[int, str]])
_ = RetryPrimitive(length) >> length  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
_ = double >> TimeoutPrimitive(length, 1)  # type: ignore[arg-type]  # pyright: ignore[reportOperatorIssue]

# Map and reduce.
assert_type(MapPrimitive(length, errors="collect"), MapPrimitive[str, Outcome[int]])
assert_type(
    MapPrimitive(length) >> MapPrimitive(double),
    SequentialPrimitive[Iterable[str] | AsyncIterable[str], list[int]],
)


def add(total: int, number: int) -> int:
    return total + number


async def add_async(total: int, number: int) -> int:
    return total + number


assert_type(ReducePrimitive(add, 0), ReducePrimitive[int, int])
assert_type(ReducePrimitive(add_async, 0), ReducePrimitive[int, int])
ReducePrimitive(add, "zero")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
_ = MapPrimitive(shout) >> ReducePrimitive(add, 0)  # type: ignore[arg-type]  # pyright: ignore[reportOperatorIssue]


async def mapping(words: list[str], numbers: list[int], stream: AsyncIterator[str]) -> None:
    assert_type(await MapPrimitive(length)(words), list[int])
    assert_type(await MapPrimitive(length)(stream), list[int])
    assert_type(await (MapPrimitive(length) >> MapPrimitive(double))(words), list[int])
    assert_type(await (MapPrimitive(length) >> ReducePrimitive(add, 0))(words), int)
    assert_type(await (MapPrimitive(length) >> sum)(words), int)
    await MapPrimitive(length)(numbers)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for outcome in await MapPrimitive(length, errors="collect")(words):
        match outcome:
            case Success(value):
                assert_type(value, int)
            case Failure(error):
                assert_type(error, Exception)


def words_of(text: str) -> Iterable[str]:
    return text.split()


assert_type(step(words_of) >> MapPrimitive(length), SequentialPrimitive[str, list[int]])
_ = step(words_of) >> MapPrimitive(double)  # type: ignore[arg-type]  # pyright: ignore[reportOperatorIssue]


# A batch takes what the list primitive takes one of, and returns one of what it returns.
async def lengths(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


assert_type(BatchPrimitive(lengths, 10, 0.01), BatchPrimitive[str, int])
assert_type(BatchPrimitive(MapPrimitive(length), 10, 0.01), BatchPrimitive[str, int])
assert_type(
    BatchPrimitive(MapPrimitive(length, errors="collect"), 10, 0.01), BatchPrimitive[str, int]
)
assert_type(CachePrimitive(BatchPrimitive(lengths, 10, 0.01), 60), CachePrimitive[str, int])
BatchPrimitive(double, 10, 0.01)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]

# Choices.
assert_type(ConditionalPrimitive(bool, length, length_async), ConditionalPrimitive[str, int])
assert_type(ConditionalPrimitive(by_context, length), ConditionalPrimitive[str, int])
assert_type(RouterPrimitive({"a": length, "b": length}, str.lower), RouterPrimitive[str, int])
ConditionalPrimitive(bool, length, 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
FallbackPrimitive(length, [length], fallback_on=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# Collections of branches.
assert_type(ParallelPrimitive([length, length]).run_sync("a"), tuple[int, ...])
assert_type(ParallelPrimitive({"a": length, "b": length}).run_sync("a"), dict[str, int])
assert_type(
    ParallelPrimitive([length, length], errors="collect").run_sync("a"), tuple[Outcome[int], ...]
)
assert_type(
    ParallelPrimitive({"a": length}, errors="collect").run_sync("a"), dict[str, Outcome[int]]
)
assert_type((ParallelPrimitive({"a": length}) >> len).run_sync("a"), int)


# Options.
async def tell(attempt: RetryAttempt) -> None:
    assert_type(attempt.error, Exception)


RetryPrimitive(length, 5, backoff=exponential(0.1).capped(30).up_to(5).then(constant(1)))
RetryPrimitive(length, retry_on=(OSError, KeyError), max_elapsed=60)
RetryPrimitive(length, retry_on=lambda error: "again" in str(error))
RetryPrimitive(length, on_retry=tell, budget=RetryBudget(max_tokens=10))
FallbackPrimitive(length, [length], fallback_on=OSError)
CircuitBreakerPrimitive(length, failure_rate=0.5, window=10, expected=OSError)
CircuitBreakerPrimitive(length, recovery_timeout=exponential(5, max_delay=60))
CircuitBreakerPrimitive(length, breaker=CircuitBreaker("bank", on_change=print))
CompensationPrimitive(length, shout)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
CircuitBreakerPrimitive(length, expected=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
RetryPrimitive(length, on_retry=length)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
CachePrimitive(length, 60, key=str.casefold, max_size=10)
CachePrimitive(length, lambda text, size: len(text) + size, store=RedisStore("redis://localhost"))
CachePrimitive(length, 60, on_store_error="shut")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
RateLimitPrimitive(length, 10)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
RateLimitPrimitive(length, 10, per=1, burst=5, max_wait=1, key=str.casefold)
ConcurrencyLimitPrimitive(length, 10, max_queue=5, max_wait=1, key=str.casefold)
assert_type(exponential(1).capped(5), Backoff)
RetryPrimitive(length, backoff=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
RetryPrimitive(length, retry_on="OSError")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
TimeoutPrimitive(length)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
MapPrimitive(length, errors="ignore")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
RetryPrimitive(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# A mock stands where its types say.
mock: MockPrimitive[str, int] = MockPrimitive("length", return_value=3)
assert_type(mock >> double, SequentialPrimitive[str, int])
_ = mock >> shout  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
