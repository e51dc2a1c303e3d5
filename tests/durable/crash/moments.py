"""The moments at which a process may be killed: around each write and each effect of a step."""

import itertools
import os
import signal
import sqlite3
from pathlib import Path

import psycopg

from plait.durable._postgres import _messages


class Moments:
    """Counts the moments that a process passes, and kills it at one of them.

    A moment is just before and just after a COMMIT that writes something (so before the record is
    on disk, and when it is but nobody has been told), and just before and just after a step does
    something to the world.

    Args:
        effects: The file to which each step appends what it does: outside of the journal.
        kill_at: The number of the moment, from 1 on; 0 for none.
    """

    def __init__(self, effects: Path, kill_at: int):
        self._effects = effects
        self._kill_at = kill_at
        self._numbers = itertools.count(1)
        self.passed = 0

    def come(self):
        self.passed = next(self._numbers)
        if self.passed == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def effect(self, context):
        """What a step does to the world."""
        self.come()
        line = f"{context.idempotency_key}\t{context.attempt}\t{context.run_id}\t{context.path}\n"
        file = os.open(self._effects, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, line.encode())
        os.close(file)
        self.come()

    def watch_commits(self):
        """Count the commits of every connection that is opened from now on in this process."""
        moments, connect = self, sqlite3.connect

        class Connection(sqlite3.Connection):
            written = 0

            def execute(self, statement, *args):
                writes = statement == "COMMIT" and self.total_changes > self.written
                if writes:
                    self.written = self.total_changes
                    moments.come()
                cursor = super().execute(statement, *args)
                if writes:
                    moments.come()
                return cursor

        async def counting(connection, query, *args, **kwargs):
            writes = query in {"COMMIT", append}
            if writes:
                moments.come()
            cursor = await execute(connection, query, *args, **kwargs)
            if writes:
                moments.come()
            return cursor

        execute, append = psycopg.AsyncConnection.execute, _messages._KEEP.encode()
        psycopg.AsyncConnection.execute = counting
        sqlite3.connect = lambda *args, **kwargs: connect(*args, factory=Connection, **kwargs)
