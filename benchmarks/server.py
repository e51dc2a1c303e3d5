"""Requests a second of a run with one step, beside a bare route that writes one SQLite row.

Both are served by uvicorn in a process of their own, and both have the row on disk before they
answer (WAL, `synchronous=FULL`). The bare route commits each row by itself, in a worker thread.

    uv run benchmarks/server.py [requests] [at once]
"""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from _measure import medians, row

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_ROUNDS = 3
_BARE = "a route that writes one row"


def serve_bare(file: str) -> None:
    import uvicorn
    from anyio import CapacityLimiter, to_thread
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE numbers (number INTEGER)")
    one = CapacityLimiter(1)

    async def write(request: Request) -> Response:
        number = await request.json()
        statement = "INSERT INTO numbers VALUES (?)"
        await to_thread.run_sync(connection.execute, statement, (number,), limiter=one)
        return JSONResponse({"result": number})

    bare = Starlette(routes=[Route("/numbers", write, methods=["POST"])])
    _run(uvicorn.Config(bare, log_level="warning", access_log=False, port=0))


def serve_runs(file: str) -> None:
    from plait import step
    from plait.durable import DurableRunner
    from plait.server import Limits, app, serve

    @step
    async def numbers(number: int) -> int:
        return number

    runner = DurableRunner(f"sqlite:///{file}", workflows=[numbers])
    application = app(runner, limits=Limits(rate=None))
    serve(application, port=0, announce=lambda address: print(address, flush=True))


def _run(config: object) -> None:
    import uvicorn

    assert isinstance(config, uvicorn.Config)
    listening = config.bind_socket()
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listening])


async def load(address: str, path: str, headers: str, requests: int, at_once: int) -> None:
    """Send requests over connections that stay open; each answer is read before the next."""
    host, port = address.removeprefix("http://").split(":")
    numbers = iter(range(requests))

    async def send() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for number in numbers:
            body = str(number)
            writer.write(
                f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n{headers}\r\n{body}".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 20"), head
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
            await reader.readexactly(int(length))
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*[send() for _ in range(at_once)])


async def compare(bare: str, runs: str, requests: int, at_once: int) -> dict[str, float]:
    """Seconds of each case."""
    api = "/api/workflows/numbers/runs"
    return await medians(
        {
            _BARE: lambda: load(bare, "/numbers", "", requests, at_once),
            "a run, answered at once": lambda: load(runs, api, "", requests, at_once),
            "a run, waited for": lambda: load(runs, api, "Prefer: wait=10\r\n", requests, at_once),
        },
        rounds=_ROUNDS,
    )


def main(requests: int, at_once: int) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        addresses = []
        for name in ("bare", "runs"):
            command = [sys.executable, __file__, "--serve", name, f"{folder}/{name}.db"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            stack.enter_context(process)
            stack.callback(process.terminate)
            addresses.append(process.stdout.readline().strip())
        bare, runs = addresses
        seconds = asyncio.run(compare(bare, runs, requests, at_once))
    print(f"{requests} requests, {at_once} at once\n")
    for name, spent in seconds.items():
        row(name, f"{requests / spent:,.0f}/s", seconds[_BARE] / spent, "the bare route")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve = {"bare": serve_bare, "runs": serve_runs}[sys.argv[2]]
        serve(str(Path(sys.argv[3])))
    else:
        given = dict(enumerate(sys.argv[1:]))
        requests, at_once = given.get(0, "2000"), given.get(1, "100")
        main(int(requests), int(at_once))
