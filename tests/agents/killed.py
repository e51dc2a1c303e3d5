"""A program that runs an agent durably, and may kill itself on the way.

    python killed.py JOURNAL EFFECTS [KILL]

Each request that reaches the model, and each call that reaches a tool, is a line in EFFECTS. KILL
is such a line with a sign before it: the process gets SIGKILL just before ("-") it is written, just
after ("+"), or where the next one would be ("*"). What the agents say is printed.
"""

import os
import signal
import sys

import anyio
from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel

from plait.agents import AgentPrimitive, tool
from plait.durable import DurableRunner


def effect(line):
    kill = sys.argv[3] if len(sys.argv) > 3 else " "
    last = EFFECTS[-1] if EFFECTS else None
    if kill in {f"-{line}", f"*{last}"}:
        os.kill(os.getpid(), signal.SIGKILL)
    EFFECTS.append(line)
    with open(sys.argv[2], "a") as file:  # noqa: PTH123
        file.write(f"{line}\n")
    if kill == f"+{line}":
        os.kill(os.getpid(), signal.SIGKILL)


EFFECTS = []


def research(messages, info):
    turn = sum(isinstance(message, ModelResponse) for message in messages)
    effect(f"research {turn}")
    if turn == 0:
        return ModelResponse(parts=[ToolCallPart("search", {"query": "plait"})])
    if turn == 1:
        both = [ToolCallPart("search", {"query": "braid"}), ToolCallPart("fetch", {"url": "/"})]
        return ModelResponse(parts=both)
    return ModelResponse(parts=[TextPart("two findings")])


def write(messages, info):
    effect("write")
    return ModelResponse(parts=[TextPart(f"on {messages[0].parts[0].content}")])


@tool
async def search(query: str) -> list[str]:
    effect(f"search {query}")
    return [query]


def fetch(url: str) -> str:
    effect(f"fetch {url}")
    return url


workflow = (
    AgentPrimitive(Agent(FunctionModel(research), name="research", tools=[search, fetch]))
    >> AgentPrimitive(Agent(FunctionModel(write), name="write"))
).named("report")


async def main():
    async with DurableRunner(f"sqlite:///{sys.argv[1]}", workflows=[workflow]) as runner:
        return await runner.run(workflow, "Find out.", run_id="run")


if __name__ == "__main__":
    sys.stdout.write(anyio.run(main))
