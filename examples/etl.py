"""Extract orders, transform them in three ways at once, load all of it or keep it for later.

    uv run examples/etl.py

Source and warehouse are SQLite databases. In the second run another program holds the warehouse.

What to look at:

- `etl`, the whole job in one line: its three transforms get the same rows and run at the same time,
  and their results are one tuple. `load` takes it by types that mypy checks at the `>>`.
- `load` is tried again while the warehouse is locked, a real `sqlite3.OperationalError`. Where that
  does not end, the fallback writes what should have gone there into a file.
- The third run is the second one's file, loaded: nothing is extracted or transformed again.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import anyio

from plait import FallbackPrimitive, RetryPrimitive, step
from plait.durable import DurableRunner
from plait.recovery import constant

ORDERS = [(1, "BE", 20.0), (2, "NL", 45.5), (3, "BE", -1.0), (4, "DE", 12.25), (5, "NL", 4.5)]


class Order(NamedTuple):
    number: int
    country: str
    total: float


class Job(NamedTuple):
    source: str
    warehouse: str


class Extracted(NamedTuple):
    job: Job
    orders: list[Order]


class Table(NamedTuple):
    warehouse: str
    name: str
    rows: list[tuple[str, float]]


@step(thread=True)
def extract(job: Job) -> Extracted:
    with closing(sqlite3.connect(job.source)) as source:
        rows = source.execute("SELECT number, country, total FROM orders ORDER BY number")
        return Extracted(job, [Order(*row) for row in rows])


@step
async def by_country(extracted: Extracted) -> Table:
    sums: defaultdict[str, float] = defaultdict(float)
    for order in extracted.orders:
        sums[order.country] += max(order.total, 0)
    return Table(extracted.job.warehouse, "by_country", sorted(sums.items()))


@step
async def largest(extracted: Extracted) -> Table:
    order = max(extracted.orders, key=lambda it: it.total)
    return Table(extracted.job.warehouse, "largest", [(str(order.number), order.total)])


@step
async def refused(extracted: Extracted) -> Table:
    rows = [(str(order.number), order.total) for order in extracted.orders if order.total < 0]
    return Table(extracted.job.warehouse, "refused", rows)


@step(thread=True)
def load(tables: tuple[Table, Table, Table]) -> str:
    with closing(sqlite3.connect(tables[0].warehouse, timeout=0.01)) as warehouse, warehouse:
        warehouse.execute("BEGIN IMMEDIATE")
        for _, name, rows in tables:
            warehouse.execute(f"CREATE TABLE IF NOT EXISTS {name} (key TEXT PRIMARY KEY, value)")
            warehouse.executemany(f"INSERT OR REPLACE INTO {name} VALUES (?, ?)", rows)
    return f"loaded {sum(len(table.rows) for table in tables)} rows"


@step(thread=True)
def keep(tables: tuple[Table, Table, Table]) -> str:
    file = Path(tables[0].warehouse).with_suffix(".pending.json")
    file.write_text(json.dumps(tables))
    return f"kept {sum(len(table.rows) for table in tables)} rows in {file.name}"


load_or_keep = FallbackPrimitive(
    RetryPrimitive(load, 2, backoff=constant(0.01), retry_on=sqlite3.OperationalError),
    [keep],
    fallback_on=sqlite3.OperationalError,
)
etl = (extract >> (by_country | largest | refused) >> load_or_keep).named("etl")


def as_tables(text: str) -> tuple[Table, Table, Table]:
    first, second, third = (
        Table(warehouse, name, [(key, value) for key, value in rows])
        for warehouse, name, rows in json.loads(text)
    )
    return first, second, third


async def main(folder: Path) -> None:
    job = Job(str(folder / "shop.db"), str(folder / "warehouse.db"))
    with closing(sqlite3.connect(job.source)) as source, source:
        source.execute("CREATE TABLE orders (number INTEGER, country TEXT, total REAL)")
        source.executemany("INSERT INTO orders VALUES (?, ?, ?)", ORDERS)
    async with DurableRunner(f"sqlite:///{folder}/runs.db", workflows=[etl]) as runner:
        print("monday:", await runner.run(etl, job, run_id="monday"))
        with closing(sqlite3.connect(job.warehouse)) as somebody_else:
            somebody_else.execute("BEGIN EXCLUSIVE")
            print("tuesday:", await runner.run(etl, job, run_id="tuesday"))
    kept = (folder / "warehouse.pending.json").read_text()
    print("tuesday, again:", await load_or_keep(as_tables(kept)))
    with closing(sqlite3.connect(job.warehouse)) as warehouse:
        print(dict(warehouse.execute("SELECT key, value FROM by_country")))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(main, Path(folder))
