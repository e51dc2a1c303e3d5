"""How much a request may bring, and how many a client may send."""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from starlette.requests import ClientDisconnect

from plait.server._problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes.

    Args:
        body_bytes: The longest body; what is longer is answered 413.
        body_seconds: How long a body may take to arrive; one that takes longer is answered 408.
        header_bytes: The longest headers, all together; longer ones are answered 431.
        header_seconds: How long headers may take to arrive; a connection on which they take longer
            is closed, where `serve` serves the application.
        rate: How many requests a second a client may send in the long run; None for any number.
            One too many is answered 429, with the time to wait in `Retry-After`.
        burst: How many it may send at once, after a pause.
        wait_seconds: The longest time that an answer is held back for a result.
        streams: How many event streams are open at once.
        unread_seconds: How long a client may read nothing of a stream before it is closed.

    Raises:
        ValueError: A limit is not positive.
    """

    body_bytes: int = 1 << 20
    body_seconds: float = 30
    header_bytes: int = 16 << 10
    header_seconds: float = 20
    rate: float | None = 500
    burst: int = 1000
    wait_seconds: float = 60
    streams: int = 200
    unread_seconds: float = 60

    def __post_init__(self) -> None:
        for name in self.__slots__:
            number = getattr(self, name)
            if number is not None and not number > 0:
                msg = f"{name}={number!r} of the server's limits must be positive"
                raise ValueError(msg)


class Buckets:
    """How many more requests each client may send now (token buckets).

    Args:
        rate: How many a second.
        burst: How many at once.
    """

    _CLIENTS = 10_000

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, client: str) -> float:
        """Count a request; in how many seconds the client may send the next, 0 where this is one.

        Args:
            client: Whose it is.
        """
        now = time.monotonic()
        left, at = self._left.pop(client, (float(self._burst), now))
        left = min(self._burst, left + (now - at) * self._rate)
        if len(self._left) >= self._CLIENTS:
            # Whoever was not heard of for longest has a full bucket again.
            del self._left[next(iter(self._left))]
        self._left[client] = (left - 1 if left >= 1 else left, now)
        return 0 if left >= 1 else (1 - left) / self._rate


def check_headers(request: Request, limit: int) -> None:
    """Refuse a request whose headers are too long, or tell two lengths of its body.

    Of two lengths a proxy may have believed the other one, and have let a request pass inside of
    the body (RFC 9112, 6.1).

    Raises:
        Problem: They are.
    """
    size = sum(len(name) + len(value) + 4 for name, value in request.headers.raw)
    size += len(request.scope.get("query_string", b"")) + len(request.scope["path"])
    if size > limit:
        msg = f"the address and headers take {size:,} bytes; {limit:,} are taken"
        raise Problem(431, msg, kind="headers-too-large")
    if "content-length" in request.headers and "transfer-encoding" in request.headers:
        headers = {"Connection": "close"}
        msg = "a request has a Content-Length or a Transfer-Encoding, and not both"
        raise Problem(400, msg, kind="malformed", headers=headers)


async def body_of(request: Request, limits: Limits) -> bytes:
    """A request's body.

    Raises:
        Problem: It is too long, or takes too long.
    """
    too_long = Problem(
        413, f"the body is longer than {limits.body_bytes:,} bytes", kind="body-too-large"
    )
    said = request.headers.get("content-length", "0")
    if said.isdecimal() and int(said) > limits.body_bytes:
        raise too_long
    body = bytearray()
    try:
        with anyio.fail_after(limits.body_seconds):
            async with aclosing(request.stream()) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) > limits.body_bytes:
                        raise too_long
    except TimeoutError:
        msg = f"the body took longer than {limits.body_seconds:g} s to arrive"
        raise Problem(408, msg, kind="body-too-slow") from None
    except ClientDisconnect:
        raise Problem(400, "the body was cut short") from None
    return bytes(body)
