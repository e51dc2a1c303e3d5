"""What the server's tests serve."""

from dataclasses import dataclass
from enum import Enum

from plait import (
    FallbackPrimitive,
    RetryPrimitive,
    SignalPrimitive,
    WorkflowContext,
    step,
    workflow,
)
from plait.recovery import constant

SCRIPT = "<script>alert('x')</script>\"'&"
is_down = [False]


@dataclass
class Order:
    item: str
    total: int


@dataclass
class Review:
    approved: bool
    by: str = ""


@step
async def price(order: Order) -> int:
    return order.total


@step
async def double(number: int) -> int:
    return 2 * number


@step
async def fail(text: str) -> str:
    raise ConnectionError(f"no bank for {text}")


@step
async def account(text: str) -> dict[str, str]:
    return {"told": text, "password": "hunter2"}


@step
async def flaky(number: int) -> int:
    if is_down[0]:
        raise ConnectionError("it is down")
    return number + 1


@step
async def hostile(_: object) -> str:
    raise ValueError(SCRIPT)


def decide(total: int, is_approved: bool) -> str:
    return f"{total} {'approved' if is_approved else 'rejected'}"


@workflow
async def review(name: str, context: WorkflowContext) -> str:
    context.progress(1, 2, f"reading {name}")
    await context.set_event("reader", {"name": "ada", "token": "t"})
    found = await context.wait_for("reviewed", Review)
    return f"{name} {'approved' if found.approved else 'rejected'} by {found.by}"


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class Parcel:
    to: str | None
    size: Size
    stamps: list[int]
    is_fragile: bool = False


@workflow
async def send_later(parcel: Parcel, context: WorkflowContext) -> str:
    """Send a parcel in an hour."""
    await context.sleep(3600)
    return parcel.size.value


orders = (price >> SignalPrimitive("approved", bool, timeout=86_400, combine=decide)).named(
    "orders"
)
accounts = FallbackPrimitive(RetryPrimitive(fail, 1, backoff=constant(0)), [account]).named(
    "accounts"
)
counting = (double >> flaky).named("counting")

WORKFLOWS = [orders, accounts, counting, double, review, hostile, send_later]
