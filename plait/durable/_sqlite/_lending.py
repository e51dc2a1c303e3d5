"""Lending the journal's connection to a step, so that its effect is committed with its record."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from plait.durable._errors import JournalError
from plait.durable._sqlite._schema import TABLES
from plait.durable._sqlite._writer import RefusedError, UndoneError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from plait.durable._stored import Record

T = TypeVar("T")

_SAVEPOINT = "plait_step"

_ENDS_TRANSACTIONS = {
    sqlite3.SQLITE_TRANSACTION: "begins or ends a transaction",
    sqlite3.SQLITE_ATTACH: "attaches a database",
    sqlite3.SQLITE_DETACH: "detaches a database",
    sqlite3.SQLITE_PRAGMA: "uses a PRAGMA",
}
_TABLE_IS_SECOND = {
    sqlite3.SQLITE_CREATE_INDEX,
    sqlite3.SQLITE_CREATE_TEMP_INDEX,
    sqlite3.SQLITE_CREATE_TRIGGER,
    sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
    sqlite3.SQLITE_DROP_INDEX,
    sqlite3.SQLITE_DROP_TEMP_INDEX,
    sqlite3.SQLITE_DROP_TRIGGER,
    sqlite3.SQLITE_DROP_TEMP_TRIGGER,
    sqlite3.SQLITE_ALTER_TABLE,
}


def transact(
    work: Callable[[Any], T],
    record: Callable[[T], Record],
    insert: Callable[[sqlite3.Connection, Record], object],
    connection: sqlite3.Connection,
) -> T:
    """Call `work` with the connection, and insert its record; or undo what it did.

    Raises:
        RefusedError: From what `work` or `record` raised, which has been undone.
        UndoneError: From what they raised, which has undone the whole transaction.
    """
    connection.execute(f"SAVEPOINT {_SAVEPOINT}")
    try:
        with _lent(connection):
            result = work(connection)
            row = record(result)
        if not connection.in_transaction:
            msg = "a step that has the journal's own connection rolled the transaction back"
            raise JournalError(msg)
        insert(connection, row)
    except BaseException as error:
        if not connection.in_transaction:
            # SQLite has undone all of it, as `INSERT OR ROLLBACK` has it do.
            raise UndoneError from error
        connection.execute(f"ROLLBACK TO {_SAVEPOINT}")
        connection.execute(f"RELEASE {_SAVEPOINT}")
        if isinstance(error, StopIteration):
            msg = "a transaction raised StopIteration"
            raise RefusedError from _caused(RuntimeError(msg), error)
        raise RefusedError from error
    connection.execute(f"RELEASE {_SAVEPOINT}")
    return result


@contextmanager
def _lent(connection: sqlite3.Connection) -> Generator[None]:
    """Keep whoever has the connection now from ending the transaction or touching the journal."""
    refused: list[str] = []
    kept = connection.row_factory, connection.text_factory

    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if connection.in_transaction:
            why = _why_not(action, first, second)
        else:
            why = "goes on after the transaction was rolled back"
        if why is None:
            return sqlite3.SQLITE_OK
        refused.append(why)
        return sqlite3.SQLITE_DENY

    connection.set_authorizer(authorize)
    try:
        yield
    except sqlite3.DatabaseError as error:
        if refused:
            error.add_note(f"a step that has the journal's own connection {refused[-1]}")
        raise
    finally:
        with suppress(sqlite3.Error):  # setting it commits first, which is refused
            connection.isolation_level = None
        connection.row_factory, connection.text_factory = kept
        connection.set_authorizer(None)


def _why_not(action: int, first: str | None, second: str | None) -> str | None:
    if action in _ENDS_TRANSACTIONS:
        return f"{_ENDS_TRANSACTIONS[action]}, which the journal does"
    if action == sqlite3.SQLITE_SAVEPOINT:
        return f"uses the journal's savepoint {second}" if second == _SAVEPOINT else None
    table = second if action in _TABLE_IS_SECOND else first
    if action != sqlite3.SQLITE_FUNCTION and table is not None and table.lower() in TABLES:
        return f"touches {table!r}, a table of the journal: give yours another name"
    return None


def _caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error
