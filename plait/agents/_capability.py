"""How an agent is made to execute its requests and its tools as nodes of a run."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.durable_exec import conversation_id_from_run_id
from pydantic_ai.models import CompletedStreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.toolsets import WrapperToolset

from plait.agents._approvals import decided
from plait.agents._limits import budgets
from plait.agents._nodes import Request, heard, pending_call, pending_request

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from pydantic_ai import RunContext
    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
    from pydantic_ai.settings import ModelSettings
    from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults
    from pydantic_ai.toolsets import AbstractToolset, ToolsetTool

    from plait.primitives import WorkflowContext, WorkflowPrimitive


@dataclass(frozen=True, slots=True)
class Place:
    """Where an agent is executed, and what executes what is below it.

    Attributes:
        agent: The agent's name.
        context: The agent's node.
        requests: Sends requests to models.
        tool: Gives what calls the tool of a name.
        approvals: The event that tells what waits for approval.
        approval_timeout: How long to wait for one, in seconds.
    """

    agent: str
    context: WorkflowContext
    requests: WorkflowPrimitive[dict[str, Any], ModelResponse]
    tool: Callable[[str], WorkflowPrimitive[dict[str, Any], Any]]
    approvals: str
    approval_timeout: float | None


class Nodes(AbstractCapability[Any]):
    """Executes the requests and the tool calls of one run of an agent as nodes.

    Args:
        place: Where.
    """

    def __init__(self, place: Place) -> None:
        self._place = place

    def get_default_run_id(self) -> str:
        """The same whenever the node is executed."""
        return self._place.context.idempotency_key

    def get_default_conversation_id(self, run_id: str) -> str:
        """The same whenever the node is executed."""
        return conversation_id_from_run_id(run_id)

    def get_wrapper_model(self, model: Model) -> Model:
        """The model with each request as a node."""
        return NodeModel(model, self._place)

    def get_wrapper_toolset(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any]:
        """The tools with each call as a node."""
        return NodeToolset(toolset, self._place)

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[Any], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        """Wait for the approval of calls that need one."""
        if not requests.approvals:
            return None
        place = self._place
        return await decided(requests, place.approvals, place.approval_timeout, place.context)


class NodeModel(WrapperModel):
    """A model whose requests are nodes.

    Args:
        wrapped: The model.
        place: Where they are.
    """

    def __init__(self, wrapped: Model, place: Place) -> None:
        super().__init__(wrapped)
        self._place = place

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Send a request, unless its answer is recorded."""
        request = Request(self.wrapped, messages, model_settings, model_request_parameters)
        around = budgets.get()
        for budget in around:
            budget.check_request()
        token = pending_request.set(request)
        try:
            place = self._place
            description = request.description(place.agent)
            response = await place.requests.execute(description, place.context)
        finally:
            pending_request.reset(token)
        for budget in around:
            budget.add_response(response)
        return response

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """The same for an agent that has a handler of events: it is given them afterwards."""
        response = await self.request(messages, model_settings, model_request_parameters)
        yield CompletedStreamedResponse(
            response, model_request_parameters=model_request_parameters, replay_events=True
        )


@dataclass
class NodeToolset(WrapperToolset[Any]):
    """Tools whose calls are nodes."""

    place: Place

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        """Call a tool, unless its result is recorded."""

        async def call(arguments: dict[str, Any]) -> Any:
            return await self.wrapped.call_tool(name, arguments, ctx, tool)

        token = pending_call.set(call)
        try:
            return heard(await self.place.tool(name).execute(tool_args, self.place.context))
        finally:
            pending_call.reset(token)
