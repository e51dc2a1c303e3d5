"""Virtual time on trio, by its own `MockClock`.

That clock is chosen when trio starts, which a test plugin has done already: it is put in the place
of the one that runs. It does not know of threads either, so that a task of ours has it jump.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import trio
import trio.abc
import trio.lowlevel
import trio.testing
from trio._core._run import GLOBAL_RUN_CONTEXT

from plait.primitives._polling import is_polling
from plait.testing._clock._deadlock import TaskState
from plait.testing._clock._owed import OwedAnswers
from plait.testing._clock._turns import Turns, next_timers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from plait.testing._clock._virtual import VirtualClock

_POLL_SECONDS = 0.001


class TrioTime:
    """The time of the trio run that the caller is in.

    Args:
        clock: Whose it is.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._runner = GLOBAL_RUN_CONTEXT.runner
        self._real = trio.lowlevel.current_clock()
        self._mock = trio.testing.MockClock()
        self._owed = OwedAnswers()
        # Whole seconds from a whole number are exact.
        self._start = float(math.ceil(trio.current_time()))
        self._mock.jump(self._start)
        self._scope = trio.CancelScope()
        self._steps = _Steps()
        self._turns = Turns(clock)

    @property
    def elapsed(self) -> float:
        """Seconds since it was made."""
        return self._mock.current_time() - self._start

    def time(self) -> float:
        """What `trio.current_time` says."""
        return self._mock.current_time()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._mock.jump(seconds)

    def start(self) -> None:
        """Take over from trio's own clock."""
        self._runner.clock = self._mock
        trio.lowlevel.add_instrument(self._steps)
        self._steps.ours = trio.lowlevel.spawn_system_task(self._jump)

    def stop(self) -> None:
        """Give trio its own clock back."""
        self._scope.cancel()
        trio.lowlevel.remove_instrument(self._steps)
        self._runner.clock = self._real

    def call_soon(self, function: Callable[[], None]) -> None:
        """Have a function called; this is trio's thread already."""
        function()

    def tasks(self) -> Iterable[TaskState]:
        """What the tasks are doing."""
        waiting = list(filter(None, [self._runner.main_task]))
        while waiting:
            task = waiting.pop()
            yield TaskState(task.name, task.coro)
            for nursery in task.child_nurseries:
                waiting.extend(nursery.child_tasks)

    async def _jump(self) -> None:
        with self._scope:
            wait, steps, quiet_since = 0.0, -1, 0.0
            while True:
                await trio.testing.wait_all_tasks_blocked(wait)
                idle_at = self._steps.idle_at
                await trio.lowlevel.cancel_shielded_checkpoint()
                if self._steps.count != idle_at:
                    continue  # others had waited for all to be blocked, and have gone on since
                if self._owed.any() or trio.lowlevel.current_statistics().run_sync_soon_queue_size:
                    # In this order: a thread hands its answer in before it says that it has.
                    wait, steps = _POLL_SECONDS, -1
                    continue
                wait = 0
                if self._clock.found_work():
                    continue
                if steps != self._steps.count:
                    steps, quiet_since = self._steps.count, time.monotonic()
                timer, poll = next_timers(self._runner.deadlines._heap, _deadline, _is_poll)
                turn = self._turns.next(timer, poll)
                left = quiet_since + turn.quiet_seconds - time.monotonic()
                if left > 0:
                    wait = min(left, _POLL_SECONDS)
                elif turn.until is None:
                    self._clock.give_up()
                else:
                    self._turns.took(turn, timer)
                    self.advance(max(turn.until - self.time(), 0))


def _deadline(entry: tuple[float, int, trio.CancelScope]) -> float | None:
    deadline, _, scope = entry
    return deadline if scope._registered_deadline == deadline else None


def _is_poll(entry: tuple[float, int, trio.CancelScope]) -> bool:
    status = entry[2]._cancel_status
    tasks = [] if status is None else list(_tasks(status))
    return bool(tasks) and all(task.context.get(is_polling, False) for task in tasks)


def _tasks(status: Any) -> Iterator[trio.lowlevel.Task]:
    """The tasks in a cancel scope, and in those inside of it."""
    yield from status._tasks
    for inner in status._children:
        yield from _tasks(inner)


class _Steps(trio.abc.Instrument):
    """Counts the steps that tasks make, other than ours."""

    def __init__(self) -> None:
        self.count = self.idle_at = 0
        self.ours: trio.lowlevel.Task | None = None

    def after_io_wait(self, timeout: float) -> None:
        """Note how many there were when nothing was left to do."""
        self.idle_at = self.count

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count one."""
        self.count += task is not self.ours
