"""Calls of tools that a human has to approve of first."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from pydantic_ai.tools import DeferredToolResults, ToolApproved, ToolDenied

from plait.primitives import StepTimeoutError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from pydantic_ai.tools import DeferredToolRequests

    from plait.durable import DurableRunner
    from plait.primitives import WorkflowContext


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """A call of a tool that waits for somebody's approval.

    Attributes:
        tool_call_id: What the call is known by.
        tool: The tool's name.
        arguments: What the model wants to call it with.
        path: The agent's node.
    """

    tool_call_id: str
    tool: str
    arguments: dict[str, object]
    path: str

    @property
    def signal(self) -> str:
        """The name of the signal that brings the `Approval`."""
        # Some servers count the calls of each conversation from 1: other agents of the run may
        # wait for a call of the same id.
        place = blake2b(self.path.encode(), digest_size=4).hexdigest()
        return f"approval:{self.tool_call_id}:{place}"


@dataclass(frozen=True, slots=True)
class Approval:
    """What somebody has decided about a call of a tool.

    Attributes:
        approved: Whether it may be made.
        message: What the model is told where it may not.
        arguments: What the tool is called with in place of what the model wanted.
    """

    approved: bool
    message: str = "The call was not approved."
    arguments: dict[str, object] | None = None


async def approve(
    runner: DurableRunner, run_id: str, request: ApprovalRequest, approval: Approval | None = None
) -> None:
    """Answer a request of a durable run for approval.

    Args:
        runner: The runner, or a client of the same journal.
        run_id: The run that waits.
        request: What it asks, as its event has it.
        approval: The decision; a plain yes where none is given.
    """
    await runner.signal(run_id, request.signal, approval or Approval(approved=True))


async def decided(
    requests: DeferredToolRequests, event: str, timeout: float | None, context: WorkflowContext
) -> DeferredToolResults:
    """Ask for approvals, and wait until each is given or refused, or its time is over."""
    asked = [
        ApprovalRequest(call.tool_call_id, call.tool_name, call.args_as_dict(), context.path)
        for call in requests.approvals
    ]
    await context.set_event(event, asked)
    answers: list[Awaitable[ToolApproved | ToolDenied]] = []
    for request in asked:
        context.report("approval", tool=request.tool, tool_call_id=request.tool_call_id)
        answers.append(_answer(request, timeout, context))
    given = await context.gather(*answers)
    return DeferredToolResults(
        approvals={
            request.tool_call_id: answer for request, answer in zip(asked, given, strict=True)
        }
    )


async def _answer(
    request: ApprovalRequest, timeout: float | None, context: WorkflowContext
) -> ToolApproved | ToolDenied:
    try:
        approval = await context.wait_for(request.signal, Approval, timeout=timeout)
    except StepTimeoutError as error:
        return ToolDenied(f"Nobody has approved the call within {error.seconds:g} s.")
    if approval.approved:
        return ToolApproved(override_args=approval.arguments)
    return ToolDenied(approval.message)
