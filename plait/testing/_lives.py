"""Durable runs that are killed in process, and looked at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from plait.durable import DurableRunner, JournalError, MemoryJournal, Run
from plait.durable._opened import opened
from plait.primitives import Failure, Outcome, Success, WorkflowContext, WorkflowPrimitive
from plait.primitives._errors import Abort
from plait.testing._front import Around, Fronted, FrontRuntime
from plait.testing._mortal import MortalJournal, is_outside

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from contextlib import AbstractAsyncContextManager

    from plait.durable import Journal
    from plait.primitives import Runtime
    from plait.testing._front import Execute

A = TypeVar("A")
T = TypeVar("T")

During = Callable[[Run[Any]], Awaitable[object]]

RUN_ID = "crash-test"


@dataclass
class Life:
    """What one process did, from its start to its end.

    Attributes:
        outcome: How the run ended; None where the process was killed before.
        data: What `context.data` held at the end.
        executed: The paths of the steps that were executed in earnest, in order.
        killed_at: The write that the process was killed at, in words.
    """

    outcome: Outcome[Any] | None = None
    data: dict[str, Any] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
    killed_at: str = ""


class _Watching(FrontRuntime):
    """Writes down what is executed in earnest, and lets nothing begin in a dead process."""

    def __init__(self, life: Life, journal: MortalJournal, inner: Runtime | None) -> None:
        super().__init__(inner)
        self._life = life
        self._journal = journal

    def perform(
        self,
        primitive: WorkflowPrimitive[A, T],
        execute: Callable[[Any, A, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: A,
        context: WorkflowContext,
    ) -> Coroutine[Any, Any, T]:
        """Execute a node, and write down a step that is executed."""

        def watched(
            execute: Execute,
            primitive: WorkflowPrimitive[A, T],
            input_data: A,
            context: WorkflowContext,
        ) -> Coroutine[Any, Any, T]:
            try:
                self._journal.check_alive()
            except JournalError as error:
                raise Abort(error) from error
            if primitive._is_leaf:
                self._life.executed.append(context.path)
            return execute(primitive, input_data, context)

        around = Around(primitive, execute, watched)
        return super().perform(primitive, around, input_data, context)

    async def whole(self, call: Coroutine[Any, Any, T], context: WorkflowContext) -> T:
        """Keep what the run's data is in the end."""
        try:
            return await call
        finally:
            self._life.data = context.data


async def live(
    workflow: WorkflowPrimitive[Any, Any],
    input_data: object,
    journal: MortalJournal,
    *,
    data: Mapping[str, Any] | None = None,
    during: During | None = None,
) -> Life:
    """Start the run, or carry it on, in a process of its own that may die.

    Args:
        workflow: The workflow.
        input_data: Its input.
        journal: The journal, which says when the process dies.
        data: What `context.data` starts with.
        during: Is given the run, and executed beside it.
    """
    life = Life()
    watched = Fronted(workflow, lambda inner: _Watching(life, journal, inner))

    async def run_to_its_end() -> None:
        # Without `workflows=`: starting the run is what carries it on, once.
        async with DurableRunner(journal, grace_seconds=0) as runner:
            run = await runner.start(
                watched, input_data, run_id=RUN_ID, correlation_id=RUN_ID, data=data
            )
            async with anyio.create_task_group() as tasks:
                if during is not None:
                    tasks.start_soon(_beside, during, run, journal)
                try:
                    life.outcome = Success(await run.result())
                except Exception as error:  # noqa: BLE001 - looked at by whoever asked for the life
                    life.outcome = Failure(error)
                tasks.cancel_scope.cancel()

    async def die() -> None:
        await journal.died.wait()
        process.cancel_scope.cancel()

    async with anyio.create_task_group() as process:
        process.start_soon(die)
        await run_to_its_end()
        process.cancel_scope.cancel()
    if journal.is_dead:
        life.outcome, life.killed_at = None, journal.killed_at
    return life


def storage() -> AbstractAsyncContextManager[Journal]:
    """What outlives processes."""
    return opened(MemoryJournal())


async def _beside(during: During, run: Run[Any], journal: MortalJournal) -> None:
    is_outside.set(True)
    try:
        await during(run)
    except JournalError:
        if not journal.is_dead:
            raise
