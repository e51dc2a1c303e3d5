"""Import rows a hundred at a time, and go on in the batch where the disk was full.

    uv run examples/batches.py

AGNT5's batch processing, written with plait.

What to look at:

- `import_rows` is a loop. The rows of a batch are parsed at the same time and saved together; only
  then comes the next batch.
- `parse_each` collects: a row that is no number is a `Failure` among its batch's results, and the
  others of its batch are saved.
- The disk is full in the third batch, and that fails the run. `run.resume()` carries it on: see
  how many steps it finds done, and that no batch is saved twice.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field

import anyio

from plait import Failure, MapPrimitive, Success, step, workflow
from plait.durable import DurableRunner

BATCH = 100


@dataclass
class Imported:
    rows: int = 0
    batches: int = 0
    rejected: list[str] = field(default_factory=list[str])


@dataclass
class Disk:
    """Where the rows go: a service that the journal knows nothing of."""

    room: int
    saved: list[int] = field(default_factory=list[int])


disk = Disk(room=250)


@step
async def parse(row: str) -> int:
    return int(row)


@step
async def save(numbers: list[int]) -> int:
    await anyio.sleep(0.01)
    if len(disk.saved) + len(numbers) > disk.room:
        raise OSError(f"no room for {len(numbers)} rows, {len(disk.saved)} are saved")
    disk.saved += numbers
    return len(numbers)


parse_each = MapPrimitive(parse, errors="collect")


@workflow
async def import_rows(rows: list[str]) -> Imported:
    imported = Imported()
    for start in range(0, len(rows), BATCH):
        outcomes = await parse_each(rows[start : start + BATCH])
        numbers = [outcome.value for outcome in outcomes if isinstance(outcome, Success)]
        imported.rejected += [str(each.error) for each in outcomes if isinstance(each, Failure)]
        imported.rows += await save(numbers)
        imported.batches += 1
    return imported


def make_rows(count: int) -> list[str]:
    return [str(number) if number % 150 else f"row {number}" for number in range(1, count + 1)]


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with DurableRunner(f"sqlite:///{folder}/runs.db", workflows=[import_rows]) as runner:
            run = await runner.start(import_rows, make_rows(450), run_id="monday")
            try:
                await run.result()
            except OSError as error:
                print(f"failed: {error}\n  {error.__notes__[0]}")
            disk.room = 1_000
            run = await run.resume()
            imported = await run.result()
    print(f"resumed: {run.replayed} steps found done, {run.executed} executed")
    print(f"imported {imported.rows} rows in {imported.batches} batches; rejected:")
    print(*imported.rejected, sep="\n")
    print(f"on disk: {len(disk.saved)} rows, {len(set(disk.saved))} of them different")


if __name__ == "__main__":
    anyio.run(main)
