"""Leases: how runners that share a journal tell who lives, by the clock of the database."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

from plait.durable._errors import LeaseLostError
from plait.durable._postgres._database import first, rows

if TYPE_CHECKING:
    from plait.durable._postgres._database import Connection

MINE = "SELECT 1 FROM runners WHERE id = %s AND NOT is_gone FOR KEY SHARE"
"""Finds the runner only while nobody has taken over from it, and keeps others from doing so before
the transaction has ended. It keeps nobody from renewing a lease."""

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_BEGIN = (
    "SELECT pg_current_xact_id()::text FROM runners WHERE id = %s AND NOT is_gone FOR KEY SHARE"
)


def now() -> float:
    """The time in seconds, by a clock that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(_CLOCK)


async def take(connection: Connection, seconds: float) -> tuple[int, int]:
    """Enter a new runner: its id, and the epoch that its first records are of."""
    insert = (
        "INSERT INTO runners (host, pid, lease, lease_seconds)"
        " VALUES (%s, %s, clock_timestamp() + make_interval(secs => %s), %s)"
        " RETURNING id, nextval('epochs')"
    )
    ((runner, epoch),) = await rows(
        connection, insert, socket.gethostname(), os.getpid(), seconds, seconds
    )
    return runner, epoch


async def renew(connection: Connection, runner: int) -> bool:
    """Show that a runner lives; False where it was taken over from."""
    update = (
        "UPDATE runners SET lease = clock_timestamp() + make_interval(secs => lease_seconds)"
        " WHERE id = %s AND NOT is_gone RETURNING 1"
    )
    return await first(connection, update, runner) is not None


async def give_back(connection: Connection, runner: int) -> None:
    """Leave what a runner has not finished to the others."""
    await rows(connection, "UPDATE runners SET is_gone = TRUE WHERE id = %s", runner)


async def begin(connection: Connection, runner: int, seconds: float) -> str:
    """Begin a transaction of a runner that nobody has taken over from; the transaction's id.

    Raises:
        LeaseLostError: Another runner has taken over.
    """
    async with connection.pipeline():
        await connection.execute("BEGIN")
        await limit_silence(connection, seconds)
        cursor = await connection.execute(_BEGIN.encode(), (runner,))
    found = await cursor.fetchone()
    if found is None:
        await connection.execute("ROLLBACK")
        raise fenced(seconds)
    return str(found[0])


async def limit_silence(connection: Connection, seconds: float) -> None:
    """Have a transaction end when its runner, which cannot be taken over from, says no more."""
    limit = b"SELECT set_config('idle_in_transaction_session_timeout', %s, TRUE)"
    await connection.execute(limit, (str(max(1, round(seconds * 1000))),))


def fenced(seconds: float) -> LeaseLostError:
    """What is raised when another runner has taken over."""
    msg = (
        "another runner has taken over from this one, since it had not renewed its lease for "
        f"{seconds:g} s: its runs go on there"
    )
    return LeaseLostError(msg)


async def bury(connection: Connection, runner: int, *, has_watched: bool) -> list[int]:
    """The runners that have gone, those included that nobody has noticed before.

    Who lives has had the time to show it: since the server was started, and where the runner that
    asks was cut off from it, since it came back. One that is just writing is left for later.

    Args:
        connection: Where to look.
        runner: Who asks.
        has_watched: Whether it has been in touch with the server for as long as a lease is.
    """
    if has_watched:
        find = """
            UPDATE runners SET is_gone = TRUE WHERE id IN (
                SELECT id FROM runners WHERE NOT is_gone AND id <> %s AND lease < clock_timestamp()
                AND pg_postmaster_start_time()
                    < clock_timestamp() - make_interval(secs => lease_seconds)
                FOR UPDATE SKIP LOCKED
            )
        """
        await rows(connection, find, runner)
    return [gone for (gone,) in await rows(connection, "SELECT id FROM runners WHERE is_gone")]


async def forget(connection: Connection) -> None:
    """Remove the runners that have gone and left nothing."""
    delete = (
        "DELETE FROM runners WHERE is_gone AND NOT EXISTS"
        " (SELECT 1 FROM runs WHERE status = 'running' AND runner = runners.id)"
    )
    await rows(connection, delete)
