"""Leases: how runners that share a journal tell who lives, by clocks that do not jump."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from plait.durable._errors import LeaseLostError

if TYPE_CHECKING:
    import sqlite3


class _Life(NamedTuple):
    host: str
    boot: str
    spaces: str
    pid: int
    born: str
    lease: float
    lease_seconds: float


class Lease:
    """What shows the other runners that this one lives.

    The monotonic clock is the same for all processes since the machine was started, and goes on
    evenly whatever is done to the wall clock: leases end by it. The id of the boot says whether
    two processes have that clock in common. A runner of which that is not known is watched
    instead: it has gone when it does not renew its lease for as long as that lasts.

    Args:
        path: The journal, for messages.
        seconds: How long a runner that does not renew its lease is taken to be alive.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self._path = path
        self._seconds = seconds
        self._watched: dict[int, tuple[float, float]] = {}
        self.runner = 0
        """This runner's id in the journal."""
        self.until = 0.0
        """When the lease that is on disk ends, by the monotonic clock, as far as is known."""

    def take(self, connection: sqlite3.Connection) -> None:
        """Enter this runner as a new one."""
        self._watched.clear()
        insert = (
            "INSERT INTO runners (host, boot, spaces, pid, born, lease, lease_seconds)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
        )
        pid = os.getpid()
        life = _Life(socket.gethostname(), _boot(), _spaces(), pid, _born(pid), self._end(), 0)
        self._own = life._replace(lease_seconds=self._seconds)
        self.runner = connection.execute(insert, self._own).lastrowid or 0
        self.until = life.lease

    def renew(self, connection: sqlite3.Connection) -> None:
        """Show that this runner lives."""
        update = "UPDATE runners SET lease = ? WHERE id = ?"
        connection.execute(update, (self._end(), self.runner))

    def give_back(self, connection: sqlite3.Connection) -> None:
        """Leave what this runner has not finished to the others."""
        connection.execute("UPDATE runners SET is_gone = 1 WHERE id = ?", (self.runner,))

    def check(self, connection: sqlite3.Connection) -> None:
        """Raise `LeaseLostError` where another runner has taken over from this one."""
        select = "SELECT is_gone, lease FROM runners WHERE id = ?"
        is_gone, self.until = connection.execute(select, (self.runner,)).fetchone() or (1, 0.0)
        if is_gone:
            msg = (
                f"another runner has taken over from this one on {self._path}, since it had not "
                f"renewed its lease for {self._seconds:g} s: its runs go on there"
            )
            raise LeaseLostError(msg)

    def bury(self, connection: sqlite3.Connection) -> list[int]:
        """The runners that have gone, those included that nobody has noticed before."""
        living = f"SELECT id, {', '.join(_Life._fields)} FROM runners WHERE is_gone = 0 AND id <> ?"
        for runner, *values in connection.execute(living, (self.runner,)).fetchall():
            if self._is_gone(runner, _Life(*values)):
                connection.execute("UPDATE runners SET is_gone = 1 WHERE id = ?", (runner,))
        gone = connection.execute("SELECT id FROM runners WHERE is_gone = 1")
        return [runner for (runner,) in gone]

    def forget(self, connection: sqlite3.Connection) -> None:
        """Remove the runners that have gone and left nothing."""
        connection.execute(
            "DELETE FROM runners WHERE is_gone = 1 AND NOT EXISTS"
            " (SELECT 1 FROM runs WHERE status = 'running' AND runner = runners.id)"
        )

    def _end(self) -> float:
        return time.monotonic() + self._seconds

    def _is_gone(self, runner: int, life: _Life) -> bool:
        own, now = self._own, time.monotonic()
        is_same_host = life.host == own.host
        if is_same_host and life.spaces in {own.spaces, ""} and not _is_alive(life.pid, life.born):
            return True
        if life.boot == own.boot and (own.boot or is_same_host):
            # A lease that ends later than one can is of a clock that was started anew since.
            return not now <= life.lease <= now + life.lease_seconds
        if is_same_host and _boot_id(life) and _boot_id(life) != _boot_id(own):
            return True  # the machine was started anew
        lease, since = self._watched.setdefault(runner, (life.lease, now))
        if lease != life.lease:
            self._watched[runner] = (life.lease, now)
            return False
        return now - since > life.lease_seconds


def _boot_id(life: _Life) -> str:
    return life.boot.partition(" ")[0]


def _boot() -> str:
    """What stands for the monotonic clock; empty where nothing tells one from another."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return f"{boot} {_link('/proc/self/ns/time')}"


def _spaces() -> str:
    """What stands for the processes that this one sees."""
    return _link("/proc/self/ns/pid")


def _link(path: str) -> str:
    with suppress(OSError):
        return os.readlink(path)  # noqa: PTH115 - what it links to is no path
    return ""


def _born(pid: int) -> str:
    """When a process started, as the kernel tells it; a process id alone is soon another's."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _is_alive(pid: int, born: str) -> bool:
    if os.name == "nt":
        return True  # there, asking for a process with a signal would interrupt it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _born(pid) == born
