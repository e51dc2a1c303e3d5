"""Describe calls before they are made, and let plait find out what can run at the same time.

    uv run examples/call_graphs.py

These are the workflows by which Tensorlake documents its call graphs, written with plait.

What to look at:

- `enrich_record` describes three calls and makes none. What it returns is a tail call: it has ended
  before the two fetches run, side by side, and `merge` once both are there.
- `process_batch` maps it over many records and folds what comes out into one summary, in the order
  of the records. All of the fetches are under way together: see the time that it takes.
- `sum_squares` folds into a model that each call changes and hands on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import anyio
from pydantic import BaseModel

from plait import Future, step

LATENCY = 0.02


# enrich_record: two fetches side by side, then a merge.


@dataclass(frozen=True)
class Profile:
    name: str
    tier: str


@dataclass(frozen=True)
class Record:
    name: str
    tier: str
    spent: int


@step
async def fetch_profile(record_id: str) -> Profile:
    await anyio.sleep(LATENCY)
    return Profile(record_id.title(), "gold" if record_id < "d" else "basic")


@step
async def fetch_history(record_id: str) -> list[int]:
    await anyio.sleep(LATENCY)
    return [10 * position for position, _ in enumerate(record_id, 1)]


@step
def merge(profile: Profile, history: list[int]) -> Record:
    return Record(profile.name, profile.tier, sum(history))


@step
def enrich_record(record_id: str) -> Future[Record]:
    return merge.future(fetch_profile.future(record_id), fetch_history.future(record_id))


# process_batch: the same for many, folded into one.


@dataclass(frozen=True)
class Summary:
    records: int = 0
    spent_by_tier: dict[str, int] = field(default_factory=dict[str, int])


@step
def add_record(summary: Summary, record: Record) -> Summary:
    spent = summary.spent_by_tier.get(record.tier, 0) + record.spent
    return Summary(summary.records + 1, summary.spent_by_tier | {record.tier: spent})


@step
def process_batch(record_ids: list[str]) -> Future[Summary]:
    return add_record.reduce(enrich_record.map(record_ids), Summary())


# sum_squares: an accumulator.


class Total(BaseModel):
    value: int = 0


@step
def square(number: int) -> int:
    return number**2


@step
def accumulate(total: Total, number: int) -> Total:
    total.value += number
    return total


@step
def sum_squares(count: int) -> Future[Total]:
    return accumulate.reduce(square.map(list(range(count))), Total())


async def main() -> None:
    print(f"enrich_record: {await enrich_record('ada')}")

    started = time.perf_counter()
    summary = await process_batch(["ada", "bob", "carol", "dave", "erin"])
    took = time.perf_counter() - started
    print(f"process_batch: {summary}")
    print(f"  10 fetches of {LATENCY} s in {took:.2f} s")

    print(f"sum_squares:   {await sum_squares(10)}")


if __name__ == "__main__":
    anyio.run(main)
