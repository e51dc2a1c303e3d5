"""Listening: what other runners tell, and the lease that shows them that this one lives."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg

from plait.durable._errors import JournalError
from plait.durable._postgres import _leases
from plait.durable._postgres._database import rows

if TYPE_CHECKING:
    from plait.durable._postgres._database import Connection, Database

_STOP_SECONDS = 0.5

_POLL_SECONDS = 5.0
"""How long at the most what was written is not noticed where its notification was lost."""


async def listen(connection: Connection, channel: str) -> None:
    """Have a connection told from now on what is said on a channel."""
    await rows(connection, f'LISTEN "{channel}"')


class Listener:
    """A connection that listens, and renews the lease.

    Args:
        database: Where to.
        connection: What to begin with; it listens already.
        runner: Whose lease it is, and whose own notifications say nothing new.
        lease_seconds: How long the lease is; it is renewed three times in that.
        lease_until: When it ends, as far as is known.
        channel: What to listen to.
    """

    def __init__(
        self,
        database: Database,
        connection: Connection,
        runner: int,
        lease_seconds: float,
        lease_until: float,
        channel: str,
    ) -> None:
        self._database = database
        self._connection = connection
        self.runner = runner
        self._lease_seconds = lease_seconds
        self.lease_until = lease_until
        self._channel = channel
        self._heard = asyncio.Event()
        self._back_since = float("-inf")
        self._poll_at = time.monotonic() + _POLL_SECONDS
        self._is_last = False
        self._task = asyncio.create_task(self._stay(), name="plait-journal-listener")

    async def stop(self) -> None:
        """End."""
        self._is_last = True
        # One cancellation may be lost: where the driver waits, another error may take its place.
        while not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=_STOP_SECONDS)
        await self._connection.close()

    @property
    def has_lease(self) -> bool:
        """Whether the lease is known to last."""
        return _leases.now() < self.lease_until

    @property
    def has_watched(self) -> bool:
        """Whether the server was in reach for as long as a lease is, or from the beginning."""
        return time.monotonic() - self._back_since >= self._lease_seconds

    async def changed(self, timeout: float) -> bool:
        """Wait until another runner may have written something; False after `timeout` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(timeout, self._poll_at - time.monotonic())):
                await self._heard.wait()
        now = time.monotonic()
        if self._heard.is_set() or now >= self._poll_at:
            self._heard.clear()
            self._poll_at = now + _POLL_SECONDS
            return True
        return False

    async def _stay(self) -> None:
        while not self._is_last:
            with suppress(psycopg.Error, OSError):
                await self._listen()
            await self._connection.close()
            try:
                self._connection = await self._database.connect_again()
            except JournalError:
                await asyncio.sleep(1)
            else:
                self._back_since = time.monotonic()
                self._heard.set()

    async def _listen(self) -> None:
        await listen(self._connection, self._channel)
        while not self._is_last:
            asked_at = _leases.now()
            if await _leases.renew(self._connection, self.runner):
                self.lease_until = asked_at + self._lease_seconds
            beat_at = time.monotonic() + self._lease_seconds / 3
            while not self._is_last and (seconds := beat_at - time.monotonic()) > 0:
                heard = self._connection.notifies(timeout=seconds, stop_after=1)
                async for notification in heard:
                    if notification.payload != str(self.runner):
                        self._heard.set()
