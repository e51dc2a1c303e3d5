"""Schedules: runs that the clock starts."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import anyio

from plait.durable._errors import JournalError, RunConflictError
from plait.primitives._decorators import as_primitive
from plait.primitives._polling import is_polling

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plait.durable._journal import Journal
    from plait.durable._runner import DurableRunner
    from plait.primitives import WorkflowPrimitive

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

logger = logging.getLogger("plait.durable")

_LONGEST_SLEEP_SECONDS = 30.0
"""A clock that is set is noticed after this time at the latest."""
_PAUSE_SECONDS = 1.0
"""How long to wait before a journal that failed is asked again."""


class Schedule:
    """Starts a workflow again and again, once for each tick, however many runners keep it.

    Args:
        workflow: What is started.
        when: A cron expression of five fields, as `"0 9 * * mon-fri"`, or the time between ticks.
        input_data: The input of each run, or a function of the tick's time that makes it.
        name: What its runs are called, `NAME@TIME`; the workflow's name by default.
        timezone: The IANA time zone that a cron expression is meant in.
        missed: What becomes of ticks that passed while no runner was there: none of them is made
            up for ("skip"), the last one is ("once"), or each is ("all").

    Raises:
        ValueError: The expression, the time, the time zone or `missed` is none.
        TypeError: `when` is neither.
        ImportError: A cron expression needs the `cronsim` package:
            `pip install "plait[schedules]"`.

    Example:
        >>> from datetime import timedelta
        >>> from plait import step
        >>> from plait.durable import DurableRunner, Schedule
        >>> @step
        ... async def clean(_: None) -> None: ...
        >>> hourly = Schedule(clean, timedelta(hours=1))
        >>> runner = DurableRunner("sqlite:///runs.db", schedules=[hourly])
    """

    def __init__(
        self,
        workflow: WorkflowPrimitive[Any, Any],
        when: str | timedelta,
        input_data: object = None,
        *,
        name: str | None = None,
        timezone: str = "UTC",
        missed: Literal["skip", "once", "all"] = "skip",
    ) -> None:
        self.workflow = as_primitive(workflow)
        self.name = name or self.workflow.name
        self._input_data = input_data
        self._when = when
        try:
            self._timezone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            msg = f"timezone={timezone!r} of schedule {self.name!r} is none that is known"
            raise ValueError(msg) from error
        if missed not in ("skip", "once", "all"):
            msg = f'missed={missed!r} of schedule {self.name!r} must be "skip", "once" or "all"'
            raise ValueError(msg)
        self._missed = missed
        if not isinstance(when, (str, timedelta)):
            msg = f"a schedule's time is a cron expression or a timedelta, not {when!r}"
            raise TypeError(msg)
        if isinstance(when, timedelta) and when <= timedelta():
            msg = f"the time between ticks of schedule {self.name!r} must be positive, not {when}"
            raise ValueError(msg)
        next(self.ticks(datetime.now(UTC)))

    def __repr__(self) -> str:
        return f"<Schedule {self.name!r}: {self._when}>"

    def ticks(self, after: datetime) -> Iterator[datetime]:
        """The times of its ticks, from the first one after a time on."""
        if isinstance(self._when, timedelta):
            # Counted from the epoch, so that every runner comes to the same times.
            tick = self.last_tick(after)
            while True:
                tick += self._when
                yield tick
        for tick in self._cron(after, is_backward=False):
            yield tick.astimezone(UTC)

    def last_tick(self, until: datetime) -> datetime:
        """The time of its last tick up to a time, that one included."""
        if isinstance(self._when, timedelta):
            return until - (until - _EPOCH) % self._when
        # It counts in whole minutes, and the one given is not among them.
        minute = until.replace(second=0, microsecond=0) + timedelta(minutes=1)
        return next(self._cron(minute, is_backward=True)).astimezone(UTC)

    async def keep(self, runner: DurableRunner, journal: Journal) -> None:
        """Start the runs of its ticks, as long as the runner is there."""
        while True:
            try:
                after = await self._begin(runner, journal)
                while True:
                    after = await self._start_next(after, runner, journal)
            except JournalError:
                # Asked again, it may be over; ticks that pass meanwhile have been missed.
                await anyio.sleep(_PAUSE_SECONDS)

    async def _begin(self, runner: DurableRunner, journal: Journal) -> datetime:
        """After which time ticks are to be started."""
        now = _now(runner)
        last = await journal.last_tick(self.name)
        if last is None or self._missed == "skip":
            await journal.set_tick(self.name, now.timestamp())
            return now
        return datetime.fromtimestamp(last, UTC)

    async def _start_next(
        self, after: datetime, runner: DurableRunner, journal: Journal
    ) -> datetime:
        """Wait for the next tick and start its run; when that was."""
        tick = next(self.ticks(after))
        while (seconds := tick.timestamp() - runner._timestamp()) > 0:
            await _sleep(seconds)
        if self._missed != "all":
            # Of several that have passed, where nobody was there or the machine slept, the last.
            tick = max(tick, self.last_tick(_now(runner)))
        await self._start(tick, runner)
        await journal.set_tick(self.name, tick.timestamp())
        return tick

    async def _start(self, tick: datetime, runner: DurableRunner) -> None:
        given = self._input_data
        try:
            await runner.start(
                self.workflow,
                given(tick) if callable(given) else given,
                run_id=f"{self.name}@{tick.isoformat()}",
                metadata={"schedule": self.name, "tick": tick.isoformat()},
            )
        except JournalError:
            raise
        except RunConflictError:
            # Another runner has started it, with what it was given there.
            logger.warning("tick %s of schedule %r had another input", tick, self.name)
        except Exception:
            # It must not end the runner, nor keep the next tick from coming.
            logger.exception("tick %s of schedule %r could not be started", tick, self.name)

    def _cron(self, after: datetime, *, is_backward: bool) -> Iterator[datetime]:
        try:
            from cronsim import CronSim, CronSimError
        except ImportError as error:
            msg = 'a cron expression needs the package cronsim: pip install "plait[schedules]"'
            raise ImportError(msg) from error
        assert isinstance(self._when, str)
        try:
            return CronSim(self._when, after.astimezone(self._timezone), is_backward)
        except CronSimError as error:
            msg = f"{self._when!r} of schedule {self.name!r} is no cron expression: {error}"
            raise ValueError(msg) from error


def _now(runner: DurableRunner) -> datetime:
    return datetime.fromtimestamp(runner._timestamp(), UTC)


async def _sleep(seconds: float) -> None:
    """Wait for as long, or until it is time to see whether the clock was set."""
    if seconds <= _LONGEST_SLEEP_SECONDS:
        await anyio.sleep(seconds)
        return
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_look_again, tasks.cancel_scope)
        await anyio.sleep(seconds)
        tasks.cancel_scope.cancel()


async def _look_again(scope: anyio.CancelScope) -> None:
    is_polling.set(True)
    await anyio.sleep(_LONGEST_SLEEP_SECONDS)
    scope.cancel()
