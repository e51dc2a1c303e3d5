import functools
import sqlite3
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


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server; where its processes are, a test may stop it and start it again."""
    from postgres_server import Server

    server = Server()
    yield server
    server.remove()


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = threading.enumerate()
    yield
    for thread in threading.enumerate():
        if thread.name == "plait-journal" and thread not in before:
            thread.join(1)
            assert not thread.is_alive()


@pytest.fixture
def room(monkeypatch):
    """Says how many pages a journal may have from now on."""
    pages = 2**30

    class Connection(sqlite3.Connection):
        def execute(self, statement, *values):
            if statement == "BEGIN IMMEDIATE":
                super().execute(f"PRAGMA max_page_count = {pages}")
            return super().execute(statement, *values)

    def allow(many):
        nonlocal pages
        pages = many

    connect = functools.partial(sqlite3.connect, factory=Connection)
    monkeypatch.setattr(sqlite3, "connect", connect)
    return allow
