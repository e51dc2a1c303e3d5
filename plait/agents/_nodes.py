"""The nodes below an agent: its requests to a model, and its calls of tools."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, ModelRetry, ToolFailed
from pydantic_ai.messages import (
    ModelMessagesTypeAdapter,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
)

from plait.agents._telemetry import describe, describe_response
from plait.primitives import WorkflowContext, WorkflowPrimitive
from plait.primitives._context import current_context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pydantic_ai.messages import ModelMessage, ModelResponseStreamEvent
    from pydantic_ai.models import Model, ModelRequestParameters
    from pydantic_ai.settings import ModelSettings

    EventHandler: TypeAlias = Callable[
        [ModelResponseStreamEvent, WorkflowContext], Awaitable[None] | None
    ]

_TOLD_TO_THE_MODEL = (ApprovalRequired, CallDeferred, ModelRetry, ToolFailed)
"""What a tool raises to say something to the model, or to the agent, and not because it failed."""

_PART = {"timestamp": True}
_VARYING: Any = {
    "__all__": {
        "timestamp": True,
        "run_id": True,
        "conversation_id": True,
        "parts": {"__all__": _PART},
    }
}
"""What differs between two executions that say the same to a model."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a model, as pydantic-ai makes it."""

    model: Model
    messages: list[ModelMessage]
    settings: ModelSettings | None
    parameters: ModelRequestParameters

    def description(self, agent: str) -> dict[str, Any]:
        """What tells it from others: the input of its node."""
        messages = ModelMessagesTypeAdapter.dump_python(
            self.messages, mode="json", exclude=_VARYING, exclude_defaults=True
        )
        return {
            "agent": agent,
            "model": self.model.model_id,
            "messages": messages,
            "settings": {name: repr(value) for name, value in (self.settings or {}).items()},
        }


# What a node's input says is plain data, so that it can be compared, cached and shown; what is
# needed to do it is not.
pending_request: ContextVar[Request] = ContextVar("plait_model_request")
pending_call: ContextVar[Callable[[dict[str, Any]], Awaitable[Any]]] = ContextVar("plait_tool_call")


class ModelRequestPrimitive(WorkflowPrimitive[dict[str, Any], ModelResponse]):
    """Sends one request to a model.

    Args:
        on_event: Is given what is streamed; None where nobody wants it.
        streams: Whether to have the answer streamed.
    """

    _kind: ClassVar[str] = "request"

    def __init__(self, on_event: EventHandler | None, *, streams: bool) -> None:
        self._on_event = on_event
        self._streams = streams

    async def execute(self, input_data: dict[str, Any], context: WorkflowContext) -> ModelResponse:
        """Send the request that is pending."""
        request = pending_request.get()
        model = request.model
        describe(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": model.system,
                "gen_ai.request.model": model.model_name,
            }
        )
        if self._streams:
            response = await self._streamed(request, context)
        else:
            response = await model.request(request.messages, request.settings, request.parameters)
        describe_response(response, model.model_name, context)
        return response

    async def _streamed(self, request: Request, context: WorkflowContext) -> ModelResponse:
        done = 0
        async with request.model.request_stream(
            request.messages, request.settings, request.parameters
        ) as stream:
            async for event in stream:
                text = _text_of(event)
                if text:
                    done += len(text)
                    context.progress(done, message=text)
                if self._on_event is not None:
                    handled = self._on_event(event, context)
                    if handled is not None:
                        await handled
        return stream.get()


class ToolCallPrimitive(WorkflowPrimitive[dict[str, Any], Any]):
    """Calls one tool of an agent; steps that the tool calls are nodes below it.

    Args:
        tool: The tool's name.
    """

    _kind: ClassVar[str] = "tool"
    _numbers_children: ClassVar[bool] = True

    def __init__(self, tool: str) -> None:
        self.tool = tool
        self._name = f"tool {tool}"

    async def execute(self, input_data: dict[str, Any], context: WorkflowContext) -> Any:
        """Make the call that is pending.

        Returns:
            What the tool returned. What it raised where that is for the model, and no failure.
        """
        describe({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": self.tool})
        token = current_context.set(context)
        try:
            return await pending_call.get()(input_data)
        except _TOLD_TO_THE_MODEL as told:
            return told
        finally:
            current_context.reset(token)


def heard(result: Any) -> Any:
    """The result of a tool's node, raised where the tool had raised it."""
    if isinstance(result, _TOLD_TO_THE_MODEL):
        raise result
    return result


def _text_of(event: ModelResponseStreamEvent) -> str:
    match event:
        case PartStartEvent(part=TextPart(content=text)):
            return text
        case PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
            return text
        case _:
            return ""
