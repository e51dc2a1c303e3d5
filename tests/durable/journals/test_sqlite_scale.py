"""What is asked of a large journal costs what it costs in a small one."""

import json

import anyio
import pytest
from journaling import claim, new, record

from plait.durable import SqliteJournal
from plait.durable._opened import opened
from plait.durable._stored import QueueLimits, RunQuery, Wait

pytestmark = pytest.mark.anyio

FLOWS = [f"flow {n}" for n in range(5)]
FULL = [QueueLimits("full", max_concurrent=0)]


async def fill(journal, many):
    """Runs of every kind: waiting, in line, due in a year, completed and failed."""
    runs = [
        new(
            f"run {n}",
            FLOWS[n % 5],
            created=float(n),
            metadata=json.dumps({"user": n % 100}),
            queue="full" if n % 4 == 1 else None,
            due=1e10 + n if n % 4 == 2 else None,
            parent=f"run {n // 100}" if n % 7 == 0 else None,
        )
        for n in range(many)
    ]
    made = [stored for stored, _ in await journal.create(runs)]
    async with anyio.create_task_group() as tasks:
        for n, stored in enumerate(made):
            if stored.status != "running" or n % 16 == 11:
                continue
            if n % 8 == 0:
                waits = [Wait("flow", f"signal:run {n}:go", 1e10 + n)]
                tasks.start_soon(journal.suspend, stored.key, waits, 1.0)
            else:
                ended = "failed" if n % 100 == 3 else "completed"
                tasks.start_soon(journal.finish, stored.key, ended, b"", [], float(n))


QUESTIONS = {
    "create": lambda journal: journal.create([new("new", FLOWS[0])]),
    "find": lambda journal: journal.find("run 500"),
    "list": lambda journal: journal.list(RunQuery(limit=10)),
    "list a page": lambda journal: journal.list(RunQuery(limit=10, before=400)),
    "list a workflow": lambda journal: journal.list(RunQuery(workflow=FLOWS[3], limit=10)),
    "list a status": lambda journal: journal.list(RunQuery(statuses=["failed"], limit=5)),
    "list a status that no run has": lambda journal: journal.list(
        RunQuery(statuses=["cancelled"], limit=10)
    ),
    "list both": lambda journal: journal.list(
        RunQuery(workflow=FLOWS[0], statuses=["waiting"], limit=10)
    ),
    "list children": lambda journal: journal.list(RunQuery(parent="run 7", limit=10)),
    "list a queue": lambda journal: journal.list(RunQuery(queue="full", limit=10)),
    "list a user's": lambda journal: journal.list(RunQuery(metadata={"user": 7}, limit=1)),
    "claim nothing": lambda journal: journal.claim(FLOWS, FULL, 1e9, 10),
    "claim from a long line": lambda journal: journal.claim(FLOWS, [], 1e9, 10),
    "claim what is due": lambda journal: journal.claim(FLOWS, FULL, 1e11, 0),
    "claim what nobody executes": lambda journal: journal.claim(["other"], [], 1e11, 10),
    "send": lambda journal: journal.send("run 8", "go", b"", None, 1e9),
    "send to nobody": lambda journal: journal.send("no run", "go", b"", None, 1e9),
    "claim what was woken": lambda journal: journal.claim(FLOWS, FULL, 1e9, 10),
    "cancel": lambda journal: journal.cancel("run 16", 1e9),
    "cancelled": lambda journal: journal.cancelled(),
    "suspend": lambda journal: journal.suspend(1, [Wait("flow", "run:run 8", None)], 1e9),
    "append": lambda journal: _awaited(journal.append(record(2))),
    "fold": lambda journal: _awaited(journal.fold(record(2))),
    "set an event": lambda journal: journal.set_event(record(2), "other", 1e9),
    "acquire": lambda journal: journal.acquire("cart", "a", record(2), 1e9),
    "release": lambda journal: journal.release("cart", "a", None, record(2), 1e9),
    "prune": lambda journal: journal.prune(50.0, (), 1),
    "changed": lambda journal: journal.changed(0),
}


async def _awaited(answer):
    return await answer


async def prices(file, many):
    """How many instructions SQLite's machine takes for each question, in tens."""
    steps = 0

    def count():
        nonlocal steps
        steps += 1

    async with opened(SqliteJournal(file)) as journal:
        await fill(journal, many)
        await journal._writer.submit(lambda c: c.set_progress_handler(count, 10))
        found = {}
        # The first run is executed again, for what only its runner may ask.
        await journal.send("run 0", "go", b"", None, 1e9)
        await claim(journal, *FLOWS, queues=FULL, now=1e9)
        for name, ask in QUESTIONS.items():
            steps = 0
            await ask(journal)
            found[name] = steps
    return found


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_nothing_costs_more_in_a_larger_journal(tmp_path, anyio_backend):
    small = await prices(tmp_path / "small.db", 1_000)
    large = await prices(tmp_path / "large.db", 8_000)
    dearer = {
        name: (small[name], price) for name, price in large.items() if price > 2 * small[name] + 10
    }
    assert dearer == {}


async def test_recovering_many_runs_takes_a_few_statements(file):
    async with opened(SqliteJournal(file)) as journal:
        made = await journal.create([new(str(n)) for n in range(1_000)])
        answers = [
            journal.append(record(stored.key, f"flow/{n}")) for n in range(5) for stored, _ in made
        ]
        for answer in answers:
            await answer
    statements = []
    async with opened(SqliteJournal(file)) as journal:
        await journal._writer.submit(lambda c: c.set_trace_callback(statements.append))
        found = await claim(journal, limit=1_000)
    assert len(found.runs) == 1_000
    assert all(len(records) == 5 for _, records in found.runs)
    assert len(statements) < 30
