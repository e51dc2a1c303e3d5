"""Steps whose effect is in the journal's own database: done once, with their record."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, ClassVar

from plait.primitives import WorkflowPrimitive
from plait.primitives._base import In, Out
from plait.primitives._signature import function_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from plait.primitives import WorkflowContext


class TransactionStep(WorkflowPrimitive[In, Out]):
    """A function that writes into the journal's own database, exactly once.

    It is given its input and a connection, on which it must neither commit nor roll back: what it
    wrote and the record of its result are committed together, so that after a crash there are both
    or neither. It is called in the journal's thread, where others wait for it: it must be quick.
    Tables are its own; those of the journal cannot be written to.

    Args:
        function: Takes the input and the connection: a `sqlite3.Connection` on an SQLite journal.
        name: Its name in paths and traces; the function's own where none is given.

    Raises:
        TypeError: It is no function, or async.

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
    __qualname__: str

    def __init__(self, function: Callable[[In, Any], Out], *, name: str | None = None) -> None:
        if not callable(function):
            msg = f"a TransactionStep is made of a function, got {function!r}"
            raise TypeError(msg)
        if inspect.iscoroutinefunction(function):
            msg = f"{function_name(function)!r} is async; a TransactionStep is a plain function"
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
