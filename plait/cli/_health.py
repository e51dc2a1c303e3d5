"""What `plait doctor` finds wrong with a journal, and what is in it; nothing is written."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import anyio

from plait.cli._asking import ask
from plait.cli._loading import found_journal
from plait.durable import PostgresJournal

if TYPE_CHECKING:
    from pathlib import Path

    from plait.cli._output import Output
    from plait.durable._client import RunClient


def health_of(journal: str) -> dict[str, Any]:
    """What a journal is found to be.

    Raises:
        CommandError: There is none.
        JournalError: Its server cannot be asked.
    """
    found = found_journal(journal)
    if isinstance(found, PostgresJournal):
        return anyio.run(_of_a_server, found)
    return _of_a_file(found, journal)


def tell_health(health: dict[str, Any], printed: Output) -> None:
    """Print what was found."""
    runs = ", ".join(f"{count} {status}" for status, count in sorted(health["runs"].items()))
    told = f"{health['name']}: {health['bytes']:,} bytes, {runs or 'no runs'}"
    if "server" in health:
        told += f", {health['workers']} workers; PostgreSQL {health['server']}"
    printed.text(told)
    for problem in health["problems"]:
        printed.out.print(problem, markup=False, style="red")


async def _of_a_server(journal: PostgresJournal) -> dict[str, Any]:
    found = await journal.examine()
    return {
        "name": journal.name,
        "bytes": found.bytes,
        "problems": list(found.problems),
        "runs": dict(found.runs),
        "server": found.server,
        "workers": found.workers,
    }


def _of_a_file(file: Path, journal: str) -> dict[str, Any]:
    problems: list[str] = []
    counts: dict[str, int] = {}
    try:
        connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
        try:
            checked = connection.execute("PRAGMA quick_check").fetchall()
            problems = [row[0] for row in checked if row[0] != "ok"]
        finally:
            connection.close()
        counts = {} if problems else ask(_counts, journal)
    except sqlite3.DatabaseError as error:
        problems = [str(error)]
    return {
        "name": str(file),
        "file": str(file),
        "bytes": file.stat().st_size,
        "problems": problems,
        "runs": counts,
    }


async def _counts(client: RunClient) -> dict[str, int]:
    counts: dict[str, int] = {}
    before: str | None = None
    while page := await client.list(before=before, limit=1000):
        for info in page:
            counts[info.status] = counts.get(info.status, 0) + 1
        before = page[-1].run_id
    return counts
