"""Queues: how many runs are under way at once, and how fast they begin."""

from __future__ import annotations

from dataclasses import dataclass

from plait.durable._stored import QueueLimits


@dataclass(frozen=True, slots=True)
class Queue:
    """The limits of the runs that are started with its name, over all runners of a journal.

    A run that has left memory to wait does not count; it comes back before any that has not begun.

    Args:
        name: What `DurableRunner.start` calls it.
        max_concurrent: How many of its runs are under way at once; None for any number.
        rate: How many begin within `per` seconds; None for any number.
        per: The time that `rate` is for, in seconds.

    Raises:
        ValueError: The name is empty, or a number is not positive.

    Example:
        >>> from plait.durable import DurableRunner, Queue
        >>> runner = DurableRunner("sqlite:///runs.db", queues=[Queue("mail", rate=100, per=60)])
    """

    name: str
    max_concurrent: int | None = None
    rate: int | None = None
    per: float = 1.0

    def __post_init__(self) -> None:
        if not self.name:
            msg = "the name of a queue must not be empty"
            raise ValueError(msg)
        for what, number in (
            ("max_concurrent", self.max_concurrent),
            ("rate", self.rate),
            ("per", self.per),
        ):
            if number is not None and not number > 0:
                msg = f"{what}={number!r} of queue {self.name!r} must be positive"
                raise ValueError(msg)

    def limits(self) -> QueueLimits:
        """What a journal is told of it."""
        rate = None if self.rate is None else (self.rate, self.per)
        return QueueLimits(self.name, self.max_concurrent, rate)
