from contextlib import asynccontextmanager

import anyio
import httpx
import pytest
import shop

from plait.durable import DurableRunner, Queue
from plait.server import Token, app

SECRETS = {"reader": "reader-" * 4, "runner": "runner-" * 4, "operator": "operator-" * 4}


class Site:
    """A server, a client of it, and its runner."""

    def __init__(self, application, runner, client):
        self.application = application
        self.runner = runner
        self.client = client

    async def start(self, name, given, run_id=None, wait=0):
        headers = {} if run_id is None else {"Idempotency-Key": run_id}
        if wait:
            headers["Prefer"] = f"wait={wait}"
        return await self.client.post(f"/api/workflows/{name}/runs", json=given, headers=headers)

    async def until(self, run_id, *statuses):
        with anyio.fail_after(60):
            while True:
                info = await self.runner.info(run_id)
                if info.status in statuses:
                    return info
                await anyio.sleep(0.01)


@pytest.fixture
def eventually():
    """Waits until something is true."""

    async def wait(condition):
        with anyio.fail_after(60):
            while not condition():  # noqa: ASYNC110 - it says nothing when it becomes so
                await anyio.sleep(0.01)

    return wait


@pytest.fixture
def tokens():
    """Three tokens, each with one scope more than the one before."""
    return [
        Token.of("reader", SECRETS["reader"], scopes=["read"]),
        Token.of("runner", SECRETS["runner"], scopes=["read", "run"]),
        Token.of("operator", SECRETS["operator"]),
    ]


@pytest.fixture
def bearer():
    """The headers that show a token."""
    return lambda name: {"Authorization": f"Bearer {SECRETS[name]}"}


@pytest.fixture
def serving(tmp_path):
    """A server over a journal of its own, asked in process."""
    shop.is_down[0] = False

    @asynccontextmanager
    async def serve(*, listeners=None, peer="127.0.0.1", base="http://localhost", **options):
        runner = DurableRunner(
            f"sqlite:///{tmp_path}/runs.db",
            workflows=shop.WORKFLOWS,
            listeners=listeners,
            queues=[Queue("mail")],
            suspend_after=0.05,
            grace_seconds=0,
        )
        application = app(runner, **options)
        transport = httpx.ASGITransport(application, client=(peer, 1234))
        async with runner, httpx.AsyncClient(transport=transport, base_url=base) as client:
            yield Site(application, runner, client)

    return serve
