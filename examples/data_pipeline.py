"""Extract, transform and load sales, with one object for each market.

    uv run examples/data_pipeline.py

AGNT5's class-based data pipeline, written with plait.

What to look at:

- `SalesPipeline` is an ordinary class. Its methods are steps and its `run` is a workflow, so what
  the object was made with, here a rate and a warehouse, is at hand in each of them.
- `self.read >> clean_all`: a method composes like any other step. `__init__` puts them together
  once, with what they are to be wrapped in.
- `read` blocks, as drivers and parsers do, and so it runs in a thread. `clean` is called for each
  row and may refuse one. `write` is tried again when the warehouse is busy.
- The two markets are two workflows to the runner: each has a name of its own.
"""

from __future__ import annotations

import csv
import tempfile
from dataclasses import dataclass, field

import anyio

from plait import MapPrimitive, Outcome, RetryPrimitive, Success, WorkflowContext, step, workflow
from plait.durable import DurableRunner
from plait.recovery import constant

SALES = {
    "europe": "id,product,price\n1,Tea,3.50\n2,Bread,2.00\n3,Honey,n/a\n",
    "japan": "id,product,price\n7,Tea,600\n8,Rice,1200\n",
}


@dataclass(frozen=True)
class Sale:
    number: int
    product: str
    cents: int


@dataclass(frozen=True)
class Report:
    market: str
    loaded: int
    cents: int
    refused: list[str]


@dataclass
class Warehouse:
    rows: dict[int, Sale] = field(default_factory=dict[int, Sale])


class SalesPipeline:
    def __init__(self, market: str, *, cents: float, warehouse: Warehouse) -> None:
        self.market = market
        self.cents = cents
        self.warehouse = warehouse
        clean_all = MapPrimitive(self.clean, max_concurrency=10, errors="collect")
        self.extract = self.read >> clean_all
        self.load = RetryPrimitive(self.write, 2, backoff=constant(0.01))

    @step(thread=True)
    def read(self, text: str) -> list[dict[str, str]]:
        return list(csv.DictReader(text.splitlines()))

    @step
    def clean(self, row: dict[str, str]) -> Sale:
        cents = round(float(row["price"]) * self.cents)
        return Sale(int(row["id"]), row["product"].lower(), cents)

    @step
    async def write(self, sales: list[Sale], context: WorkflowContext) -> int:
        if context.attempt == 1:
            raise ConnectionError("the warehouse is busy")
        # By number: a row that is written twice is there once.
        self.warehouse.rows.update({sale.number: sale for sale in sales})
        return len(sales)

    @workflow
    async def run(self, text: str) -> Report:
        cleaned = await self.extract(text)
        sales = [outcome.value for outcome in cleaned if isinstance(outcome, Success)]
        loaded = await self.load(sales)
        cents = sum(sale.cents for sale in sales)
        return Report(self.market, loaded, cents, refusals(cleaned))


def refusals(cleaned: list[Outcome[Sale]]) -> list[str]:
    return [str(outcome.error) for outcome in cleaned if not isinstance(outcome, Success)]


async def main() -> None:
    warehouse = Warehouse()
    markets = {
        "europe": SalesPipeline("europe", cents=100, warehouse=warehouse),
        "japan": SalesPipeline("japan", cents=0.6, warehouse=warehouse),
    }
    for market, pipeline in markets.items():
        print(f"in process: {await pipeline.run(SALES[market])}")

    workflows = {market: each.run.named(f"sales-{market}") for market, each in markets.items()}
    with tempfile.TemporaryDirectory() as folder:
        journal = f"sqlite:///{folder}/runs.db"
        async with DurableRunner(journal, workflows=[*workflows.values()]) as runner:
            for market, sales in workflows.items():
                report = await runner.run(sales, SALES[market], run_id=f"{market}-today")
                print(f"durably:    {report}")
    print(f"in the warehouse: {[sale.product for sale in warehouse.rows.values()]}")


if __name__ == "__main__":
    anyio.run(main)
