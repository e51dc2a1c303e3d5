"""Agents and tools are typed all through; read by mypy and basedpyright, never run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, assert_type

from pydantic_ai import Agent, Tool, UsageLimits
from pydantic_ai.messages import UserContent

from plait import RetryPrimitive, SequentialPrimitive, WorkflowContext, workflow
from plait.agents import AgentPrimitive, ToolStep, UsageLimitPrimitive, as_tool, tool


@dataclass
class City:
    name: str


@dataclass
class Deps:
    user: str


@tool
async def population(city: str, context: WorkflowContext, year: int = 2026) -> int:
    return year


@tool(name="now")
def noon() -> str:
    return "noon"


@tool
def area(city: str) -> float:
    return 1.0


plain = Agent("test", name="plain", tools=[population, area])
typed = Agent("test", name="typed", output_type=City, deps_type=Deps)

assert_type(AgentPrimitive(plain), AgentPrimitive[str | Sequence[UserContent], str])
assert_type(
    AgentPrimitive(typed, deps=Deps("ada")), AgentPrimitive[str | Sequence[UserContent], City]
)
AgentPrimitive(typed, deps=lambda context: Deps(context.run_id), limits=UsageLimits())
AgentPrimitive(typed, deps=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
AgentPrimitive(typed)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
AgentPrimitive(plain, limit=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


def ask(city: City) -> str:
    return city.name


city = AgentPrimitive(typed, deps=Deps("ada"))
described = AgentPrimitive(plain, prompt=ask)
assert_type(described, AgentPrimitive[City, str])
assert_type(city >> described, SequentialPrimitive[str | Sequence[UserContent], str])
assert_type(
    UsageLimitPrimitive(city >> described, UsageLimits()),
    UsageLimitPrimitive[str | Sequence[UserContent], str],
)
described >> described  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
AgentPrimitive(plain, around_request=lambda request: RetryPrimitive(request, 3))

assert_type(area, ToolStep[str, [], float])
assert_type(as_tool(RetryPrimitive(area)), Tool[Any])


@workflow
async def calls(name: str, context: WorkflowContext) -> City:
    assert_type(await population(name, year=1), int)
    assert_type(await context.call_agent(plain, name), str)
    assert_type(await context.call_agent(described, City(name)), str)
    return await context.call_agent(typed, name, deps=Deps(name))
