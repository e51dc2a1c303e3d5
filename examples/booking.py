"""Book a trip: flight and hotel side by side, then the payment. What cannot be kept is undone.

    uv run examples/booking.py

What to look at:

- `trip`: each booking is a step with what undoes it, and nothing more is said about failures. When
  the card is declined, hotel and flight are cancelled before anybody hears of it.
- `book_flight`, from the outside in: what undoes it, three more attempts with a budget that all
  callers share, a breaker that leaves an airline alone which is down, five seconds an attempt.
- The last traveller's airline is down: the breaker lets nothing through, and the fallback finds a
  train. What undoes the train is the train's own.
"""

from __future__ import annotations

import anyio

from plait import (
    CircuitBreakerPrimitive,
    CompensationPrimitive,
    FallbackPrimitive,
    PermanentError,
    RetryBudget,
    RetryPrimitive,
    TimeoutPrimitive,
    step,
)
from plait.recovery import constant

log: list[str] = []
budget = RetryBudget()


class CardDeclinedError(PermanentError):
    """Asking again would not help, so no retry does."""


@step
async def ask_airline(traveller: str) -> str:
    if "grounded" in traveller:
        raise ConnectionError("the airline does not answer")
    log.append(f"flight for {traveller}")
    return f"flight of {traveller}"


@step
async def cancel(booking: str) -> None:
    log.append(f"cancelled: {booking}")


@step
async def book_train(traveller: str) -> str:
    log.append(f"train for {traveller}")
    return f"train of {traveller}"


@step
async def ask_hotel(traveller: str) -> str:
    await anyio.sleep(0.01)
    log.append(f"room for {traveller}")
    return f"room of {traveller}"


@step
async def pay(bookings: tuple[str, str]) -> str:
    if "broke" in bookings[0]:
        raise CardDeclinedError("the card is declined")
    return f"paid for {' and '.join(bookings)}"


airline = CircuitBreakerPrimitive(TimeoutPrimitive(ask_airline, 5), failure_threshold=3)
patient = RetryPrimitive(airline, backoff=constant(0.01), max_elapsed=1, budget=budget)
book_flight = CompensationPrimitive(patient, cancel)
travel = FallbackPrimitive(book_flight, [CompensationPrimitive(book_train, cancel)])
trip = ((travel | CompensationPrimitive(ask_hotel, cancel)) >> pay).named("trip")


async def main() -> None:
    for traveller in ("ada", "broke bob", "grounded eve"):
        try:
            print(await trip(traveller))
        except CardDeclinedError as error:
            print(f"{traveller}: {error}\n  {error.__notes__[0]}")
    print(f"the airline's breaker is {airline.breaker.state}")
    print("\nWhat happened:", *log, sep="\n  ")


if __name__ == "__main__":
    anyio.run(main)
