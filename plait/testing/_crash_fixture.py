"""Kill a run at one place of a test's own choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plait.primitives import Outcome
from plait.testing._crash import CrashReport, assert_crash_safe
from plait.testing._lives import During, live, storage
from plait.testing._mortal import MortalJournal
from plait.testing._selection import names
from plait.testing._surroundings import virtual_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plait.primitives import WorkflowPrimitive


@dataclass(frozen=True, slots=True)
class Survival:
    """What became of a run that was killed once.

    Attributes:
        outcome: How it ended.
        data: What `context.data` held in the end.
        before: The paths of the steps that were executed before the kill, in order.
        after: Those that were executed after it.
    """

    outcome: Outcome[Any]
    data: dict[str, Any]
    before: list[str]
    after: list[str]


class Crash:
    """Kills durable runs in process, and carries them on: what the fixture `crash` is."""

    async def __call__(
        self, workflow: WorkflowPrimitive[Any, Any], input_data: object, **options: Any
    ) -> CrashReport:
        """Kill a run at each write to its journal: see `assert_crash_safe`.

        Args:
            workflow: The workflow.
            input_data: Its input.
            options: Those of `assert_crash_safe`.

        Raises:
            CrashSafetyError: It does something else when it is killed and carried on.
        """
        return await assert_crash_safe(workflow, input_data, **options)

    async def at(
        self,
        node: str,
        workflow: WorkflowPrimitive[Any, Any],
        input_data: object,
        *,
        data: Mapping[str, Any] | None = None,
        during: During | None = None,
    ) -> Survival:
        """Kill a run once a node is done, but before that is recorded, and carry it on.

        Args:
            node: The name, path or pattern of the node.
            workflow: The workflow.
            input_data: Its input.
            data: What `context.data` starts with.
            during: Is given the run, before and after the kill, and executed beside it.

        Raises:
            LookupError: The run never came there.
        """
        async with virtual_time(), storage() as kept:
            journal = MortalJournal(kept)
            journal.dies_at = lambda _, path: names(node, path)
            killed = await live(workflow, input_data, journal, data=data, during=during)
            if not journal.is_dead:
                msg = f"{node!r} was never recorded: executed was {', '.join(killed.executed)}"
                raise LookupError(msg)
            life = await live(workflow, input_data, MortalJournal(kept), data=data, during=during)
        assert life.outcome is not None
        return Survival(life.outcome, life.data, killed.executed, life.executed)
