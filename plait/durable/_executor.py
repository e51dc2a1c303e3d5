"""Executes runs: takes them from the journal, carries them out, and lets go of those that wait."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc

from plait.durable._codec import encode_error
from plait.durable._environment import Environment
from plait.durable._errors import JournalError, LeaseLostError, RunCancelledError
from plait.durable._execution import Execution, abort_in, current_run
from plait.durable._recorder import suspended
from plait.durable._runtime import DurableRuntime
from plait.durable._topics import Topics, end_topic, needs_in, turn_topic
from plait.primitives import Failure, Outcome, _ambient, failed_path
from plait.primitives._concurrency import backend
from plait.primitives._context import current_context
from plait.primitives._errors import Abort
from plait.primitives._polling import is_polling
from plait.primitives._services import EVENT_LOOP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from plait.durable._blobs import Blobs
    from plait.durable._codec import Codec
    from plait.durable._environment import Durability
    from plait.durable._journal import Journal
    from plait.durable._recorder import Recorder
    from plait.durable._stored import QueueLimits, Record, RunStatus, StoredRun
    from plait.primitives import WorkflowPrimitive

_RUNS_AT_ONCE = 1000
"""How many runs are taken from the journal in one transaction."""
_POLL_SECONDS = 1.0
"""How often to look for runs whose runner is gone, which nothing tells of."""

logger = logging.getLogger("plait.durable")


class Executor:
    """Executes the runs of some workflows over a journal.

    Args:
        journal: Where the runs are.
        codec: How values are encoded.
        blobs: Where large payloads go.
        workflows: What is executed, by the name that runs know it by.
        queues: The limits of queues.
        suspend_after: How long a run that does nothing but wait stays in memory, in seconds.
        durability: How soon records are on disk.
        capabilities: What steps may need that is had here.
        max_running: How many runs that were taken from the journal are executed at once.
    """

    def __init__(
        self,
        journal: Journal,
        codec: Codec,
        blobs: Blobs,
        workflows: Mapping[str, WorkflowPrimitive[Any, Any]],
        queues: Sequence[QueueLimits],
        *,
        suspend_after: float,
        durability: Durability,
        capabilities: frozenset[str] = frozenset(),
        max_running: float = math.inf,
    ) -> None:
        self.journal = journal
        self.codec = codec
        self.blobs = blobs
        self.workflows = workflows
        self._queues = queues
        self._suspend_after = suspend_after
        self._durability: Durability = durability
        self._capabilities = capabilities
        self._max_running = max_running
        self._taken = 0
        self._claiming = anyio.Lock()
        self.topics = Topics(self.nudge)
        self.executions: dict[str, Execution] = {}
        self._idle: dict[Execution, float] = {}
        self._is_to_claim = True
        self._is_leaving = self._has_left = False
        self.lost_lease: LeaseLostError | None = None
        """Why nothing is to be begun here until there is a new lease."""
        self._renewed = anyio.Event()
        self._nudged = anyio.Event()
        self.awaited: defaultdict[str, dict[str, list[Any]]] = defaultdict(dict)
        """For which payload types the runs of a workflow have waited here, by the signals."""
        # What a new context is given: the runner's time is that of its runs.
        self._clock = _ambient.runtime() or EVENT_LOOP

    def timestamp(self) -> float:
        """Seconds since the epoch."""
        return self._clock.timestamp()

    def spawn_in(self, task_group: anyio.abc.TaskGroup) -> None:
        """Have a task group hold the tasks of runs."""
        self._environment = Environment(
            self.journal,
            self.codec,
            self.blobs,
            self.topics,
            task_group.start_soon,
            backend().call_soon(),
            self._note_idle,
            self.awaited,
            self._durability,
            self._capabilities,
        )
        self._begin_task = backend().spawner(task_group)

    def begin(self, task_group: anyio.abc.TaskGroup) -> None:
        """Begin to take runs from the journal."""
        self.spawn_in(task_group)
        self._is_leaving = self._has_left = False
        task_group.start_soon(self._look_for_work)
        task_group.start_soon(self._listen)

    async def leave(self, grace_seconds: float) -> None:
        """Wait a while for the runs that are under way, then let go of them."""
        self._is_leaving = True
        try:
            with anyio.move_on_after(grace_seconds):
                while self.executions:
                    await self._one_ended()
        finally:
            with anyio.CancelScope(shield=True):
                while self.executions:
                    for execution in self.executions.values():
                        run_id = execution.stored.start.run_id
                        execution.ending.outcome = Failure(suspended(run_id))
                        execution.let_go()
                    await self._one_ended()
                self._has_left = True

    async def _one_ended(self) -> None:
        await next(iter(self.executions.values())).ending.wait()

    def nudge(self) -> None:
        """Have the journal looked at for runs that are due."""
        self._is_to_claim = True
        self._nudged.set()

    async def claim(self) -> float | None:
        """Take runs that are to be executed, and begin with them; when the next one is due."""
        # One claim at a time: what it may take follows from what was taken before.
        async with self._claiming:
            while not self._is_leaving:
                self._is_to_claim = False
                room = int(min(_RUNS_AT_ONCE, self._max_running - self._taken))
                try:
                    claimed = await self.journal.claim(
                        self.workflows,
                        self._queues,
                        self.timestamp(),
                        room,
                        self._capabilities,
                    )
                except LeaseLostError as error:
                    self._lose(error)
                    return None
                for stored, records in claimed.runs:
                    self._take(stored, records)
                for turn in claimed.turns:
                    self.topics.publish(turn_topic(turn))
                if self._taken >= self._max_running:
                    # One that ends has it looked again.
                    return None
                if len(claimed.runs) < room:
                    return claimed.next_due
            return None

    def _take(self, stored: StoredRun, records: Sequence[Record]) -> None:
        execution = self.launch(stored, records)
        self._taken += not execution.is_taken
        execution.is_taken = True

    def _lose(self, error: LeaseLostError) -> None:
        """Have what is executed here end, since another runner may be executing it."""
        if self.lost_lease is None:
            self.lost_lease, self._renewed = error, anyio.Event()
            logger.warning(
                "%s; the %d that were under way here are stopped", error, len(self.executions)
            )
            for execution in list(self.executions.values()):
                execution.lose()
            self.nudge()

    async def leased(self) -> None:
        """Wait for a new lease in place of the one that was lost."""
        await self._renewed.wait()

    async def _begin_anew(self) -> None:
        """Go on with a new lease, once nothing of what was begun with the old one can write."""
        while self.executions:
            await self._one_ended()
        await self.journal.renew()
        self.lost_lease = None
        self._renewed.set()
        logger.warning("going on with a new lease")
        self.topics.publish_all()

    def launch(self, stored: StoredRun, records: Sequence[Record]) -> Execution:
        """Execute a run that this runner has claimed."""
        execution = self.executions.get(stored.start.run_id)
        # One that is over has told the journal so, which gives the run out again at once.
        if execution is not None and not execution.is_over:
            return execution
        runtime = self.runtime(stored)
        workflow = self.workflows[stored.start.workflow]
        execution = Execution(workflow, stored, records, runtime)
        runtime.is_new = not records
        if self._has_left:
            # It was handed in before, and is there for the next runner.
            execution.ending.outcome = Failure(suspended(runtime.run_id))
            execution.ending.set()
            return execution
        self.executions[stored.start.run_id] = execution
        if self.lost_lease is not None:
            # It was claimed with the old lease, before that was known to be lost.
            execution.lose()
        self._begin_task(self._execute, execution)
        return execution

    def runtime(self, stored: StoredRun) -> DurableRuntime:
        """What executes a run."""
        return DurableRuntime(stored, self._environment, _ambient.runtime())

    async def _execute(self, execution: Execution) -> None:
        """Execute a run until it has ended, or something ends it from inside or outside."""
        runtime, run_id = execution.runtime, execution.stored.start.run_id
        current_run.set(runtime)
        current_context.set(None)
        ended: tuple[Outcome[Any], bytes] | None = None
        try:
            try:
                with runtime.stop:
                    ended = await execution.carried_out(self.codec, self.blobs)
            except BaseException as error:
                if abort_in(error) is None:
                    raise
            # Whatever code of the user's makes of being ended is not how the run ended. Where it
            # has ended, who asks it to stop from here on comes too late.
            if ended is not None and not runtime.is_closing:
                await self._finish(execution, *ended)
            elif execution.ending.outcome is None and not execution.is_lost:
                await self._stopped(execution)
        except JournalError as error:
            self._failed(execution, error)
        except Abort as abort:
            # What was noted before could not be written when it came to keep how it ended.
            self._failed(execution, abort.error)
        except anyio.get_cancelled_exc_class():
            # Not by a scope, since none outside reaches into this one: by asyncio's `Task.cancel`.
            # The task ends here; the run is left as it is, as the program may be ending. Once the
            # journal has been told how it ended, that is what those who wait for it find there.
            if not execution.is_over:
                msg = f"the task that executed run {run_id!r} was cancelled, and the run was not"
                execution.ending.outcome = Failure(JournalError(msg))
        finally:
            runtime.is_closing = True
            self._idle.pop(execution, None)
            if self.executions.get(run_id) is execution:
                del self.executions[run_id]
            execution.ending.set()
            self.topics.publish(end_topic(run_id))
            is_room_made = execution.is_taken and self._taken >= self._max_running
            self._taken -= execution.is_taken
            if is_room_made or execution.stored.start.queue is not None:
                self.nudge()

    def _failed(self, execution: Execution, error: Exception) -> None:
        if isinstance(error, LeaseLostError):
            # It goes on in another runner, and those who wait for its end wait for that.
            execution.is_lost = True
            self._lose(error)
        else:
            if not execution.ending.is_awaited:
                # Nobody here is told, and the run would stand still in silence.
                run_id = execution.stored.start.run_id
                logger.error("run %r is left as it is: %s", run_id, error)
            execution.ending.outcome = Failure(error)

    async def _finish(self, execution: Execution, outcome: Outcome[Any], payload: bytes) -> None:
        """Keep how a run ended."""
        runtime, run_id = execution.runtime, execution.stored.start.run_id
        status: RunStatus = "completed"
        failures: list[str] = []
        if isinstance(outcome, Failure):
            error = outcome.error
            is_cancelled = isinstance(error, RunCancelledError) and error.run_id == run_id
            status = "cancelled" if is_cancelled else "failed"
            failures = sorted({*runtime.to_do_again(), failed_path(error) or ""})
        await runtime.say()
        await runtime.flush()
        payload = await self.blobs.put(payload)
        execution.is_over = True
        await self.journal.finish(execution.stored.key, status, payload, failures, self.timestamp())
        execution.ending.outcome = outcome
        if failures:
            # It may have held entities: who is next for them is told by a claim.
            self.nudge()

    async def _stopped(self, execution: Execution) -> None:
        """Keep that a run was cancelled, or what it waits for out of memory."""
        runtime, stored = execution.runtime, execution.stored
        if runtime.aborted_by is not None:
            # It is left as it is: what is wrong may be mended.
            self._failed(execution, runtime.aborted_by)
        elif execution.waits is None:
            error = RunCancelledError(stored.start.run_id)
            await self._finish(execution, Failure(error), encode_error(self.codec, error))
        else:
            await runtime.say()
            await runtime.flush()
            execution.is_over = True
            await self.journal.suspend(stored.key, execution.waits, self.timestamp())
            # Something may have come meanwhile.
            self.nudge()

    def _note_idle(self, runtime: Recorder, is_idle: bool) -> None:
        execution = self.executions.get(runtime.run_id)
        if execution is None or execution.runtime is not runtime:
            # It is replayed only, to verify it.
            return
        if not is_idle:
            self._idle.pop(execution, None)
        elif execution not in self._idle:
            if not self._idle:
                self._nudged.set()
            # Who looks whether something came, and finds nothing, has not done anything.
            counts, since = execution.idle_since
            if counts != execution.ending.counts:
                since = self._clock.time()
            execution.idle_since = (execution.ending.counts, since)
            self._idle[execution] = since

    def _suspend_idle(self) -> float:
        """Let go of the runs that do nothing but wait; in how many seconds to do so again."""
        now, wall = self._clock.time(), self.timestamp()
        for execution, since in list(self._idle.items()):
            waits = execution.runtime.waits
            is_to_move = any(needs_in(wait.topic) for wait in waits)
            # A cancelled one is everybody's, whatever it needs: it would come back at once.
            if not is_to_move or execution.runtime.is_cancelled:
                if now - since < self._suspend_after:
                    continue
                ends = [wait.until for wait in waits if wait.until is not None]
                if ends and min(ends) - wall < self._suspend_after:
                    # Soon over: replaying it would cost more than keeping it.
                    self._idle[execution] = self._idle.pop(execution) + self._suspend_after
                    continue
            del self._idle[execution]
            execution.waits = waits
            execution.let_go()
        ends_idling = [since + self._suspend_after - now for since in self._idle.values()]
        return min(ends_idling, default=math.inf)

    async def _look_for_work(self) -> None:
        next_due: float | None = None
        while True:
            try:
                if self.lost_lease is not None:
                    await self._begin_anew()
                if self._is_to_claim or (next_due or 0) <= self.timestamp():
                    next_due = await self.claim()
                    for run_id in await self.journal.cancelled():
                        if run_id in self.executions:
                            self.executions[run_id].runtime.cancel()
            except JournalError:
                # The runs that need it say so; this may be over when it is asked again.
                next_due = None
            seconds = self._suspend_idle()
            if next_due is not None:
                seconds = min(seconds, max(0.0, next_due - self.timestamp()))
            with anyio.move_on_after(seconds) as waited:
                await self._nudged.wait()
            self._nudged = anyio.Event()
            self._is_to_claim |= waited.cancelled_caught

    async def _listen(self) -> None:
        """Have everybody look again when another process wrote something, and now and then."""
        is_polling.set(True)
        while True:
            try:
                if await self.journal.changed(_POLL_SECONDS):
                    self.topics.publish_all()
            except JournalError:
                await anyio.sleep(_POLL_SECONDS)
            self.nudge()
