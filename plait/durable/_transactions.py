"""Steps whose effect is in the journal's own database: done once, with their record."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar, overload

from plait.primitives import WorkflowPrimitive
from plait.primitives._base import In, Out
from plait.primitives._signature import function_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from plait.primitives import WorkflowContext


class TransactionStep(WorkflowPrimitive[In, Out]):
    """A function that writes into the journal's own database, exactly once.

    It is given its input and a connection, on which it must neither commit nor roll back: what it
    wrote and the record of its result are committed together, so that after a crash there are both
    or neither. Tables are its own; those of the journal are not to be touched.

    On SQLite it is a plain function that gets a `sqlite3.Connection`. It is called in the journal's
    thread, where others wait for it: it must be quick.

    On PostgreSQL it is a coroutine function that gets a `psycopg.AsyncConnection`, or a plain one
    that is called in a thread and gets a `psycopg.Connection`. Nobody but its own run waits for it.
    It is called again where the connection is lost before all is committed.

    Args:
        function: Takes the input and the connection.
        name: Its name in paths and traces; the function's own where none is given.

    Raises:
        TypeError: It is no function.

    Example:
        >>> import sqlite3, tempfile
        >>> import anyio
        >>> from plait.durable import DurableRunner, TransactionStep
        >>> @TransactionStep
        ... def book(seat: int, database: sqlite3.Connection) -> str:
        ...     database.execute("CREATE TABLE IF NOT EXISTS seats (seat INTEGER PRIMARY KEY)")
        ...     database.execute("INSERT INTO seats VALUES (?)", (seat,))
        ...     return f"seat {seat}"
        >>> async def main(file: str) -> str:
        ...     async with DurableRunner(f"sqlite:///{file}") as runner:
        ...         return await runner.run(book, 12)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     anyio.run(main, f"{folder}/runs.db")
        'seat 12'
    """

    _is_leaf: ClassVar[bool] = True
    _transacts: ClassVar[bool] = True
    __qualname__: str

    @overload
    def __init__(
        self, function: Callable[[In, Any], Awaitable[Out]], *, name: str | None = None
    ) -> None: ...
    @overload
    def __init__(self, function: Callable[[In, Any], Out], *, name: str | None = None) -> None: ...
    def __init__(self, function: Callable[[In, Any], Any], *, name: str | None = None) -> None:
        if not callable(function):
            msg = f"a TransactionStep is made of a function, got {function!r}"
            raise TypeError(msg)
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self._name = name or function_name(function)

    async def execute(self, input_data: In, context: WorkflowContext) -> Out:
        """Refuse: only a durable runner has a database."""
        msg = f"{self.name!r} is a TransactionStep, which needs a DurableRunner to run"
        raise RuntimeError(msg)

    def _spec(self) -> dict[str, Any]:
        return {"function": self.function, "name": self._name}
