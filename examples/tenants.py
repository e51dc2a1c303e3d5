"""Serve many tenants fairly: each has a rate of its own, and all share what the machine has.

    uv run examples/tenants.py

A minute passes in virtual time.

What to look at:

- `serve`, from the outside in: at most four calls at once for everybody, six a minute for each
  tenant, three of them at once after a pause.
- A tenant that asks too much waits; where the wait would be longer than 25 seconds it is told at
  once, by a `RejectedError` that says when to come back (`retry_after`, what HTTP calls 429).
- The noisy tenant does not delay the quiet one: each key has a line of its own.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import anyio

from plait import (
    ConcurrencyLimitPrimitive,
    Failure,
    MapPrimitive,
    RateLimitPrimitive,
    RejectedError,
    WorkflowContext,
    step,
)
from plait.testing import VirtualClock


@dataclass(frozen=True)
class Call:
    tenant: str
    number: int


served: dict[str, list[int]] = defaultdict(list)


@step
async def answer(call: Call, context: WorkflowContext) -> str:
    await context.sleep(0.5)
    served[call.tenant].append(round(context.time() - context.data["began"]))
    return f"{call.tenant} {call.number}"


serve = ConcurrencyLimitPrimitive(
    RateLimitPrimitive(answer, 6, per=60, burst=3, max_wait=25, key=lambda call: call.tenant),
    4,
)
CALLS = [Call("noisy", n) for n in range(9)] + [Call("quiet", n) for n in range(3)]


async def main() -> None:
    async with VirtualClock():
        context = WorkflowContext()
        context.data["began"] = context.time()
        everything = MapPrimitive(serve, errors="collect")
        outcomes = await everything.execute(CALLS, context)
        for tenant, seconds in served.items():
            print(f"{tenant}: served after {seconds} s")
        for call, outcome in zip(CALLS, outcomes, strict=True):
            if isinstance(outcome, Failure) and isinstance(outcome.error, RejectedError):
                wait = outcome.error.retry_after
                print(f"{call.tenant} {call.number}: come back in {wait:.0f} s")


if __name__ == "__main__":
    anyio.run(main)
