"""A network that is cut between a worker and the server, and whole again."""

import asyncio
import os
import shutil
import socket
import subprocess
import threading
import time
from functools import partial

import pytest
from helping import alive, until, working
from journaling import paths, record

from plait.durable._opened import opened

pytestmark = pytest.mark.anyio

OURS, THEIRS = "198.18.0.1", "198.18.0.2"
IP = shutil.which("ip")


@pytest.fixture
def space():
    """A network namespace; called with "down" or "up", its only line is cut or whole."""
    name = f"plait{os.getpid()}"
    inside, outside = f"in{os.getpid()}", f"out{os.getpid()}"

    def ip(*words):
        subprocess.run([IP, *words], check=True, capture_output=True)

    try:
        ip("netns", "add", name)
    except (OSError, TypeError, subprocess.CalledProcessError):
        pytest.skip("needs the command `ip`, and to be allowed to make network namespaces")
    try:
        ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", name)
        ip("addr", "add", f"{OURS}/30", "dev", outside)
        ip("-n", name, "addr", "add", f"{THEIRS}/30", "dev", inside)
        ip("-n", name, "link", "set", inside, "up")
        ip("link", "set", outside, "up")
        yield name, lambda state: ip("link", "set", outside, state)
    finally:
        ip("netns", "del", name)


@pytest.fixture
def port(space, postgres):
    """A port at which the server is reached from that namespace."""
    server = socket.create_server((OURS, 0))
    way = f"{postgres.address.partition('host=')[2]}/.s.PGSQL.5432"

    def serve():
        while True:
            try:
                theirs, _ = server.accept()
            except OSError:
                return
            ours = socket.socket(socket.AF_UNIX)
            ours.connect(way)
            for one, other in ((theirs, ours), (ours, theirs)):
                threading.Thread(target=pass_on, args=(one, other), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def pass_on(one, other):
    try:
        while said := one.recv(65536):
            other.sendall(said)
    except OSError:
        pass
    finally:
        for end in (one, other):
            end.close()


async def test_a_worker_that_is_cut_off_is_taken_over_from_and_fenced(
    new_journal, postgres, schema, tmp_path, space, port
):
    name, line = space
    address = (
        f"postgresql://postgres@{OURS}:{port}/postgres?connect_timeout=2&tcp_user_timeout=1000"
    )
    effects = tmp_path / "effects"
    inside = [IP, "netns", "exec", name]
    with working(address, schema, effects, "--one", inside=inside):
        async with opened(new_journal()) as journal:
            recorded = f"SELECT count(*) > 2 FROM {schema}.records"
            await until(lambda: has_tables(postgres, schema) and postgres.ask(recorded)[0][0])
            line("down")
            claim = partial(journal.claim, ["ten steps"], [], time.time(), 10)
            ((run, records),) = (await until(claim, lambda found: found.runs)).runs
            await journal.append(record(run.key, "taken over"))
            await asyncio.sleep(0.5)
            done = len(effects.read_text().splitlines())
            line("up")
            await until(lambda: alive(postgres, schema) == 2)  # it has a new lease
            assert await paths(journal, run.key) == [r.path for r in records] + ["taken over"]
    # Cut off, it does the step that it had begun, and no other.
    assert len(effects.read_text().splitlines()) == done
    assert done <= len(records) + 1


def has_tables(postgres, schema):
    return postgres.ask("SELECT to_regclass(%s) IS NOT NULL", f"{schema}.records")[0][0]
