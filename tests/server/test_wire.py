"""What clients may do to a connection: dawdle, not read, and say two things at once."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def address():
    """A server that waits for nobody for long; its address."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "patient.py")],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0


@pytest.fixture
def connect(address):
    """Opens connections to it."""
    opened = []

    def connection(**options):
        host, port = address.removeprefix("http://").split(":")
        made = socket.socket()
        opened.append(made)
        for name, value in options.items():
            made.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        made.settimeout(60)
        made.connect((host, int(port)))
        return made

    yield connection
    for made in opened:
        made.close()


def answer(connection):
    """All that comes until the server closes the connection."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def healthy(connection):
    """Whether the server answers that it is well."""
    told = b""
    while not told.endswith(b"}"):
        told += connection.recv(65536)
    return told.startswith(b"HTTP/1.1 200 OK")


def test_headers_that_take_too_long_end_the_connection(connect):
    silent, slow, second = connect(), connect(), connect()
    slow.sendall(HEAD)
    second.sendall(HEAD + b"\r\n")
    assert healthy(second)
    second.sendall(HEAD)
    for connection in (silent, slow, second):
        assert answer(connection) == b""


def test_a_connection_that_is_used_is_kept(connect):
    connection = connect()
    for _ in range(3):
        connection.sendall(HEAD)
        time.sleep(0.4)  # all together it takes longer than the headers of one request may
        connection.sendall(b"\r\n")
        assert healthy(connection)


def test_two_lengths_of_a_body_are_refused_and_nothing_inside_of_it_is_answered(connect):
    connection = connect()
    connection.sendall(
        b"POST /api/workflows/double/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1\r\n1\r\n0\r\n\r\n" + HEAD + b"\r\n"
    )
    told = answer(connection)
    assert (told.count(b"HTTP/1.1"), b"400 Bad Request" in told) == (1, True)


@pytest.mark.parametrize(
    "header", ["X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1", "Via: 1.1 proxy"]
)
def test_what_a_proxy_forwards_does_not_come_from_this_machine(connect, header):
    connection = connect()
    head = (
        HEAD.replace(b"/health", b"/api/runs") + f"{header}\r\nConnection: close\r\n\r\n".encode()
    )
    connection.sendall(head)
    assert b"403 Forbidden" in answer(connection)


def test_a_stream_that_nobody_reads_gives_its_place_up(address, connect):
    size = 1 << 20
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
        answered = client.post(
            "/api/workflows/chatter/runs", json=size, headers={"Idempotency-Key": "c"}
        )
        assert answered.status_code == 202
        connection = connect(SO_RCVBUF=4096)
        connection.sendall(
            b"GET /api/runs/c/stream HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        assert connection.recv(15) == b"HTTP/1.1 200 OK"

        def status():
            with client.stream("GET", "/api/runs/c/stream") as other:
                return other.status_code

        assert status() == 429
        deadline = time.monotonic() + 60
        while status() == 429:
            assert time.monotonic() < deadline, "the place was not given up"
            time.sleep(0.05)
