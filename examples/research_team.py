"""A team of agents researches, writes and edits, and is killed on the way: no answer is paid twice.

    uv run examples/research_team.py

The models answer in this process, so that it runs without a key, and write down each request that
reaches them. Put `"openai:gpt-5"` or any other model of pydantic-ai in their places.

What to look at:

- `article`, the work of the team as plain code: one researcher for each question, all at the same
  time, then a draft, and an editor who sends it back until it is short enough.
- `Review`, what the editor answers with: the agent's `output_type`, checked by pydantic-ai.
- `look_up` is a tool. It is an ordinary step as well: the same function could stand in a pipeline.
- The first process kills itself before the draft. The second finds the research in the journal:
  nobody's request is in the list twice.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from plait import WorkflowContext, workflow
from plait.agents import AgentPrimitive, tool
from plait.durable import DurableRunner

LIBRARY = {
    "sequence": "`a >> b` gives the output of one to the next",
    "parallel": "`a | b` gives both the same input at the same time",
}
ENOUGH_WORDS = 20


class Review(BaseModel):
    accepted: bool
    remark: str = ""


@tool
async def look_up(keyword: str) -> str:
    """Find what the library says.

    Args:
        keyword: A single word.
    """
    return LIBRARY.get(keyword, "nothing")


def text_of(message: ModelMessage) -> str:
    return str(getattr(message.parts[-1], "content", ""))


def note(line: str) -> None:
    """Write down a request; the first process ends where the writer is asked first."""
    folder = Path(sys.argv[1])
    if line.startswith("write") and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    with (folder / "requests").open("a") as file:
        file.write(f"{line}\n")


def research(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    keyword = text_of(messages[0]).split()[-1].strip("?")
    if len(messages) == 1:
        note(f"research {keyword}: look it up")
        return ModelResponse(parts=[ToolCallPart("look_up", {"keyword": keyword})])
    note(f"research {keyword}: answer")
    found = text_of(messages[-1])
    return ModelResponse(parts=[TextPart(f"{keyword.capitalize()}: {found}.")])


def write(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    task, _, text = text_of(messages[0]).partition(": ")
    if task.startswith("Shorten"):
        note("write: shorter")
        text = text.removeprefix("In short, ").replace("the same input at the same time", "one")
    else:
        note("write: draft")
        text = f"In short, {text}"
    return ModelResponse(parts=[TextPart(text)])


def edit(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    words = len(text_of(messages[0]).split())
    note(f"edit: {words} words")
    review = {"accepted": words <= ENOUGH_WORDS, "remark": "too long"}
    return ModelResponse(parts=[ToolCallPart(info.output_tools[0].name, review)])


researcher = AgentPrimitive(Agent(FunctionModel(research), name="researcher", tools=[look_up]))
writer = AgentPrimitive(Agent(FunctionModel(write), name="writer"))
editor = AgentPrimitive(Agent(FunctionModel(edit), name="editor", output_type=Review))


@workflow
async def article(keywords: list[str], context: WorkflowContext) -> str:
    findings = await context.gather(
        *(context.call_agent(researcher, f"What is a {keyword}?") for keyword in keywords)
    )
    text = await context.call_agent(writer, f"Write about: {' '.join(findings)}")
    for _ in range(3):
        review = await context.call_agent(editor, text)
        if review.accepted:
            break
        text = await context.call_agent(writer, f"Shorten, it is {review.remark}: {text}")
    return text


async def run(folder: str) -> str:
    async with DurableRunner(f"sqlite:///{folder}/runs.db", workflows=[article]) as runner:
        return await runner.run(article, list(LIBRARY), run_id="article")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, folder]
        killed = subprocess.run(command, check=False)
        print(f"The first process ended with {killed.returncode}.")
        print(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode())
        print(*sorted((Path(folder) / "requests").read_text().splitlines()), sep="\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(anyio.run(run, sys.argv[1]), end="")
    else:
        main()
