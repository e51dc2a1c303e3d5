import os
from pathlib import Path

import pytest
from effects import FILE
from restate_process import Worker
from restate_server import RestateServer, binary

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
