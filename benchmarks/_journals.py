"""Journals with many runs in them, and what a runner does with those."""

from __future__ import annotations

import asyncio
import sqlite3
import tracemalloc
from pathlib import Path

from _measure import Case

from plait import SequentialPrimitive, SignalPrimitive, step
from plait.durable import DurableRunner, JsonCodec

REPLAYED = 1_000


class Meeting:
    """A step that a number of runs come to, and none gets past before it is opened."""

    def __init__(self) -> None:
        self.renew(0)

    def renew(self, expected: int) -> None:
        self._missing = expected
        self.everybody = asyncio.Event()

    async def __call__(self, number: int) -> int:
        self._missing -= 1
        if not self._missing:
            self.everybody.set()
        await asyncio.Event().wait()
        return number


@step
async def increment(number: int) -> int:
    return number + 1


meeting = Meeting()
met = SequentialPrimitive[int, int]([increment, meeting]).named("met")
long = SequentialPrimitive[int, int]([increment] * REPLAYED).named("long")
approved = (increment >> SignalPrimitive("approval", int)).named("approved")


def starting(folder: Path, runs: int) -> Case:
    """Start runs in a new journal, until each has done a step."""
    count = iter(range(1_000_000))

    async def start() -> None:
        address = f"sqlite:///{folder}/start{next(count)}.db"
        meeting.renew(runs)
        async with DurableRunner(address, workflows=[met], grace_seconds=0) as runner:
            await asyncio.gather(*(runner.start(met, 0) for _ in range(runs)))
            await meeting.everybody.wait()

    return start


def recovering(folder: Path, runs: int) -> Case:
    """Enter a runner on a journal with interrupted runs, until each is where it was."""
    address = f"sqlite:///{folder}/recover.db"

    async def recover() -> None:
        meeting.renew(runs)
        async with DurableRunner(
            address, workflows=[met], grace_seconds=0, max_running=runs
        ) as runner:
            if not await runner.list(limit=1):
                await asyncio.gather(*(runner.start(met, 0) for _ in range(runs)))
            await meeting.everybody.wait()

    return recover


def replaying(runner: DurableRunner, run_id: str) -> Case:
    """Replay a run with many finished steps, without executing any."""

    async def replay() -> None:
        verification = await runner.verify(run_id)
        assert verification.fits
        assert verification.replayed == REPLAYED

    return replay


def reading(file: Path, run_id: str) -> Case:
    """Read the rows of the same run with SQLite alone, and decode them."""
    codec = JsonCodec()

    async def read() -> None:
        connection = sqlite3.connect(file)
        rows = connection.execute(
            "SELECT path, kind, digest, payload, data FROM records"
            " WHERE run = (SELECT key FROM runs WHERE run_id = ?)",
            (run_id,),
        ).fetchall()
        found = {row[0]: codec.decode(row[3]) for row in rows}
        assert len(found) == REPLAYED
        connection.close()

    return read


async def fill_with_waiting(file: Path, runs: int) -> None:
    """A journal with a number of runs that wait, out of memory."""
    runner = DurableRunner(f"sqlite:///{file}", workflows=[approved], suspend_after=0)
    async with runner:
        run = await runner.start(approved, 0, run_id="first")
        while (await run.info()).status != "waiting":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    _multiply(file, runs)


def opening(address: str) -> Case:
    async def enter() -> None:
        async with DurableRunner(address, workflows=[approved]):
            pass

    return enter


def selecting(file: Path) -> Case:
    async def select() -> None:
        connection = sqlite3.connect(file)
        connection.execute("SELECT * FROM runs WHERE status = 'waiting'").fetchall()
        connection.close()

    return select


async def memory_of_waiting(address: str, runs: int) -> float:
    """How much memory a runner takes for each run that waits, in bytes."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    async with DurableRunner(address, workflows=[approved]):
        await asyncio.sleep(0.2)
        after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / runs


async def fill_with_ended(file: Path, runs: int) -> None:
    """A journal with a number of runs that have ended."""
    short = increment.named("short")
    async with DurableRunner(f"sqlite:///{file}", workflows=[short]) as runner:
        await runner.run(short, 0, run_id="first")
    _multiply(file, runs)


def _multiply(file: Path, runs: int) -> None:
    """Have a journal's one run there a number of times, with what it waits for."""
    connection = sqlite3.connect(file)
    numbers = (
        "WITH RECURSIVE numbers (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)"
    )
    for table, key, named in (("runs", "key", "run_id"), ("waits", "run", "topic")):
        columns = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
        kept = [name for name in columns if name not in (key, named)]
        connection.execute(
            f"{numbers} INSERT INTO {table} ({', '.join([key, named, *kept])})"
            f" SELECT n, replace({named}, 'first', 'run-' || n), {', '.join(kept)}"
            f" FROM numbers, {table} WHERE {key} = 1",
            (runs,),
        )
    connection.commit()
    connection.close()


def using(runner: DurableRunner, what: str) -> Case:
    """Start runs, list some, or look some up."""
    short = increment.named("short")

    async def start() -> None:
        for _ in range(50):
            await runner.run(short, 0)

    async def list_some() -> None:
        for _ in range(50):
            assert await runner.list(workflow="short", status="completed", limit=20)

    async def look_up() -> None:
        for number in range(2, 502, 10):
            assert (await runner.info(f"run-{number}")).status == "completed"

    return {"start": start, "list": list_some, "look up": look_up}[what]
