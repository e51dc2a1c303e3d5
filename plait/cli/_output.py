"""What commands print, and how they end."""

from __future__ import annotations

import json
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from plait.durable import (
    JournalError,
    RunConflictError,
    RunEndedError,
    RunNotFoundError,
    WorkflowChangedError,
)
from plait.durable._readable import as_json
from plait.primitives import PlaitError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from rich.text import Text
    from rich.tree import Tree

_WIDEST, _SHORT = 10_000, 20

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    SUSPENDED = 4
    JOURNAL = 5


class CommandError(Exception):
    """Why a command cannot be done.

    Args:
        message: What was wrong, and what to do.
        code: How the command ends.
    """

    def __init__(self, message: str, code: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.code = code


_CODES: tuple[tuple[type[Exception], Exit], ...] = (
    (RunNotFoundError, Exit.NOT_FOUND),
    (RunConflictError, Exit.USAGE),
    (RunEndedError, Exit.FAILED),
    (WorkflowChangedError, Exit.FAILED),
    (JournalError, Exit.JOURNAL),
    (PlaitError, Exit.USAGE),
    (ValueError, Exit.USAGE),
    (ImportError, Exit.USAGE),
    (OSError, Exit.USAGE),
)


class Output:
    """Where a command prints: results to stdout, all else to stderr.

    Args:
        is_json: Whether results are for another program.
    """

    def __init__(self, *, is_json: bool = False) -> None:
        self.is_json = is_json
        self.out = Console(highlight=False, soft_wrap=True)
        if not self.out.is_terminal:
            # A pipe has no width: what goes through one is not cut off.
            self.out.width = _WIDEST
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)

    def value(self, value: Any) -> None:
        """Print a value as JSON, on one line where it is for another program."""
        if self.is_json or not self.out.is_terminal:
            self.text(json.dumps(as_json(value), ensure_ascii=False))
        else:
            self.out.print_json(data=as_json(value))

    def text(self, text: str) -> None:
        """Print text as it is."""
        self.out.print(text, markup=False)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
        """Print a table; where a terminal is too narrow, long cells are folded, not cut off."""
        drawn = Table(box=None, pad_edge=False, header_style="dim")
        for index, name in enumerate(columns):
            is_short = all(len(row[index]) <= _SHORT for row in rows)
            drawn.add_column(name, overflow="fold", no_wrap=is_short)
        for row in rows:
            drawn.add_row(*row)
        self.drawing(drawn)

    def drawing(self, drawn: Table | Tree) -> None:
        """Print a table or a tree, whose lines end where their text does."""
        if self.out.is_terminal:
            self.out.print(drawn, soft_wrap=False)
            return
        with self.out.capture() as captured:
            self.out.print(drawn, soft_wrap=False)
        for line in captured.get().splitlines():
            self.text(line.rstrip())

    def note(self, text: str) -> None:
        """Say something to the person, beside what is printed."""
        self.err.print(text, markup=False)

    def fail(self, message: str, code: Exit, **more: Any) -> NoReturn:
        """Say why the command failed, and end."""
        if self.is_json:
            self.value({"error": message, "exit_code": int(code), **more})
        else:
            self.err.print(f"plait: {message}", markup=False, style="red")
        raise typer.Exit(code)


@contextmanager
def output(*, is_json: bool = False) -> Generator[Output, None, None]:
    """Print for a command, and have what goes wrong end it with the code for that."""
    printed = Output(is_json=is_json)
    try:
        yield printed
    except CommandError as error:
        printed.fail(str(error), error.code)
    except BrokenPipeError:
        raise  # whoever reads has seen enough: the command line library ends it quietly
    except Exception as error:
        code = next((code for kind, code in _CODES if isinstance(error, kind)), None)
        if code is None:
            raise
        printed.fail(str(error), code)
