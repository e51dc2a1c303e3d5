"""The same durable run in DBOS, on the same database: `uv sync --group bench` brings it."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from dbos import DBOS, DBOSConfig, SetWorkflowID


@DBOS.step()  # type: ignore[untyped-decorator]
async def increment(number: int) -> int:
    return number + 1


@DBOS.workflow()  # type: ignore[untyped-decorator]
async def ten_steps(number: int) -> int:
    for _ in range(10):
        number = await increment(number)
    return number


def launch(file: Path | None = None, address: str = "") -> None:
    """Begin on an SQLite file, or on a PostgreSQL database."""
    config: DBOSConfig = {
        "name": "benchmark",
        "system_database_url": address if file is None else f"sqlite:///{file}",
        "log_level": "ERROR",
        "enable_otlp": False,
    }
    DBOS(config=config)
    DBOS.launch()


def close() -> None:
    DBOS.destroy()


async def run_all(runs: int, turns: int, prefix: str) -> None:
    """Run the workflow some times at once, in some turns."""

    async def run(name: str) -> None:
        with SetWorkflowID(name):
            handle = await DBOS.start_workflow_async(ten_steps, 0)
        assert await handle.get_result() == 10

    for turn in range(turns):
        await asyncio.gather(*(run(f"{prefix}-{turn}-{number}") for number in range(runs)))


def bytes_kept(file: Path) -> int:
    """How large the database is, all of it written to the file."""
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    return int(pages * size)
