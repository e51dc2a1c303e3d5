"""Ask several providers of language models, each for what it is good at, and stay in the budget.

    uv run examples/providers.py

The three models answer in this process, so that it runs without a key; put `"openai:gpt-5"`,
`"anthropic:claude-sonnet-4-5"` or any other of pydantic-ai in their places.

What to look at:

- `ask` routes by the question: short ones go to the cheap model, long ones to the strong one.
- `reliable`: the provider asks for patience (429), and the request is sent again after as long as
  it says. One that stays down is given up, and the fallback answers.
- `within_budget`: all the agents inside of it spend one budget. What it no longer allows fails, and
  what was answered before is kept.
"""

from __future__ import annotations

import itertools
from decimal import Decimal

import anyio
from pydantic_ai import Agent, ModelHTTPError, UsageLimits
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from plait import (
    FallbackPrimitive,
    MapPrimitive,
    RetryPrimitive,
    RouterPrimitive,
    Success,
    WorkflowContext,
)
from plait.agents import AgentPrimitive, UsageLimitPrimitive, is_transient

BUDGET = Decimal("0.10")


def provider(name: str, cost: str, *, fails: int = 0) -> FunctionModel:
    """A model whose first requests fail."""
    requests = itertools.count(1)

    def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if next(requests) <= fails:
            raise ModelHTTPError(429, name, retry_after=0.01)
        usage = RequestUsage(input_tokens=20, output_tokens=5, cost=Decimal(cost))
        return ModelResponse(parts=[TextPart(f"answer of {name}")], usage=usage)

    return FunctionModel(respond, model_name=name)


def reliable(name: str, model: FunctionModel) -> AgentPrimitive[str, str]:
    return AgentPrimitive(
        Agent(model, name=name),
        prompt=str.strip,
        around_request=lambda request: RetryPrimitive(request, 2, retry_on=is_transient),
    )


cheap = reliable("cheap", provider("small", "0.01", fails=1))
strong = reliable("strong", provider("large", "0.04", fails=100))
spare = reliable("spare", provider("spare", "0.03"))


def size_of(question: str, context: WorkflowContext) -> str:
    return "long" if len(question) > 40 else "short"


ask = RouterPrimitive({"short": cheap, "long": FallbackPrimitive(strong, [spare])}, size_of)
within_budget = UsageLimitPrimitive(
    MapPrimitive(ask, max_concurrency=1, errors="collect"), UsageLimits(cost_limit=BUDGET)
)

QUESTIONS = [
    "What is two and two?",
    "Why is it that the sky of a summer's day is blue?",
    "Who wrote Faust?",
    "Compare how Temporal and DBOS carry a workflow on.",
    "Explain in your own words what a monad is, and why.",
    "What is the capital of Peru?",
    "Where is Ghent?",
]


async def main() -> None:
    for question, outcome in zip(QUESTIONS, await within_budget(QUESTIONS), strict=True):
        if isinstance(outcome, Success):
            print(f"{question:<52} {outcome.value}")
        else:
            print(f"{question:<52} {type(outcome.error).__name__}")


if __name__ == "__main__":
    anyio.run(main)
