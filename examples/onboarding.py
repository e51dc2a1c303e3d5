"""Onboard people: a workflow of workflows, each with steps and workflows of its own.

    uv run examples/onboarding.py

AGNT5's hierarchical onboarding, written with plait.

What to look at:

- `onboard` calls other workflows as it calls steps. What has no need of each other is described as
  futures, and runs at the same time: accounts, equipment and training.
- The children are of all kinds: `set_up_accounts` a function with a loop, `equip` a pipeline, and
  `plan_training` a function that calls another workflow for some. `onboard` can't tell.
- The paths that are printed: each step knows its place in the whole tree.
- `context.data` belongs to the whole run. Every step ticks itself off there, however deep it is.
- A failure deep inside says where it happened, and ends what was still under way beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import anyio

from plait import PermanentError, WorkflowContext, step, workflow

SYSTEMS = {
    "engineer": ["mail", "code", "vpn"],
    "designer": ["mail", "files"],
    "pilot": ["mail", "cockpit"],
}


@dataclass(frozen=True)
class Hire:
    name: str
    role: str
    leads: bool = False


@dataclass(frozen=True)
class Laptop:
    owner: str
    model: str
    software: tuple[str, ...] = ()


def tick_off(context: WorkflowContext) -> None:
    context.data.setdefault("done", []).append(context.path)


# Accounts: a loop.


@step
async def create_account(context: WorkflowContext, name: str, system: str) -> str:
    if system == "cockpit":
        raise PermanentError(f"there are no accounts for the {system}")
    await anyio.sleep(0.01)
    tick_off(context)
    return f"{name.lower()}@{system}"


@workflow
async def set_up_accounts(context: WorkflowContext, hire: Hire) -> list[str]:
    calls = [create_account(hire.name, system) for system in SYSTEMS[hire.role]]
    return await context.gather(*calls)


# Equipment: a pipeline.


@step
async def order_laptop(context: WorkflowContext, hire: Hire) -> Laptop:
    await anyio.sleep(0.02)
    tick_off(context)
    return Laptop(hire.name, "workstation" if hire.role == "engineer" else "light")


@step
async def install_software(context: WorkflowContext, laptop: Laptop) -> Laptop:
    tick_off(context)
    return Laptop(laptop.owner, laptop.model, ("office", "chat"))


equip = (order_laptop >> install_software).named("equip")


# Training: a workflow that calls another one.


@step
async def book_course(context: WorkflowContext, name: str, topic: str) -> str:
    tick_off(context)
    return topic


@workflow
async def train_lead(hire: Hire) -> list[str]:
    return [await book_course(hire.name, topic) for topic in ("hiring", "feedback")]


@workflow
async def plan_training(hire: Hire) -> list[str]:
    courses = [await book_course(hire.name, "security")]
    return courses + (await train_lead(hire) if hire.leads else [])


@step
async def welcome(
    context: WorkflowContext, hire: Hire, accounts: list[str], laptop: Laptop, courses: list[str]
) -> str:
    tick_off(context)
    return f"Welcome {hire.name}! {accounts}, a {laptop.model} laptop, courses: {courses}"


@workflow
async def onboard(hire: Hire) -> str:
    accounts = set_up_accounts.future(hire)
    laptop = equip.future(hire)
    courses = plan_training.future(hire)
    return await welcome.future(hire, accounts, laptop, courses)


async def main() -> None:
    for hire in (Hire("Ada", "engineer", leads=True), Hire("Bob", "designer"), Hire("Cy", "pilot")):
        context = WorkflowContext()
        try:
            print(await onboard.execute(hire, context))
            print("", *sorted(context.data["done"]), sep="\n  ")
        except PermanentError as error:
            print(f"{hire.name} waits: {error}\n  {error.__notes__[0]}")


if __name__ == "__main__":
    anyio.run(main)
