"""Steps that notice when they are executed again although their result is in the journal."""

import sqlite3
from contextlib import closing

_connect = sqlite3.connect


class Steps:
    """What the steps of some workflows did.

    Attributes:
        executed: The runs and paths at which they were executed, in order.
        done_again: Those of which the journal had a result by then.
    """

    def __init__(self, file):
        self._file = file
        self.executed = []
        self.done_again = []

    def effect(self, context):
        """Note that a step is executed."""
        node = (context.run_id, context.path)
        self.executed.append(node)
        with closing(_connect(self._file)) as journal:
            select = (
                "SELECT 1 FROM records JOIN runs ON records.run = runs.key"
                " WHERE run_id = ? AND path = ? AND kind IN (0, 1)"
            )
            if journal.execute(select, node).fetchone():
                self.done_again.append(node)
