"""Limits on what all the agents of a part of a workflow spend together."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic_ai.usage import RunUsage, UsageLimits

from plait.agents._telemetry import cost_of
from plait.primitives._base import In, Out
from plait.primitives._wrapper import Wrapper

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelResponse

    from plait.primitives import WorkflowContext
    from plait.primitives._base import Operand


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits, and what was spent of them so far."""

    limits: UsageLimits
    spent: RunUsage = field(default_factory=RunUsage)

    def check_request(self) -> None:
        """Refuse one more request than allowed; raises `UsageLimitExceeded`."""
        self.limits.check_before_request(self.spent)

    def add_response(self, response: ModelResponse) -> None:
        """Count an answer, and refuse to go on where that was too much."""
        self.spent.requests += 1
        self.spent.incr(replace(response.usage, cost=cost_of(response)))
        self.limits.check_tokens(self.spent)


budgets: ContextVar[tuple[Budget, ...]] = ContextVar("plait_usage_budgets", default=())
"""What the caller may spend, by the limits that are around it."""


class UsageLimitPrimitive(Wrapper[In, Out]):
    """Limits the requests and tokens of all the agents inside, taken together.

    The limits of one agent alone are its `limits`. What failed attempts of a retry have used counts
    here too. A resumed run counts again what its replay goes through, and so not what was spent
    in attempts and branches that had failed, nor in maps that had finished.

    Args:
        primitive: What is limited; agents may be anywhere inside.
        limits: How many requests, tokens and dollars each execution may use.

    Raises:
        UsageLimitExceeded: When executed, where a limit is reached.

    Example:
        >>> from pydantic_ai import Agent, UsageLimitExceeded, UsageLimits
        >>> from pydantic_ai.models.test import TestModel
        >>> from plait.agents import AgentPrimitive, UsageLimitPrimitive
        >>> write = AgentPrimitive(Agent(TestModel(), name="write"))
        >>> edit = AgentPrimitive(Agent(TestModel(), name="edit"))
        >>> limited = UsageLimitPrimitive(write >> edit, UsageLimits(request_limit=1))
        >>> try:
        ...     limited.run_sync("On composing")
        ... except UsageLimitExceeded as error:
        ...     print(str(error).partition(".")[0])
        The next request would exceed the request_limit of 1
    """

    def __init__(self, primitive: Operand[In, Out], limits: UsageLimits) -> None:
        super().__init__(primitive)
        self.limits = limits

    async def execute(self, input_data: In, context: WorkflowContext) -> Out:
        """Execute what is inside under a budget of its own."""
        token = budgets.set((*budgets.get(), Budget(self.limits)))
        try:
            result: Out = await self._primitive.execute(input_data, context.enter(self, 0))
        finally:
            budgets.reset(token)
        return result

    def _spec(self) -> dict[str, Any]:
        return {"primitive": self._primitive, "limits": self.limits}
