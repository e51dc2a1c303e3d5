"""A chain of LangChain's expression language, before and after.

    uv run examples/from_lcel.py

Before:

    from langchain_core.runnables import RunnableBranch, RunnableLambda, RunnableParallel

    facts = RunnableParallel(words=RunnableLambda(count), language=RunnableLambda(language_of))
    route = RunnableBranch(
        (lambda it: it["language"] == "nl", RunnableLambda(in_dutch)),
        RunnableLambda(in_english),
    )
    chain = (
        RunnableLambda(str.strip)
        | facts
        | route.with_fallbacks([RunnableLambda(apologise)])
    ).with_retry(stop_after_attempt=3)

    chain.invoke("  wie schrijft dit?  ")
    chain.batch(["one", "twee"], config={"max_concurrency": 2})

After: what is below. What to look at:

- `|` was "then" and is "at the same time" here; "then" is `>>`. `count | language_of` gives a
  tuple, whose types mypy checks; a `ParallelPrimitive` of a dict gives a dict.
- Functions need no wrapping: `str.strip >> ...` is a composition as soon as one side is a
  primitive.
- `with_retry`, `with_fallbacks` and `batch` are primitives around others: `RetryPrimitive`,
  `FallbackPrimitive`, `MapPrimitive`. So they nest in any order, and the types go through.
- `invoke` and `ainvoke` are `run_sync` and `await`. There is no config to hand down: what a run
  shares is its `WorkflowContext`.
- What LCEL has not: `DurableRunner.run(chain, text)` carries the same chain on after a crash.
"""

from __future__ import annotations

from typing import TypeAlias

import anyio

from plait import (
    ConditionalPrimitive,
    FallbackPrimitive,
    MapPrimitive,
    PermanentError,
    RetryPrimitive,
    WorkflowContext,
    step,
)
from plait.recovery import constant

busy = iter([True, False])


Facts: TypeAlias = tuple[int, str]


@step
async def count(text: str) -> int:
    if next(busy, False):
        raise ConnectionError
    return len(text.split())


@step
async def language_of(text: str) -> str:
    return "nl" if "wie" in text or "twee" in text else "en"


@step
async def in_dutch(facts: Facts) -> str:
    return f"{facts[0]} woorden"


@step
async def in_english(facts: Facts) -> str:
    if facts[0] > 3:
        raise PermanentError("too long")
    return f"{facts[0]} words"


@step
async def apologise(facts: Facts) -> str:
    return "sorry"


def is_dutch(facts: Facts, context: WorkflowContext) -> bool:
    return facts[1] == "nl"


route = ConditionalPrimitive(is_dutch, in_dutch, in_english)
chain = RetryPrimitive(
    str.strip >> (count | language_of) >> FallbackPrimitive(route, [apologise]),
    2,
    backoff=constant(0.01),
)
batch = MapPrimitive(chain, max_concurrency=2)


async def main() -> None:
    print(await chain("  wie schrijft dit?  "))
    print(await batch(["one", "twee", "a text that is too long"]))


if __name__ == "__main__":
    anyio.run(main)
