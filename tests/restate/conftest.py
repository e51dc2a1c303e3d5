import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from effects import FILE
from restate_server import RestateServer, binary, free_port

from plait.durable.restate import RestateClient

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    # One process of pytest's has them all: the server takes two seconds and much memory.
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("restate"))


@pytest.fixture(scope="module", params=["asyncio"])
def anyio_backend(request):
    return request.param


@pytest.fixture(scope="session")
def server(tmp_path_factory, workers):
    """A server of its own, which the tests share."""
    try:
        binary()
    except OSError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Restate server can be had: {error}")
    server = RestateServer(tmp_path_factory.mktemp("restate") / "data")
    server.start()
    yield server
    server.kill()


class Worker:
    """A process that executes runs, always at one address."""

    def __init__(self, effects, stays=0, **environment):
        self.port = free_port()
        self.stays = stays
        self.log = effects.parent / f"worker-{self.port}.log"
        self._environment = {**os.environ, FILE: str(effects), **environment}

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        self.launch()
        self.await_start()

    def launch(self):
        command = [sys.executable, HERE / "restate_worker.py", str(self.port), str(self.stays)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=subprocess.STDOUT
            )

    def await_start(self):
        for _ in range(600):
            assert self.process.poll() is None, self.log.read_text()
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.05)
        raise TimeoutError(self.log.read_text())

    def stop(self):
        """Have it end by itself; what it said."""
        self.process.terminate()
        assert self.process.wait(10) == 0
        return self.log.read_text()

    def kill(self):
        self.process.kill()
        self.process.wait()

    @contextmanager
    def revived(self):
        """Start it again whenever it dies; how often that was."""
        deaths, is_over = [], threading.Event()

        def revive():
            while not is_over.wait(0.02):
                if self.process.poll() is not None:
                    deaths.append(self.process.returncode)
                    self.launch()

        reviver = threading.Thread(target=revive)
        reviver.start()
        try:
            yield deaths
        finally:
            is_over.set()
            reviver.join()
            self.await_start()


@pytest.fixture(scope="session")
def effects_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("effects") / "effects"
    os.environ[FILE] = str(file)
    yield file
    del os.environ[FILE]


@pytest.fixture(scope="module")
def stays():
    """For how long a run that waits stays in memory, in seconds: it is replayed each time."""
    return 0


@pytest.fixture(scope="session")
def workers(effects_file):
    """A process for each of the two."""
    workers = {stays: Worker(effects_file, stays) for stays in (0, 60)}
    for worker in workers.values():
        worker.launch()
    yield workers
    for worker in workers.values():
        worker.stop()


@pytest.fixture(scope="module")
def worker(workers, server, stays):
    """The process that executes the workflows of `carried`."""
    worker = workers[stays]
    worker.await_start()
    server.register(worker.url)
    return worker


@pytest.fixture
async def client(server, worker):
    async with RestateClient(server.url) as client:
        yield client
