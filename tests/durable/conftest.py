import threading

import pytest


@pytest.fixture
def file(tmp_path):
    """The file of a journal that is not there yet."""
    return tmp_path / "runs.db"


@pytest.fixture
def journal(file):
    """The address of a journal that is not there yet."""
    return f"sqlite:///{file}"


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = threading.enumerate()
    yield
    for thread in threading.enumerate():
        if thread.name == "plait-journal" and thread not in before:
            thread.join(1)
            assert not thread.is_alive()
