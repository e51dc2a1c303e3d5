"""Do several things at the same time: some of them may fail, and some depend on the input.

    uv run examples/fan_out.py

Three of AGNT5's documented patterns, written with plait.

What to look at:

- `notify` isolates failures: with `errors="collect"` each channel's result is a `Success` or a
  `Failure`, and one that is down takes none of the others with it.
- `research` fans out to three sources and in again. `write_brief` takes what the three return: had
  it other types, mypy and pyright would refuse the `>>`.
- `assess` decides while it runs which checks a loan needs. The futures in its list run at the same
  time once `decide` is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import anyio

from plait import Outcome, ParallelPrimitive, Success, step, workflow

# Failure isolation.


@step
async def send_mail(message: str) -> str:
    return f"mailed {message!r}"


@step
async def send_text(message: str) -> str:
    raise ConnectionError("the gateway is down")


@step
async def post_to_chat(message: str) -> str:
    await anyio.sleep(0.01)
    return f"posted {message!r}"


@step
def summarize(sent: dict[str, Outcome[str]]) -> dict[str, str]:
    return {
        channel: outcome.value if isinstance(outcome, Success) else f"failed: {outcome.error}"
        for channel, outcome in sent.items()
    }


channels = {"mail": send_mail, "text": send_text, "chat": post_to_chat}
notify = (ParallelPrimitive(channels, errors="collect") >> summarize).named("notify")


# Fan-out and fan-in.


@step
async def search_papers(topic: str) -> list[str]:
    await anyio.sleep(0.01)
    return [f"On {topic}", f"{topic.title()} revisited"]


@step
async def search_news(topic: str) -> str:
    return f"{topic.title()} in the news"


@step
async def count_mentions(topic: str) -> int:
    return 100 * len(topic)


@step
def write_brief(found: tuple[list[str], str, int]) -> str:
    papers, news, mentions = found
    return f"{len(papers)} papers, {news!r}, {mentions} mentions"


research = ((search_papers | search_news | count_mentions) >> write_brief).named("research")


# Conditional parallel steps.


@dataclass(frozen=True)
class Loan:
    amount: int
    is_secured: bool = False


@step
async def check_credit(loan: Loan) -> str | None:
    return None if loan.amount < 50_000 else "asks for too much"


@step
async def check_income(loan: Loan, *, months: int) -> str | None:
    return None if loan.amount < 1_000 * months else f"needs more than {months} months' income"


@step
async def value_security(_: Loan) -> str | None:
    return None


@step
def decide(objections: list[str | None]) -> str:
    made = [objection for objection in objections if objection]
    return f"{'declined' if made else 'granted'} after {len(objections)} checks: {made}"


@workflow
async def assess(loan: Loan) -> str:
    checks = [check_credit.future(loan)]
    if loan.amount > 10_000:
        checks.append(check_income.future(loan, months=24))
    if loan.is_secured:
        checks.append(value_security.future(loan))
    return await decide.future(checks)


async def main() -> None:
    for channel, what in (await notify("all is well")).items():
        print(f"notify {channel}: {what}")
    print(f"research: {await research('plaiting')}")
    for loan in (Loan(5_000), Loan(30_000), Loan(20_000, is_secured=True)):
        print(f"assess {loan}: {await assess(loan)}")


if __name__ == "__main__":
    anyio.run(main)
