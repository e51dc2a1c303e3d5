"""The embedded journal: one SQLite file, in WAL mode, fsynced at every commit."""

from plait.durable._sqlite._journal import SqliteJournal

__all__ = ["SqliteJournal"]
