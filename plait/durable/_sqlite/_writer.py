"""Group commit: a thread that commits together whatever has gathered during the last commit."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections import deque
from enum import Enum
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from plait.durable._errors import JournalError
from plait.durable._measures import CommitMetrics
from plait.primitives._concurrency import backend

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from plait.primitives._concurrency import Waiter

T = TypeVar("T")

Work: TypeAlias = "Callable[[sqlite3.Connection], Any]"


class Uses(Enum):
    """What a function in a transaction has to do with the rows that were handed in."""

    NOTHING = 0
    """It may be called before those are written that were handed in before it."""
    ROWS = 1
    """It reads or writes rows, and is called when those before it have been written."""
    READS = 2
    """As ROWS, and it writes nothing: it neither needs the lock for writing nor the lease."""


_Item: TypeAlias = "tuple[Waiter[Any], tuple[Any, ...] | None, Work | None, Uses]"
_Outcome: TypeAlias = "tuple[Waiter[Any], Any, BaseException | None]"

# A statement for many rows lets go of the interpreter's lock once, and not once for each row: a
# busy event loop keeps it for up to five milliseconds each time.
_ROWS_AT_ONCE = (256, 64, 16, 4, 1)


class RefusedError(Exception):
    """Raised by a function that has written nothing: its `__cause__` goes to whoever asked."""


class UndoneError(Exception):
    """Raised by a function whose transaction is gone: its `__cause__` goes to whoever asked."""


class GroupCommitter:
    """An SQLite connection in a thread of its own.

    Args:
        connect: Opens the connection; called in the thread.
        insert: The statement that appends rows, up to and without its values.
        columns: How many values a row has.
        guard: Called at the start of each transaction; raises `JournalError` to refuse it.
        beat: Called in a transaction of its own, every `beat_seconds`.
        beat_seconds: How often that is.
        explain: Makes what the user is told of an error of the database.
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
        explain: Callable[[Exception], JournalError],
    ) -> None:
        self._connect = connect
        values = f"({', '.join('?' * columns)})"
        self._inserts = [(n, f"{insert} {', '.join([values] * n)}") for n in _ROWS_AT_ONCE]
        self._guard = guard
        self._beat = beat
        self._beat_seconds = beat_seconds
        self._explain = explain
        self._items: deque[_Item] = deque()
        self._metrics = CommitMetrics()
        self._wake: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._is_woken = self._is_busy = False
        self._call_soon = backend().call_soon()
        self._new_waiter = backend().waiter_factory()
        self._ended = self._new_waiter()

    def start(self) -> Awaitable[None]:
        """Start the thread; awaiting the answer waits until the connection is open."""
        opened = self._new_waiter()
        # A daemon, so that a program that ends without `stop` is not kept from ending.
        thread = threading.Thread(target=self._run, args=(opened,), daemon=True)
        thread.name = "plait-journal"
        # A clock that jumps when its event loop is idle has to know that it only seems to be.
        vars(thread)["owes_answer"] = lambda: self._is_woken or self._is_busy
        self._is_busy = True
        thread.start()
        return opened

    def stop(self) -> Awaitable[None]:
        """Commit what was handed in, and end; awaiting the answer waits until it has."""
        self._is_woken = True
        self._wake.put(True)
        return self._ended

    def append(self, row: tuple[Any, ...]) -> Waiter[None]:
        """Hand in a row; awaiting the answer waits until it is on disk."""
        waiter = self._new_waiter()
        self._items.append((waiter, row, None, Uses.NOTHING))
        if not self._is_woken:
            self._is_woken = True
            self._wake.put(False)
        return waiter

    def submit(
        self, work: Callable[[sqlite3.Connection], T], uses: Uses = Uses.NOTHING
    ) -> Waiter[T]:
        """Hand in a function to be called in a transaction; the answer is what it returns."""
        waiter = self._new_waiter()
        self._items.append((waiter, None, work, uses))
        if not self._is_woken:
            self._is_woken = True
            self._wake.put(False)
        return waiter

    def _run(self, opened: Waiter[None]) -> None:
        try:
            connection = self._connect()
        except Exception as error:  # noqa: BLE001 - handed to whoever waits for the journal to open
            failed = (opened, None, self._explain(error))
            self._call_soon(partial(_settle, [failed, (self._ended, None, None)]))
            return
        self._call_soon(partial(_settle, [(opened, None, None)]))
        self._is_busy = False
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
                self._commit(connection, [(self._ended, None, self._beat, Uses.NOTHING)])
            self._is_busy, self._is_woken = True, False
            take = self._items.popleft
            items = [take() for _ in range(len(self._items))]
            if items:
                began = time.perf_counter()
                self._call_soon(partial(_settle, self._commit(connection, items)))
                self._metrics.committed(len(items), time.perf_counter() - began)
            self._is_busy = is_last

    def _commit(self, connection: sqlite3.Connection, items: Sequence[_Item]) -> list[_Outcome]:
        reads_only = all(uses is Uses.READS for _, _, _, uses in items)
        try:
            if reads_only:
                connection.execute("BEGIN")
            else:
                connection.execute("BEGIN IMMEDIATE")
                self._guard(connection)
        except Exception as error:  # noqa: BLE001 - handed to those who wait for these items
            _roll_back(connection)
            refused: list[_Outcome] = [
                (item[0], None, self._explain(error))
                for item in items
                if reads_only or item[-1] is not Uses.READS
            ]
            reads = [] if reads_only else [item for item in items if item[-1] is Uses.READS]
            return refused + (self._commit(connection, reads) if reads else [])
        try:
            outcomes = self._write(connection, items)
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - handed to those who wait for these items
            _roll_back(connection)
            if len(items) > 1:
                # One that cannot be written must not keep the others from it.
                return list(chain.from_iterable(self._commit(connection, [i]) for i in items))
            told = error.__cause__ if isinstance(error, UndoneError) else self._explain(error)
            return [(items[0][0], None, told)]
        return outcomes

    def _write(self, connection: sqlite3.Connection, items: Sequence[_Item]) -> list[_Outcome]:
        rows: list[tuple[Any, ...]] = []
        outcomes: list[_Outcome] = []
        for waiter, row, work, uses in items:
            if row is not None:
                rows.append(row)
                outcomes.append((waiter, None, None))
                continue
            assert work is not None
            if rows and uses is not Uses.NOTHING:
                self._insert(connection, rows)
                rows = []
            try:
                outcomes.append((waiter, work(connection), None))
            except RefusedError as refused:
                outcomes.append((waiter, None, refused.__cause__))
        self._insert(connection, rows)
        return outcomes

    def _insert(self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        start = 0
        for many, statement in self._inserts:
            while len(rows) - start >= many:
                values = chain.from_iterable(rows[start : start + many])
                connection.execute(statement, tuple(values))
                start += many


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _settle(outcomes: Sequence[_Outcome]) -> None:
    for waiter, result, error in outcomes:
        if waiter.done():
            continue
        if error is None:
            waiter.set_result(result)
        else:
            waiter.set_exception(error)
