"""Serves an application to a Restate server."""

from __future__ import annotations

import asyncio
import signal
import socket
from typing import TYPE_CHECKING, Any

from hypercorn.asyncio import serve as serve_asgi
from hypercorn.config import Config
from restate.server import install_shutdown_hook

if TYPE_CHECKING:
    from collections.abc import Callable

_ANY = 2**31 - 1


def serve(
    application: Any,
    *,
    host: str = "127.0.0.1",
    port: int = 9080,
    announce: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve an application over HTTP/2, until SIGTERM or SIGINT.

    Args:
        application: What `plait.durable.restate.app` made.
        host: The address to listen at.
        port: The port; 0 for any that is free.
        announce: Is told where it is served, once it is.
    """
    asyncio.run(_serve(application, host, port, announce))


async def _serve(application: Any, host: str, port: int, announce: Callable[[str], None]) -> None:
    config = Config()
    listener = socket.create_server((host, port), backlog=config.backlog)
    config.bind = [f"fd://{listener.fileno()}"]
    config.errorlog = None
    # Restate keeps one connection, and has as many runs on it as there are.
    config.h2_max_concurrent_streams = _ANY
    config.keep_alive_max_requests = _ANY
    config.keep_alive_timeout = _ANY
    stop = asyncio.Event()
    for caught in (signal.SIGTERM, signal.SIGINT):
        # Restate's SDK has a handler of its own, which ours must not replace, nor be replaced by.
        install_shutdown_hook(asyncio.get_running_loop(), stop.set, caught)
    name, number = listener.getsockname()[:2]
    announce(f"http://{name}:{number}")
    await serve_asgi(application, config, mode="asgi", shutdown_trigger=stop.wait)
