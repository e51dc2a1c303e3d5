"""Connections to a server, on each of which many requests are under way at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping

_REQUESTS_AT_ONCE = 100
"""How many httpx has on one connection of HTTP/2, whatever the server allows."""


class Connections:
    """As many connections of HTTP/2 as there have to be for no request to wait for another.

    Args:
        url: The server.
        headers: What is sent with each request.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self.url = url
        self._headers = dict(headers)
        self._clients: dict[httpx.AsyncClient, int] = {}

    async def request(self, method: str, address: str, **options: Any) -> httpx.Response:
        """Make a request, and wait for the answer however long it takes.

        Raises:
            httpx.TransportError: There is none.
        """
        client = self._client_with_room()
        self._clients[client] += 1
        try:
            return await client.request(method, address, **options)
        finally:
            self._clients[client] -= 1

    async def close(self) -> None:
        """Close all of them."""
        clients, self._clients = self._clients, {}
        for client in clients:
            await client.aclose()

    def _client_with_room(self) -> httpx.AsyncClient:
        for client, under_way in self._clients.items():
            if under_way < _REQUESTS_AT_ONCE:
                return client
        client = httpx.AsyncClient(
            base_url=self.url,
            headers=self._headers,
            http1=False,
            http2=True,
            timeout=httpx.Timeout(10, read=None),
        )
        self._clients[client] = 0
        return client
