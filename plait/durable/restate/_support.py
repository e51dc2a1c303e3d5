"""What of a workflow Restate can carry, and what it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plait.durable._transactions import TransactionStep
from plait.durable.restate._errors import UnsupportedOnRestateError
from plait.recovery import CircuitBreakerPrimitive, RetryPrimitive

if TYPE_CHECKING:
    from plait.primitives import WorkflowPrimitive


def is_step(primitive: WorkflowPrimitive[Any, Any]) -> bool:
    """Whether a node is executed as one step of Restate's, and its result kept."""
    if keeps_count(primitive):
        return True
    return primitive._is_leaf and not primitive.children and not primitive._numbers_children


def keeps_count(primitive: WorkflowPrimitive[Any, Any]) -> bool:
    """Whether what a node does depends on what this process has done before."""
    return primitive._stays_in_memory or isinstance(primitive, CircuitBreakerPrimitive)


def check(primitive: WorkflowPrimitive[Any, Any]) -> None:
    """Refuse a node that Restate cannot carry.

    Raises:
        UnsupportedOnRestateError: It is one.
    """
    reason = ""
    if isinstance(primitive, TransactionStep):
        reason = "its transaction is one with a journal of plait's own; use a DurableRunner"
    elif primitive.needs:
        reason = "needs= is for plait's own workers; serve it apart, where there is what it needs"
    elif isinstance(primitive, RetryPrimitive) and primitive._budget is not None:
        reason = "a RetryBudget is this process's own, and a replay would decide otherwise"
    elif keeps_count(primitive) and not all(map(is_step, primitive.children)):
        reason = (
            f"a {type(primitive).__name__} is one step there with what is inside of it, which is "
            "more than one step here; put it around each of those steps"
        )
    elif keeps_count(primitive) and any(child.at_most_once for child in primitive.children):
        reason = "a step inside of it may run at most once, which nothing would keep"
    if reason:
        msg = f"{primitive.name!r} cannot run on Restate: {reason}"
        raise UnsupportedOnRestateError(msg)


def check_all(primitive: WorkflowPrimitive[Any, Any]) -> None:
    """Refuse a workflow in which there is a node that Restate cannot carry.

    Raises:
        UnsupportedOnRestateError: There is one.
    """
    check(primitive)
    for child in primitive.children:
        check_all(child)
