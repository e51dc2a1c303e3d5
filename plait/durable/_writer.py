"""Group commit: a thread that commits together whatever has gathered during the last commit."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections import deque
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from plait.durable._errors import JournalError
from plait.primitives._concurrency import backend

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from plait.primitives._concurrency import Waiter

T = TypeVar("T")

Work: TypeAlias = "Callable[[sqlite3.Connection], Any]"

_ROWS_AT_ONCE = 64
"""A statement for many rows lets go of the interpreter's lock once, and not once for each row."""


_Outcome: TypeAlias = "tuple[Waiter[Any], Any, Exception | None]"


class _Item(NamedTuple):
    row: tuple[Any, ...] | None
    work: Work | None
    waiter: Waiter[Any]


class GroupCommitter:
    """An SQLite connection in a thread of its own.

    Args:
        connect: Opens the connection; called in the thread.
        insert: The statement that appends rows, up to and without its values.
        columns: How many values a row has.
        guard: Called at the start of each transaction; raises `JournalError` to refuse it.
        beat: Called in a transaction of its own, every `beat_seconds`.
        beat_seconds: How often that is.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        *,
        insert: str,
        columns: int,
        guard: Work,
        beat: Work,
        beat_seconds: float,
    ) -> None:
        self._connect = connect
        values = f"({', '.join('?' * columns)})"
        self._insert_one = f"{insert} {values}"
        self._insert_many = f"{insert} {', '.join([values] * _ROWS_AT_ONCE)}"
        self._guard = guard
        self._beat = beat
        self._beat_seconds = beat_seconds
        self._items: deque[_Item] = deque()
        self._wake: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._is_woken = False
        self._call_soon = backend().call_soon()
        self._new_waiter = backend().waiter_factory()
        self._ended = self._new_waiter()

    def start(self) -> Awaitable[None]:
        """Start the thread; awaiting the answer waits until the connection is open."""
        opened = self._new_waiter()
        # A daemon, so that a program that ends without `stop` is not kept from ending.
        thread = threading.Thread(target=self._run, args=(opened,), daemon=True)
        thread.name = "plait-journal"
        thread.start()
        return opened

    def stop(self) -> Awaitable[None]:
        """Commit what was handed in, and end; awaiting the answer waits until it has."""
        self._wake.put(True)
        return self._ended

    def append(self, row: tuple[Any, ...]) -> Waiter[None]:
        """Hand in a row; awaiting the answer waits until it is on disk."""
        return self._submit(row, None)

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> Waiter[T]:
        """Hand in a function to be called in a transaction; the answer is what it returns."""
        return self._submit(None, work)

    def _submit(self, row: tuple[Any, ...] | None, work: Work | None) -> Waiter[Any]:
        waiter = self._new_waiter()
        self._items.append(_Item(row, work, waiter))
        if not self._is_woken:
            self._is_woken = True
            self._wake.put(False)
        return waiter

    def _run(self, opened: Waiter[None]) -> None:
        try:
            connection = self._connect()
        except Exception as error:  # noqa: BLE001 - handed to whoever waits for the journal to open
            failed = (opened, None, as_journal_error(error))
            self._call_soon(partial(_settle, [failed, (self._ended, None, None)]))
            return
        self._call_soon(partial(_settle, [(opened, None, None)]))
        try:
            self._serve(connection)
        finally:
            connection.close()
            self._call_soon(partial(_settle, [(self._ended, None, None)]))

    def _serve(self, connection: sqlite3.Connection) -> None:
        is_last, next_beat = False, time.monotonic() + self._beat_seconds
        while not is_last:
            try:
                is_last = self._wake.get(timeout=max(0, next_beat - time.monotonic()))
            except queue.Empty:
                is_last = False
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + self._beat_seconds
                self._commit(connection, [_Item(None, self._beat, self._ended)])
            self._is_woken = False
            items = [self._items.popleft() for _ in range(len(self._items))]
            if items:
                self._call_soon(partial(_settle, self._commit(connection, items)))

    def _commit(self, connection: sqlite3.Connection, items: Sequence[_Item]) -> list[_Outcome]:
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._guard(connection)
            self._insert(connection, [item.row for item in items if item.row is not None])
            outcomes = [_work(connection, item) for item in items]
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - handed to those who wait for these items
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if len(items) > 1 and not isinstance(error, JournalError):
                # One that cannot be written must not keep the others from it.
                return list(chain.from_iterable(self._commit(connection, [i]) for i in items))
            return [(item.waiter, None, as_journal_error(error)) for item in items]
        return outcomes

    def _insert(self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        many = len(rows) - len(rows) % _ROWS_AT_ONCE
        for start in range(0, many, _ROWS_AT_ONCE):
            values = chain.from_iterable(rows[start : start + _ROWS_AT_ONCE])
            connection.execute(self._insert_many, tuple(values))
        connection.executemany(self._insert_one, rows[many:])


def as_journal_error(error: Exception) -> JournalError:
    """What a user is told of an error of the database."""
    if isinstance(error, JournalError):
        return error
    made = JournalError(f"the journal could not be written or read: {error}")
    made.__cause__ = error
    return made


def _work(connection: sqlite3.Connection, item: _Item) -> _Outcome:
    return (item.waiter, None if item.work is None else item.work(connection), None)


def _settle(outcomes: Sequence[_Outcome]) -> None:
    for waiter, result, error in outcomes:
        if waiter.done():
            continue
        if error is None:
            waiter.set_result(result)
        else:
            waiter.set_exception(error)
