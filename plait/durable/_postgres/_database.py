"""Connections: how they are made and asked, and what the user is told of their errors."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from plait.durable._errors import JournalError
from plait.durable._postgres import _arrays

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from psycopg import AsyncConnection

    Row: TypeAlias = tuple[Any, ...]
    Connection: TypeAlias = AsyncConnection[Row]

# Says soon that the other side is gone, where the network does not.
_DEFAULTS = {
    "application_name": "plait",
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}

_ADVICE: Sequence[tuple[type[Exception], str]] = (
    (errors.DiskFull, "make room on the server's disk"),
    (errors.InsufficientPrivilege, "let this role create and use the journal's schema"),
)

_OF_THE_SERVER = (
    errors.AdminShutdown,
    errors.CannotConnectNow,
    errors.CrashShutdown,
    errors.IdleInTransactionSessionTimeout,
    errors.ReadOnlySqlTransaction,
)

_USE = "SELECT set_config('search_path', quote_ident(%s), %s)"


class RefusedError(Exception):
    """Raised by an operation that has written nothing: its `__cause__` goes to whoever asked."""


async def rows(connection: Connection, query: str, *values: object) -> list[Row]:
    """What a statement returns."""
    cursor = await connection.execute(query.encode(), values or None, binary=True)
    return await cursor.fetchall() if cursor.description else []


async def first(connection: Connection, query: str, *values: object) -> Row | None:
    """The first row of what a statement returns."""
    found = await rows(connection, query, *values)
    return found[0] if found else None


class Database:
    """A database server that may be gone for a while.

    Args:
        conninfo: Its address, as libpq takes it.
        schema: The schema of the journal.
        outage_seconds: For how long to try to reach it again.
    """

    def __init__(self, conninfo: str, schema: str, outage_seconds: float) -> None:
        given = _parts(conninfo)
        self.conninfo = make_conninfo(
            conninfo, **{k: v for k, v in _DEFAULTS.items() if k not in given}
        )
        self.schema = schema
        self.outage_seconds = outage_seconds
        where = f"{given.get('host', 'localhost')}:{given.get('port', 5432)}"
        self.name = f"the journal at {where}/{given.get('dbname', '')}"
        self.is_closing = False

    async def connect(self) -> Connection:
        """A new connection, which finds the journal's tables."""
        connection = await psycopg.AsyncConnection.connect(self.conninfo, autocommit=True)
        try:
            _arrays.register(connection)
            await rows(connection, _USE, self.schema, False)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def connect_again(self) -> Connection:
        """A new connection, once the server can be reached again.

        Raises:
            JournalError: It could not for too long.
        """
        give_up, pause = time.monotonic() + self.outage_seconds, 0.02
        while True:
            try:
                return await self.connect()
            except psycopg.Error as error:
                if self.is_closing or time.monotonic() >= give_up:
                    raise self.explain(error) from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def use_schema(self, connection: Connection) -> None:
        """Have a connection find the journal's tables until its transaction ends."""
        await rows(connection, _USE, self.schema, True)

    def explain(self, error: Exception) -> JournalError:
        """What a user is told when the journal cannot be written or read."""
        return self._told(f"{self.name} could not be written or read", error)

    def unusable(self, error: Exception) -> JournalError:
        """What a user is told when the journal cannot be opened."""
        return self._told(f"{self.name} cannot be used", error)

    def _told(self, what: str, error: Exception) -> JournalError:
        if isinstance(error, JournalError):
            return error
        advice = next((f" ({text})" for kind, text in _ADVICE if isinstance(error, kind)), "")
        told = JournalError(f"{what}: {str(error).strip()}{advice}")
        told.__cause__ = error
        return told


def split_schema(address: str) -> tuple[str, str]:
    """An address without the schema that it names, and that schema, empty where it names none."""
    start, question, query = address.partition("?")
    words = query.split("&")
    given = [word for word in words if word.startswith("schema=")]
    rest = "&".join(word for word in words if word not in given)
    schema = given[-1].removeprefix("schema=") if given else ""
    return start + (question if rest else "") + rest, schema


def _parts(conninfo: str) -> dict[str, Any]:
    """What an address says.

    Raises:
        ValueError: It is none; the message has no part of it, which may be one of a password.
    """
    what = "the address of the journal is none that PostgreSQL knows"
    advice = (
        "it is of the form postgresql://user:password@host:port/database, with `@`, `/`, `:`, `?`, "
        "`#`, `%` and spaces in a name or a password written as %40, %2F, %3A, %3F, %23, %25, %20"
    )
    try:
        given = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError as error:
        why = re.sub('".*"', "...", str(error).strip())
        msg = f"{what}: {why}; {advice}"
        raise ValueError(msg) from None
    # A password that is not encoded ends somewhere in what follows it.
    ports = [port for port in str(given.get("port", "")).split(",") if port]
    if not all(port.isdecimal() for port in ports) or any(
        "@" in str(given.get(name, "")).removeprefix("@") for name in ("host", "dbname")
    ):
        msg = f"{what}: {advice}"
        raise ValueError(msg)
    return given


class Pool:
    """A number of connections that one asks for when it needs one.

    Where the server was gone, they are back a second after it is: pools that wait twice as long
    after each attempt come back when it has long been there.

    Args:
        database: Where to.
        connections: How many there are at the most.
    """

    def __init__(self, database: Database, connections: int) -> None:
        self._database = database
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[Connection] = []

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """A connection that nobody else has meanwhile.

        Raises:
            JournalError: The server could not be reached for too long.
        """
        async with self._slots:
            connection = await self._taken()
            try:
                yield connection
            finally:
                await self._give_back(connection)

    async def close(self) -> None:
        """Close the connections that nobody has."""
        while self._idle:
            await self._idle.pop().close()

    async def _taken(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return await self._database.connect_again()

    async def _give_back(self, connection: Connection) -> None:
        status = connection.info.transaction_status
        if status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
            with suppress(psycopg.Error):
                await connection.rollback()
            status = connection.info.transaction_status
        if status == TransactionStatus.IDLE:
            self._idle.append(connection)
        else:
            await connection.close()


def is_lost(connection: Connection, error: BaseException) -> bool:
    """Whether an error is of the connection, or of a server that has failed over."""
    return (
        connection.closed
        or isinstance(error, _OF_THE_SERVER)
        # One of the driver itself: it no longer knows how the connection stands.
        or (type(error) is psycopg.OperationalError and error.sqlstate is None)
    )
