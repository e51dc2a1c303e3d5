"""Group commit: a thread that commits together whatever has gathered during the last commit."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections import deque
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from plait.durable._errors import JournalError
from plait.durable._measures import CommitMetrics
from plait.primitives._concurrency import backend

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from plait.primitives._concurrency import Waiter

T = TypeVar("T")
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

Work: TypeAlias = "Callable[[sqlite3.Connection], Any]"


class Uses(Enum):
    """What an operation has to do with what was handed in before it."""

    NOTHING = 0
    """It may be done before or after that."""
    ROWS = 1
    """It reads or writes what others write, and is done after all that was handed in before."""
    READS = 2
    """As ROWS, and it writes nothing: it neither needs the lock for writing nor the lease."""


@dataclass(frozen=True, eq=False)
class Operation(Generic[Asked, Answer]):
    """What is done in one transaction for all that ask for it at the time.

    Attributes:
        run: Given what each asks with, and the connection, returns the answer to each, or the
            `RefusedError` of one for which nothing was written.
        uses: What that has to do with what was handed in before.
    """

    run: Callable[[Sequence[Asked], sqlite3.Connection], Sequence[Answer | RefusedError]]
    uses: Uses = Uses.NOTHING


_Item: TypeAlias = "tuple[Waiter[Any], Operation[Any, Any], Any]"
_Outcome: TypeAlias = "tuple[Waiter[Any], Any]"


class RefusedError(Exception):
    """Raised by a function that has written nothing: its `__cause__` goes to whoever asked."""


class UndoneError(Exception):
    """Raised by a function whose transaction is gone: its `__cause__` goes to whoever asked."""


class GroupCommitter:
    """An SQLite connection in a thread of its own.

    Args:
        connect: Opens the connection; called in the thread.
        guard: Called at the start of each transaction; raises `JournalError` to refuse it.
        beat: Called in a transaction of its own, every `beat_seconds`.
        beat_seconds: How often that is.
        explain: Makes what the user is told of an error of the database.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        *,
        guard: Work,
        beat: Work,
        beat_seconds: float,
        explain: Callable[[Exception], JournalError],
    ) -> None:
        self._connect = connect
        self._guard = guard
        self._beat = beat
        self._beat_seconds = beat_seconds
        self._explain = explain
        self._items: deque[_Item] = deque()
        self._metrics = CommitMetrics()
        self._wake: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._is_woken = self._is_busy = False
        self._call_soon = backend().call_soon()
        self._call_after = backend().call_after()
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

    def hand_in(self, operation: Operation[Asked, Answer], asked: Asked) -> Waiter[Answer]:
        """Have an operation done in the next transaction; the answer is what it says to this."""
        waiter = self._new_waiter()
        self._items.append((waiter, operation, asked))
        if not self._is_woken:
            self._is_woken = True
            # Not at once: what other tasks are about to hand in is committed with it.
            self._call_after(self._wake_up)
        return waiter

    def _wake_up(self) -> None:
        self._wake.put(False)

    def submit(
        self, work: Callable[[sqlite3.Connection], T], uses: Uses = Uses.NOTHING
    ) -> Waiter[T]:
        """Hand in a function to be called in a transaction; the answer is what it returns."""
        return self.hand_in(_CALLS[uses], work)

    def _run(self, opened: Waiter[None]) -> None:
        try:
            connection = self._connect()
        except Exception as error:  # noqa: BLE001 - handed to whoever waits for the journal to open
            failed = refusal(self._explain(error))
            self._call_soon(partial(_settle, [(opened, failed), (self._ended, None)]))
            return
        self._call_soon(partial(_settle, [(opened, None)]))
        self._is_busy = False
        try:
            self._serve(connection)
        finally:
            connection.close()
            self._call_soon(partial(_settle, [(self._ended, None)]))

    def _serve(self, connection: sqlite3.Connection) -> None:
        is_last, next_beat = False, time.monotonic() + self._beat_seconds
        while not is_last:
            try:
                is_last = self._wake.get(timeout=max(0, next_beat - time.monotonic()))
            except queue.Empty:
                is_last = False
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + self._beat_seconds
                self._commit(connection, [(self._ended, _CALLS[Uses.NOTHING], self._beat)])
            self._is_busy, self._is_woken = True, False
            take = self._items.popleft
            items = [take() for _ in range(len(self._items))]
            if items:
                began = time.perf_counter()
                self._call_soon(partial(_settle, self._commit(connection, items)))
                self._metrics.committed(len(items), time.perf_counter() - began)
            self._is_busy = is_last

    def _commit(self, connection: sqlite3.Connection, items: Sequence[_Item]) -> list[_Outcome]:
        reads_only = all(operation.uses is Uses.READS for _, operation, _ in items)
        try:
            if reads_only:
                connection.execute("BEGIN")
            else:
                connection.execute("BEGIN IMMEDIATE")
                self._guard(connection)
        except Exception as error:  # noqa: BLE001 - handed to those who wait for these items
            _roll_back(connection)
            told = refusal(self._explain(error))
            refused: list[_Outcome] = [
                (waiter, told)
                for waiter, operation, _ in items
                if reads_only or operation.uses is not Uses.READS
            ]
            reads = [] if reads_only else [item for item in items if item[1].uses is Uses.READS]
            return refused + (self._commit(connection, reads) if reads else [])
        try:
            outcomes = _write(connection, items)
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - handed to those who wait for these items
            _roll_back(connection)
            if len(items) > 1:
                # One that cannot be written must not keep the others from it.
                return list(chain.from_iterable(self._commit(connection, [i]) for i in items))
            cause = error.__cause__ if isinstance(error, UndoneError) else self._explain(error)
            return [(items[0][0], refusal(cause))]
        return outcomes


