"""What plait costs on Restate, beside a handler of the same steps written by hand for its SDK.

    uv run benchmarks/on_restate.py

Both are executed by processes alike, for one server; a turn is so many runs of ten steps.
"""

from __future__ import annotations

import asyncio
import runpy
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

import httpx
import restate
from _measure import Case, medians, row

from plait import SequentialPrimitive, step
from plait.durable.restate import RestateClient, app, serve

STEPS = 10
ROUNDS = 15
TURNS = {1: 10, 100: 1}
SERVER = Path(__file__).parent.parent / "tests" / "restate" / "restate_server.py"


@step
async def increment(number: int) -> int:
    return number + 1


ten_steps = SequentialPrimitive[int, int]([increment] * STEPS).named("ten_steps")
by_hand = restate.Workflow("by_hand")


@by_hand.main()
async def run(context: restate.WorkflowContext, number: int) -> int:
    async def increment_by_hand(number: int) -> int:
        return number + 1

    for place in range(STEPS):
        name = f"increment {place + 1}"
        number = await context.run_typed(name, increment_by_hand, number=number)
    return number


APPLICATIONS: dict[str, Any] = {"plait": app([ten_steps]), "by hand": restate.app([by_hand])}


def with_plait(client: RestateClient, runs: int) -> Case:
    async def run_all() -> None:
        for _ in range(TURNS[runs]):
            results = await asyncio.gather(*(client.run(ten_steps, 0) for _ in range(runs)))
            assert results == [STEPS] * runs

    return run_all


def with_hand(http: httpx.AsyncClient, runs: int) -> Case:
    async def run_one() -> None:
        answer = await http.post(f"/by_hand/{uuid.uuid4().hex}/run", json=0)
        assert answer.json() == STEPS

    async def run_all() -> None:
        for _ in range(TURNS[runs]):
            await asyncio.gather(*(run_one() for _ in range(runs)))

    return run_all


async def compare(url: str) -> None:
    async with (
        RestateClient(url) as client,
        httpx.AsyncClient(base_url=url, timeout=None, http1=False, http2=True) as http,
    ):
        for runs, turns in TURNS.items():
            cases = {"plait": with_plait(client, runs), "by hand": with_hand(http, runs)}
            seconds = await medians(cases, rounds=ROUNDS)
            for name in cases:
                rate = STEPS * runs * turns / seconds[name]
                ratio = seconds["by hand"] / seconds[name]
                row(f"{name}, {runs} at once", f"{rate:,.0f} steps/s", ratio, "by hand")


def main() -> None:
    """Start a server and a process for each, and compare them."""
    found = runpy.run_path(str(SERVER))
    with tempfile.TemporaryDirectory() as folder:
        server = found["RestateServer"](Path(folder) / "data")
        server.start()
        workers = []
        try:
            for name in APPLICATIONS:
                port = found["free_port"]()
                command = [sys.executable, __file__, name, str(port)]
                worker = subprocess.Popen(command, stdout=subprocess.PIPE)
                workers.append(worker)
                assert worker.stdout is not None
                server.register(worker.stdout.readline().decode().strip())
            asyncio.run(compare(server.url))
        finally:
            for worker in workers:
                worker.kill()
            server.kill()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        name, port = sys.argv[1:]
        serve(APPLICATIONS[name], port=int(port), announce=lambda it: print(it, flush=True))
    else:
        main()
