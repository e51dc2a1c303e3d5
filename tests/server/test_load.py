"""Many requests at once, and a server that is killed in the middle: no run is lost or doubled."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import anyio
import httpx
import pytest

HERE = Path(__file__).parent
REQUESTS = int(os.environ.get("PLAIT_LOAD_REQUESTS", "600"))
AT_ONCE = 200


@pytest.mark.timeout(600)
def test_every_accepted_run_ends_and_none_twice(tmp_path):
    journal, ledger = tmp_path / "runs.db", tmp_path / "ledger.db"
    with sqlite3.connect(ledger) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE paid (number INTEGER, attempt TEXT)")
    server = _Server(journal, ledger)
    try:
        accepted = anyio.run(_load, server)
        assert len(accepted) == REQUESTS
        assert server.kills == 1
        _all_ended(server)
    finally:
        server.stop()
    with sqlite3.connect(journal) as connection:
        statuses = Counter(row[0] for row in connection.execute("SELECT status FROM runs"))
    assert sum(statuses.values()) == REQUESTS
    assert len(statuses) == 1  # all of them completed
    with sqlite3.connect(ledger) as connection:
        paid = Counter(row[0] for row in connection.execute("SELECT number FROM paid"))
    # At most what was under way when the server was killed was begun a second time.
    assert set(paid) == set(range(REQUESTS))
    assert sum(count - 1 for count in paid.values()) <= AT_ONCE


class _Server:
    """The server, which can be killed and started again at the same port."""

    def __init__(self, journal, ledger):
        self.kills = 0
        self._arguments = [str(journal), str(ledger)]
        self._start("0")

    def _start(self, port):
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "paying.py"), *self._arguments, port],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.address = self._process.stdout.readline().strip()

    def kill(self):
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()
        self.kills += 1
        self._start(self.address.rpartition(":")[2])

    def stop(self):
        self._process.terminate()
        self._process.wait(timeout=60)
        self._process.stdout.close()


async def _load(server):
    """Send all requests, each until it is accepted; half way, the server is killed."""
    accepted, half_way = set(), anyio.Event()
    numbers = iter(range(REQUESTS))
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    async with httpx.AsyncClient(limits=limits, timeout=60, trust_env=False) as client:

        async def send(number):
            headers = {"Idempotency-Key": f"pay-{number}"}
            url = f"{server.address}/api/workflows/pay/runs"
            while True:
                try:
                    answer = await client.post(url, json=number, headers=headers)
                except httpx.TransportError:
                    await anyio.sleep(0.1)  # it is being started again
                    continue
                assert answer.status_code in (200, 202), answer.text
                accepted.add(number)
                if len(accepted) == REQUESTS // 2:
                    half_way.set()
                return

        async def send_all():
            for number in numbers:
                await send(number)

        async def kill():
            await half_way.wait()
            await anyio.to_thread.run_sync(server.kill)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill)
            for _ in range(AT_ONCE):
                tasks.start_soon(send_all)
    return accepted


def _all_ended(server):
    with httpx.Client(base_url=server.address, trust_env=False) as client:
        deadline = time.monotonic() + 120
        query = "status=queued&status=running&status=waiting&limit=1"
        while client.get(f"/api/runs?{query}").json()["runs"]:
            assert time.monotonic() < deadline, "runs are left"
            time.sleep(0.1)
        failed = client.get("/api/runs?status=failed&status=cancelled&limit=1").json()["runs"]
        assert failed == []
