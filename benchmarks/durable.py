"""What durability costs: records a second of ten-step runs beside what SQLite itself can do.

    python benchmarks/durable.py

Every commit is fsynced (`synchronous=FULL`), for plait as for SQLite alone.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from pathlib import Path

from _measure import Case, medians, row

from plait import SequentialPrimitive, step
from plait.durable import DurableRunner

STEPS = 10
ROUNDS = 5
BARE_ROWS = {1: 1_000, 100: 50_000}


@step
async def increment(number: int) -> int:
    return number + 1


ten_steps = SequentialPrimitive[int, int]([increment] * STEPS).named("ten steps")


def bare(file: Path, rows_a_commit: int) -> Case:
    rows = [
        (number // STEPS, f"ten steps/{number % STEPS + 1}:increment", 0, b"0" * 12, b"7", None)
        for number in range(BARE_ROWS[rows_a_commit])
    ]

    async def insert() -> None:
        connection = sqlite3.connect(file, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("DROP TABLE IF EXISTS records")
        connection.execute("CREATE TABLE records (run, path, kind, digest, payload, data)")
        for start in range(0, len(rows), rows_a_commit):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)", rows[start : start + rows_a_commit]
            )
            connection.execute("COMMIT")
        connection.close()

    return insert


def durable(runner: DurableRunner, runs: int, turns: int) -> Case:
    async def run_all() -> None:
        for _ in range(turns):
            started = await asyncio.gather(*(runner.start(ten_steps, 0) for _ in range(runs)))
            for run in started:
                assert await run.result() == STEPS

    return run_all


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with DurableRunner(f"sqlite:///{folder}/runs.db", workflows=[ten_steps]) as runner:
            turns = {1: 50, 100: 5, 1_000: 1}
            cases = {
                f"bare SQLite, {rows} row(s) a commit": bare(Path(folder, f"bare{rows}.db"), rows)
                for rows in BARE_ROWS
            }
            cases |= {
                f"plait, {runs:,} run(s) at once": durable(runner, runs, turns[runs])
                for runs in turns
            }
            seconds = await medians(cases, rounds=ROUNDS)
    records = [*BARE_ROWS.values(), *(runs * STEPS * turn for runs, turn in turns.items())]
    rates = dict(
        zip(cases, (n / s for n, s in zip(records, seconds.values(), strict=True)), strict=True)
    )
    limit = rates["bare SQLite, 100 row(s) a commit"]
    print(f"records a second, median of {ROUNDS} interleaved rounds, {STEPS} steps a run")
    for name, rate in rates.items():
        row(name, f"{rate:,.0f} /s", rate / limit, "bare at 100 rows a commit")
    gain = rates["plait, 1,000 run(s) at once"] / rates["plait, 1 run(s) at once"]
    print(f"1,000 runs at once make {gain:.0f} times the records of one")


if __name__ == "__main__":
    asyncio.run(main())
