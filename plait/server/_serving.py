"""Serving the application by uvicorn, until a signal asks it to end."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn

from plait.server._security import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType

    from uvicorn.protocols.http.h11_impl import H11Protocol as _Protocol

    from plait.server._app import Server
else:
    from uvicorn.protocols.http.auto import AutoHTTPProtocol as _Protocol

_HELD_SECONDS = 5
_BACKLOG = 2048


class _Hurried(_Protocol):
    """Closes a connection on which headers take too long: uvicorn waits for them for ever.

    A connection costs memory and a descriptor, also where nothing is ever sent on it.
    """

    def __init__(self, header_seconds: float, **options: Any) -> None:
        super().__init__(**options)
        self._seconds = header_seconds
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self._seconds, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if self._deadline is None and not is_answering:
            self._deadline = self.loop.call_later(self._seconds, self.transport.close)
        elif self._deadline is not None and is_answering:
            self._deadline.cancel()
            self._deadline = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)


class _Uvicorn(uvicorn.Server):
    """Has the application answer what it holds back before connections are waited for."""

    def __init__(
        self, config: uvicorn.Config, application: Server, announce: Callable[[], object]
    ) -> None:
        super().__init__(config)
        self._application = application
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._announce()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._application.drain)
        super().handle_exit(sig, frame)


def serve(
    application: Server,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    announce: Callable[[str], object] | None = None,
    **options: Any,
) -> None:
    """Serve until SIGINT or SIGTERM.

    No more requests are taken then, what is held back is answered, the runs that are under way
    are given the runner's `grace_seconds`, and the others are suspended for the next process.

    Args:
        application: What `app` made.
        host: The address to listen at.
        port: The port; 0 for any that is free.
        announce: Is told the server's address once it takes requests.
        options: More for `uvicorn.Config`, such as `ssl_certfile`.

    Raises:
        ValueError: The address can be reached from other machines, and there are no tokens.
        OSError: The address cannot be listened at.
        JournalError: The runner's journal cannot be used.
    """
    if application.site.guard.is_open and not is_loopback(host):
        msg = (
            f"host={host!r} can be reached from other machines, and no tokens are configured: "
            "pass tokens=, or listen at 127.0.0.1"
        )
        raise ValueError(msg)
    settings: dict[str, Any] = {
        "log_level": "warning",
        "timeout_graceful_shutdown": _HELD_SECONDS,
        "server_header": False,
        # Whoever reaches the port could give themselves any address.
        "proxy_headers": "forwarded_allow_ips" in options,
        "http": partial(_Hurried, application.site.limits.header_seconds),
        "ws": "none",
        **options,
    }
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as stack:
        listening = stack.enter_context(
            socket.create_server((host, port), family=family, backlog=_BACKLOG)
        )
        name = f"[{host}]" if family == socket.AF_INET6 else host
        scheme = "https" if "ssl_certfile" in options else "http"
        address = f"{scheme}://{name}:{listening.getsockname()[1]}"
        say = announce or (lambda _: None)
        config = uvicorn.Config(application, **settings)
        stack.enter_context(_ending_quietly())
        try:
            _Uvicorn(config, application, lambda: say(address)).run(sockets=[listening])
        except SystemExit:
            # Uvicorn ends the process where the application could not begin.
            raise application.failure or RuntimeError("the server could not begin") from None


@contextmanager
def _ending_quietly() -> Generator[None, None, None]:
    """Take a signal that uvicorn raises again once it has done what the signal asked for."""
    before = {it: signal.signal(it, lambda *_: None) for it in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for it, handler in before.items():
            signal.signal(it, handler)
