"""What `plait doctor` tells of a journal: whether it is in order, and what is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from plait.durable._errors import JournalError
from plait.durable._postgres import _schema
from plait.durable._postgres._database import rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from plait.durable._postgres._database import Connection, Database

_OPEN_SECONDS = 3600
"""How long a transaction may be open before it is told that it is."""

_NEEDED = {
    "fsync": "a crash of its machine may damage the whole database",
    "full_page_writes": "a crash of its machine may damage the whole database",
    "synchronous_commit": "a crash of the server loses steps that were taken to be recorded",
}


class Health(NamedTuple):
    """What was found.

    Attributes:
        server: The server's version.
        is_there: Whether the schema has a journal.
        bytes: How large its tables and their indexes are.
        workers: How many runners are alive, clients included.
        runs: How many runs there are, by status.
        problems: What is wrong.
    """

    server: str
    is_there: bool
    bytes: int
    workers: int
    runs: Mapping[str, int]
    problems: Sequence[str]


async def examine(database: Database) -> Health:
    """Look at a journal; nothing is written.

    Raises:
        JournalError: The server cannot be asked.
    """
    try:
        connection = await database.connect()
    except Exception as error:
        raise database.unusable(error) from error
    async with connection:
        ((server,),) = await rows(connection, "SHOW server_version")
        problems = await _problems(connection)
        try:
            version = await _schema.version_of(connection, database.schema, database.name)
        except JournalError as error:
            return Health(server, True, 0, 0, {}, [str(error), *problems])
        if version == 0:
            return Health(server, False, 0, 0, {}, problems)
        select = (
            "SELECT sum(pg_total_relation_size(pg_class.oid))::bigint,"
            " (SELECT count(*) FROM runners WHERE NOT is_gone AND lease >= clock_timestamp())"
            " FROM pg_class JOIN pg_namespace ON relnamespace = pg_namespace.oid"
            " WHERE nspname = %s AND relkind = 'r'"
        )
        ((size, workers),) = await rows(connection, select, database.schema)
        counts = await rows(connection, "SELECT status, count(*) FROM runs GROUP BY status")
        return Health(server, True, size, workers, dict(counts), problems)


async def _problems(connection: Connection) -> list[str]:
    problems = [
        f"{name} is off on the server: {why}"
        for name, why in _NEEDED.items()
        if await rows(connection, "SELECT current_setting(%s)", name) == [("off",)]
    ]
    if await rows(connection, "SELECT pg_is_in_recovery()") == [(True,)]:
        problems.append("the server is a standby, to which nothing can be written")
    select = (
        "SELECT pid, usename FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid()"
        " AND xact_start < clock_timestamp() - make_interval(secs => %s) ORDER BY xact_start"
    )
    problems += [
        f"a transaction of {user} (pid {pid}) is open for more than {_OPEN_SECONDS:,} s: until it "
        "ends, vacuum removes nothing that is newer"
        for pid, user in await rows(connection, select, _OPEN_SECONDS)
    ]
    return problems
