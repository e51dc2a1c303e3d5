"""Whether another thread still owes the event loop an answer."""

from __future__ import annotations

import threading

import anyio.to_thread


class OwedAnswers:
    """Knows of the threads that work for the running event loop.

    These are anyio's worker threads, and any thread that has an attribute `owes_answer`: a function
    that says whether it does, as the SQLite journal's has.
    """

    def __init__(self) -> None:
        self._limiter = anyio.to_thread.current_default_thread_limiter()

    def any(self) -> bool:
        """Whether there is one; to be asked in the event loop's own thread."""
        if self._limiter.borrowed_tokens:
            return True
        for thread in threading.enumerate():
            owes_answer = getattr(thread, "owes_answer", None)
            if owes_answer is not None and owes_answer():
                return True
        return False
