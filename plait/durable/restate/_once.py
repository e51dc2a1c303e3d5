"""Steps that run at most once, though Restate repeats what it was not told the end of."""

from __future__ import annotations

import secrets

from plait.durable._errors import StepInterruptedError


class Once:
    """Knows which of them have begun in this process.

    That one is about to begin is kept before it does, with the process that is about to. Whoever
    executes it finds out from that whether it may have begun before.
    """

    def __init__(self) -> None:
        self.process = secrets.token_hex(8)
        """Tells this process from those before it."""
        self._begun: set[str] = set()

    def begin(self, process: str, key: str) -> None:
        """Begin a step.

        Args:
            process: Which process was about to begin it first.
            key: Tells the step from others.

        Raises:
            StepInterruptedError: It may have begun before.
        """
        if process != self.process or key in self._begun:
            self._begun.discard(key)
            msg = f"{key!r} was interrupted after it had begun, and may run at most once"
            raise StepInterruptedError(msg)
        self._begun.add(key)

    def end(self, key: str) -> None:
        """Restate is told how the step ended."""
        self._begun.discard(key)
