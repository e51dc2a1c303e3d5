"""What durability costs on PostgreSQL, beside DBOS on the same server in the same run."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import _dbos
from _measure import Case, medians, row
from _ten_steps import STEPS, dbos, durable, ten_steps

from plait.durable import DurableRunner, PostgresJournal

ROUNDS = 5
TURNS = {1: 20, 100: 5, 1_000: 1}
DBOS_TURNS = {1: 5, 100: 1, 1_000: 1}
BARE_STEPS = 200


def server() -> Any:
    """A server with the settings that it comes with: every commit is on disk."""
    sys.path.append(str(Path(__file__).parents[1] / "tests" / "durable"))
    module = importlib.import_module("postgres_server")
    return module.Server(("listen_addresses=", "max_connections=200"))


async def bare(address: str) -> Callable[[], Awaitable[None]]:
    """The limit of one run: a commit a step, on a connection of its own."""
    import psycopg

    connection = await psycopg.AsyncConnection.connect(address, autocommit=True)
    await connection.execute("CREATE TABLE bare (run bigint, path text, payload bytea)")

    async def insert() -> None:
        for number in range(BARE_STEPS):
            await connection.execute(
                "INSERT INTO bare VALUES (%s, %s, %s)", (number, "ten steps/1:increment", b"7")
            )

    return insert


async def throughput() -> None:
    """Steps a second."""
    database = server()
    try:
        _dbos.launch(address=database.address)
        async with DurableRunner(PostgresJournal(database.address), workflows=[ten_steps]) as own:
            cases: dict[str, Case] = {
                "bare PostgreSQL, 1 row a commit": await bare(database.address)
            }
            counts = [BARE_STEPS]
            for runs, turns in TURNS.items():
                cases[f"plait, {runs:,} run(s) at once"] = durable(own, runs, turns)
                counts.append(runs * STEPS * turns)
            peers: dict[str, Case] = {}
            for runs, turns in DBOS_TURNS.items():
                peers[f"DBOS, {runs:,} run(s) at once"] = dbos(runs, turns)
                counts.append(runs * STEPS * turns)
            # What is near to each other is measured in turns; the others take half a minute each.
            alone = "DBOS, 1 run(s) at once"
            cases[alone] = peers.pop(alone)
            seconds = await medians(cases, rounds=ROUNDS)
            seconds |= await medians(peers, rounds=1, warm_up=0)
        _dbos.close()
    finally:
        database.remove()
    rates = {name: n / s for n, (name, s) in zip(counts, seconds.items(), strict=True)}
    print(f"PostgreSQL: steps a second, median of {ROUNDS} interleaved rounds, {STEPS} steps a run")
    limit = rates["bare PostgreSQL, 1 row a commit"]
    for name, rate in rates.items():
        row(name, f"{rate:,.0f} /s", rate / limit, "bare at 1 row a commit")
    for runs in TURNS:
        ratio = rates[f"plait, {runs:,} run(s) at once"] / rates[f"DBOS, {runs:,} run(s) at once"]
        print(f"{runs:,} run(s) at once: {ratio:,.1f} times the steps of DBOS on the same server")


if __name__ == "__main__":
    asyncio.run(throughput())
