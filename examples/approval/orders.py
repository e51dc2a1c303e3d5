"""An order that a person has to approve, run from the shell and approved in the browser."""

from __future__ import annotations

from dataclasses import dataclass

from plait import RetryPrimitive, SignalPrimitive, WorkflowContext, step, workflow


@dataclass
class Order:
    customer: str
    item: str
    total: int


@step
async def check_stock(order: Order) -> Order:
    if not order.item:
        raise ValueError("an order needs an item")
    return order


@step
async def quote(order: Order) -> dict[str, str | int]:
    return {"customer": order.customer, "item": order.item, "total": order.total}


def decide(quoted: dict[str, str | int], is_approved: bool) -> dict[str, str | int]:
    if not is_approved:
        raise PermissionError(f"the order of {quoted['customer']} was rejected")
    return quoted


@step
async def charge(quoted: dict[str, str | int], context: WorkflowContext) -> str:
    # The same key for every attempt, also after a crash: the bank charges once.
    return f"{quoted['customer']} paid {quoted['total']} ({context.idempotency_key})"


approval = SignalPrimitive("approval", bool, timeout=7 * 86_400, combine=decide)
orders = (check_stock >> quote >> approval >> RetryPrimitive(charge, 3)).named("orders")


@dataclass
class Review:
    is_accepted: bool
    reviewer: str


@workflow
async def refund(order: Order, context: WorkflowContext) -> str:
    """The same as an imperative workflow, with a form in place of two buttons."""
    quoted = await quote(order)
    context.progress(1, 2, "waiting for a reviewer")
    review = await context.wait_for("review", Review)
    verdict = "accepted" if review.is_accepted else "refused"
    return f"the refund of {quoted['total']} was {verdict} by {review.reviewer}"