def _write(connection: sqlite3.Connection, items: Iterable[_Item]) -> list[_Outcome]:
    outcomes: list[_Outcome] = []
    groups: dict[Operation[Any, Any], list[_Item]] = {}
    group: list[_Item] = []
    last: Operation[Any, Any] | None = None
    for item in items:
        operation = item[1]
        if operation is not last:
            if operation.uses is not Uses.NOTHING:
                outcomes += _run_groups(connection, groups)
                groups = {}
            last, group = operation, groups.setdefault(operation, [])
        group.append(item)
    return outcomes + _run_groups(connection, groups)


def _run_groups(
    connection: sqlite3.Connection, groups: Mapping[Operation[Any, Any], Sequence[_Item]]
) -> list[_Outcome]:
    outcomes: list[_Outcome] = []
    for operation, items in groups.items():
        answers = operation.run([asked for _, _, asked in items], connection)
        outcomes += zip([waiter for waiter, _, _ in items], answers, strict=True)
    return outcomes


def _call_each(
    functions: Sequence[Callable[[sqlite3.Connection], Any]], connection: sqlite3.Connection
) -> list[Any]:
    answers: list[Any] = []
    for function in functions:
        try:
            answers.append(function(connection))
        except RefusedError as refused:
            # Its traceback has these answers in it.
            answers.append(refused.with_traceback(None))
    return answers


_CALLS: dict[Uses, Operation[Any, Any]] = {uses: Operation(_call_each, uses) for uses in Uses}


def refusal(cause: BaseException | None) -> RefusedError:
    """The answer of an operation to one that is refused, who is told the cause."""
    refused = RefusedError()
    refused.__cause__ = cause
    return refused


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _settle(outcomes: Iterable[_Outcome]) -> None:
    for waiter, answer in outcomes:
        if waiter.done():
            continue
        if isinstance(answer, RefusedError):
            assert answer.__cause__ is not None
            waiter.set_exception(answer.__cause__)
        else:
            waiter.set_result(answer)
