"""An agent as a primitive."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypedDict, TypeVar, overload

from pydantic_ai.agent import AbstractAgent

from plait.agents._capability import Nodes, Place
from plait.agents._nodes import ModelRequestPrimitive, ToolCallPrimitive
from plait.agents._telemetry import describe
from plait.primitives._base import In, Out, WorkflowPrimitive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Unpack

    from pydantic_ai.messages import ModelResponse, UserContent
    from pydantic_ai.models import Model
    from pydantic_ai.settings import ModelSettings
    from pydantic_ai.usage import UsageLimits

    from plait.agents._nodes import EventHandler
    from plait.primitives import WorkflowContext

    Prompt: TypeAlias = str | Sequence[UserContent]
    Requests: TypeAlias = WorkflowPrimitive[dict[str, Any], ModelResponse]
    Calls: TypeAlias = WorkflowPrimitive[dict[str, Any], Any]

T = TypeVar("T")
Deps = TypeVar("Deps")


class AgentOptions(TypedDict, total=False):
    """What an `AgentPrimitive` takes by keyword, whatever the types of its agent."""

    name: str | None
    model: Model | str | None
    model_settings: ModelSettings | None
    limits: UsageLimits | None
    history: str | None
    around_request: Callable[[Requests], Requests] | None
    around_tool: Callable[[Calls], Calls] | None
    stream: bool
    on_event: EventHandler | None
    approvals: str
    approval_timeout: float | None


class AgentPrimitive(WorkflowPrimitive[In, Out]):
    """Runs an agent of pydantic-ai; its result is the agent's output.

    Below it, each request to a model is a node `1:request`, and each call of a tool a node
    `2:tool search`. A durable run records them, so one that is killed does not pay again for what
    was answered. What the agent does by itself, such as instructions, validators and
    output functions, is done again when a run is resumed: it must come out the same, and have no
    effects. `deps` made of the context can give it the run's `now()`.

    Agents need asyncio, which pydantic-ai is written for.

    Args:
        agent: The agent, which has a name.
        deps: What its tools and instructions depend on, or a function that makes it of the context.
        prompt: Makes the prompt of the input, where that is not the prompt itself.
        name: Its name in paths and traces; the agent's own where none is given.
        model: The model, in place of the agent's own.
        model_settings: Settings that go before the agent's own.
        limits: How many requests, tool calls and tokens each execution may take.
        history: The key in `context.data` under which the conversation is kept: agents with the
            same one go on with each other's.
        around_request: Puts wrappers around each request to a model, such as a retry.
        around_tool: Puts wrappers around each call of a tool.
        stream: Whether to have answers streamed; the text is then reported as progress.
        on_event: Is given what is streamed and the context; such answers are streamed. What a
            resumed run finds recorded is not streamed again.
        approvals: The event in which a run tells what waits for approval. Agents of one run that
            may wait at the same time have one each.
        approval_timeout: How long a call that needs approval waits for it, in seconds; refused
            then. None for as long as it takes.

    Raises:
        TypeError: The agent is not one.
        ValueError: It has no name, or the timeout is not positive.

    Example:
        >>> from pydantic_ai import Agent
        >>> from pydantic_ai.models.test import TestModel
        >>> from plait.agents import AgentPrimitive
        >>> writer = Agent(TestModel(custom_output_text="plait composes"), name="writer")
        >>> workflow = AgentPrimitive(writer) >> str.upper
        >>> workflow.run_sync("Say in two words what plait does.")
        'PLAIT COMPOSES'
    """

    _kind: ClassVar[str] = "agent"
    _is_leaf: ClassVar[bool] = False
    _numbers_children: ClassVar[bool] = True

    @overload
    def __init__(
        self: AgentPrimitive[Prompt, T],
        agent: AbstractAgent[None, T],
        **options: Unpack[AgentOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: AgentPrimitive[Prompt, T],
        agent: AbstractAgent[Deps, T],
        *,
        deps: Deps | Callable[[WorkflowContext], Deps],
        **options: Unpack[AgentOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        agent: AbstractAgent[None, Out],
        *,
        prompt: Callable[[In], Prompt],
        **options: Unpack[AgentOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        agent: AbstractAgent[Deps, Out],
        *,
        deps: Deps | Callable[[WorkflowContext], Deps],
        prompt: Callable[[In], Prompt],
        **options: Unpack[AgentOptions],
    ) -> None: ...
    def __init__(
        self,
        agent: AbstractAgent[Any, Any],
        *,
        deps: Any = None,
        prompt: Callable[[Any], Prompt] | None = None,
        name: str | None = None,
        model: Model | str | None = None,
        model_settings: ModelSettings | None = None,
        limits: UsageLimits | None = None,
        history: str | None = None,
        around_request: Callable[[Requests], Requests] | None = None,
        around_tool: Callable[[Calls], Calls] | None = None,
        stream: bool = False,
        on_event: EventHandler | None = None,
        approvals: str = "approvals",
        approval_timeout: float | None = None,
    ) -> None:
        if not isinstance(agent, AbstractAgent):
            msg = f"agent={agent!r} ({type(agent).__name__}) is not an agent of pydantic-ai"
            raise TypeError(msg)
        self._name = name or agent.name
        if not self._name:
            msg = "the agent has no name, which paths and journals know it by: Agent(..., name=...)"
            raise ValueError(msg)
        if approval_timeout is not None and not approval_timeout > 0:
            msg = f"approval_timeout={approval_timeout!r} of {self._name!r} must be positive"
            raise ValueError(msg)
        self.agent = agent
        self._deps = deps
        self._prompt = prompt
        self._settings: dict[str, Any] = {
            "model": model,
            "model_settings": model_settings,
            "usage_limits": limits,
        }
        self._history = history
        self._around_tool = around_tool
        self._approvals = approvals
        self._approval_timeout = approval_timeout
        request = ModelRequestPrimitive(on_event, streams=stream or on_event is not None)
        self._requests = request if around_request is None else around_request(request)
        self._tools: dict[str, Calls] = {}

    async def execute(self, input_data: In, context: WorkflowContext) -> Out:
        """Run the agent with a prompt."""
        _refuse_other_loops()
        prompt: Any = input_data if self._prompt is None else self._prompt(input_data)
        describe(
            {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": self.agent.name or ""}
        )
        place = Place(
            agent=self.name,
            context=context,
            requests=self._requests,
            tool=self._tool,
            approvals=self._approvals,
            approval_timeout=self._approval_timeout,
        )
        result = await self.agent.run(
            prompt,
            deps=self._deps(context) if inspect.isroutine(self._deps) else self._deps,
            message_history=None if self._history is None else context.data.get(self._history),
            capabilities=[Nodes(place)],
            **self._settings,
        )
        describe({**result.usage.opentelemetry_attributes()})
        if self._history is not None:
            context.data[self._history] = result.all_messages()
        output: Out = result.output
        return output

    def _tool(self, name: str) -> Calls:
        """What calls the tool of that name: one primitive each, so that wrappers can keep count."""
        if name not in self._tools:
            call = ToolCallPrimitive(name)
            self._tools[name] = call if self._around_tool is None else self._around_tool(call)
        return self._tools[name]


def _refuse_other_loops() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        msg = "pydantic-ai runs its agents on asyncio only; run the workflow with it"
        raise RuntimeError(msg) from None
