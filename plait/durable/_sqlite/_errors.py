"""What a user is told of an error of SQLite: what was wrong, with which file, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait.durable._errors import JournalError

if TYPE_CHECKING:
    from pathlib import Path

_ADVICE = {
    "SQLITE_FULL": "make room on its disk, then resume or restart the runs that stopped",
    "SQLITE_BUSY": "another process has kept it locked; see who has a transaction open on it, or "
    "give lock_seconds= more",
    "SQLITE_READONLY": "let this process write to the file and its folder",
    "SQLITE_CANTOPEN": "let this process read and write the file and its folder",
    "SQLITE_IOERR": "the disk failed to read or write it; check the disk",
    "SQLITE_CORRUPT": "the file is damaged; restore it from a backup, or save what can be read "
    "with `sqlite3 FILE .recover`",
    "SQLITE_NOTADB": "the file is damaged or was overwritten; restore it from a backup",
}


def explain(path: Path, error: Exception) -> JournalError:
    """What a user is told when the journal cannot be written or read."""
    return _told(f"the journal {path} could not be written or read", error)


def unusable(path: Path, error: Exception) -> JournalError:
    """What a user is told when the journal cannot be opened."""
    return _told(f"{path} cannot be used as a journal", error)


def _told(what: str, error: Exception) -> JournalError:
    if isinstance(error, JournalError):
        return error
    code = getattr(error, "sqlite_errorname", "")
    advice = next((f" ({text})" for name, text in _ADVICE.items() if code.startswith(name)), "")
    told = JournalError(f"{what}: {error}{advice}")
    told.__cause__ = error
    return told
