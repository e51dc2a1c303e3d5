"""The command and the dashboard, on a journal in PostgreSQL."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import httpx
import psycopg
import pytest
import yaml
from asking import ask
from typer.testing import CliRunner

from plait.cli._app import app as command
from plait.durable import DurableRunner, PostgresJournal
from plait.durable._postgres import _health
from plait.server import app

COMMAND = [sys.executable, "-c", "from plait.cli import main; main()"]
HERE = Path(__file__).parent


@pytest.fixture
def address(postgres, schema):
    return f"{postgres.address}&schema={schema}"


@pytest.fixture
def plait(address, monkeypatch):
    """The command, with the journal in its environment."""
    monkeypatch.setenv("PLAIT_JOURNAL", address)
    monkeypatch.syspath_prepend(HERE)
    return lambda *words: CliRunner().invoke(command, words)


def test_a_worker_executes_what_others_started(plait, address):
    missing = plait("runs", "list")
    assert missing.exit_code == 3
    assert "there is no journal yet where the journal at " in missing.stderr
    assert plait("run", "asking:ask", "-i", '"why"', "--run-id", "a", "--no-wait").exit_code == 4
    worker = [*COMMAND, "worker", "asking:ask", "--journal", address]
    env, pipe = {**os.environ, "PYTHONUNBUFFERED": "1"}, subprocess.PIPE
    with subprocess.Popen(
        worker, cwd=HERE, env=env, stdout=pipe, stderr=pipe, text=True
    ) as process:
        assert process.stdout.readline() == "executing the runs of ask\n"
        told = json.loads(plait("doctor", "--json").stdout)["journal"]
        assert (told["workers"], sum(told["runs"].values())) == (1, 1)
        plait("runs", "signal", "a", "answered", '"because"')
        assert plait("runs", "tail", "a").exit_code == 0
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "taking no more runs\n")
    (listed,) = json.loads(plait("runs", "list", "--json").stdout)
    assert (listed["run_id"], listed["status"]) == ("a", "completed")
    assert 'signal:answered  "because"' in plait("runs", "show", "a").stdout


def test_the_worker_that_is_deployed_executes_until_it_is_asked_to_end(address):
    folder = HERE.parents[2] / "examples" / "deploy"
    for file in ("compose.yaml", "kubernetes.yaml"):
        assert list(yaml.safe_load_all((folder / file).read_text()))
    env, pipe = {**os.environ, "PYTHONUNBUFFERED": "1", "JOURNAL": address}, subprocess.PIPE
    worker = [*COMMAND, "worker", "worker:runner"]
    with subprocess.Popen(worker, cwd=folder, env=env, stdout=pipe, text=True) as process:
        assert process.stdout.readline() == "executing the runs of orders\n"
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 0


def test_what_keeps_a_journal_from_being_in_order_is_told(plait, postgres, schema, monkeypatch):
    plait("run", "asking:ask", "-i", '"why"', "--run-id", "a", "--no-wait")
    found = plait("doctor")
    assert found.exit_code == 1
    assert "1 running" in found.stdout or "1 waiting" in found.stdout
    assert "PostgreSQL 18" in found.stdout
    assert "fsync is off on the server: a crash of its machine may" in found.stdout
    monkeypatch.setattr(_health, "_NEEDED", {})
    monkeypatch.setattr(_health, "_OPEN_SECONDS", 0)
    with psycopg.connect(postgres.address) as other:
        other.execute("SELECT 1")
        assert "a transaction of postgres (pid" in plait("doctor").stdout
    monkeypatch.setattr(_health, "_OPEN_SECONDS", 3600)
    assert plait("doctor").exit_code == 0
    postgres.ask(f"UPDATE {schema}.journal_version SET version = 99")
    newer = plait("doctor")
    assert (newer.exit_code, "version 99, written by a newer plait" in newer.stdout) == (1, True)


def test_a_standby_is_no_place_for_a_journal(plait, monkeypatch):
    plait("run", "asking:ask", "-i", '"why"', "--run-id", "a", "--no-wait")
    rows = _health.rows

    async def standby(connection, query, *values):
        return [(True,)] if "pg_is_in_recovery" in query else await rows(connection, query, *values)

    monkeypatch.setattr(_health, "rows", standby)
    assert "the server is a standby" in plait("doctor").stdout


def test_a_server_that_cannot_be_reached_is_told(plait, monkeypatch):
    monkeypatch.setenv("PLAIT_JOURNAL", "postgresql://user:secret@127.0.0.1:1/data")
    for words in (["doctor"], ["runs", "list"], ["worker", "asking:ask"]):
        told = plait(*words)
        assert told.exit_code == 5
        assert "the journal at 127.0.0.1:1/data cannot be used: " in told.stderr
        assert "secret" not in told.stderr


def test_without_the_driver_it_says_what_to_install(plait, monkeypatch):
    monkeypatch.setitem(sys.modules, "plait.durable._postgres._database", None)
    told = plait("worker", "asking:ask")
    assert (told.exit_code, 'pip install "plait[postgres]"' in told.stderr) == (2, True)


@pytest.mark.anyio
async def test_the_dashboard_shows_its_runs(postgres, schema):
    runner = DurableRunner(PostgresJournal(postgres.address, schema=schema), workflows=[ask])
    transport = httpx.ASGITransport(app(runner), client=("127.0.0.1", 1234))
    async with runner, httpx.AsyncClient(transport=transport, base_url="http://localhost") as site:
        headers = {"Idempotency-Key": "a"}
        await site.post("/api/workflows/ask/runs", json="why", headers=headers)
        with anyio.fail_after(20):
            while (await runner.info("a")).status != "waiting":  # noqa: ASYNC110
                await anyio.sleep(0.05)
        assert 'href="/runs/a"' in (await site.get("/?status=waiting")).text
        page = await site.get("/runs/a")
        assert "answered" in page.text
        await runner.signal("a", "answered", "because")
        run = await runner.get("a")
        assert await run.result() == "brought why because"
        assert "brought why because" in (await site.get("/runs/a")).text
