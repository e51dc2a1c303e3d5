"""Kill a run wherever it can be killed, carry it on, and compare."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plait.durable import StepInterruptedError, WorkflowChangedError
from plait.primitives import Failure, Outcome, SerializationError
from plait.testing._faults import Fault, Tally, UnusedFaultError, faulty
from plait.testing._lives import During, Life, live, storage
from plait.testing._mortal import MortalJournal
from plait.testing._selection import UnknownNodeError
from plait.testing._surroundings import alike, called, same_outcome, told, virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from plait.primitives import WorkflowPrimitive


class CrashSafetyError(AssertionError):
    """A workflow does something else when it is killed and carried on."""


@dataclass(frozen=True, slots=True)
class CrashReport:
    """What `assert_crash_safe` has done.

    Attributes:
        writes: How many writes to the journal the run makes.
        kills: At how many of them it was killed and carried on.
        outcome: How the run ends, each time.
    """

    writes: int
    kills: int
    outcome: Outcome[Any]


@dataclass(frozen=True, slots=True)
class _Difference:
    what: str
    hint: str


async def assert_crash_safe(
    workflow: WorkflowPrimitive[Any, Any],
    input_data: object,
    *,
    setup: Callable[[], object] | None = None,
    state: Callable[[], object] | None = None,
    check: Callable[[Outcome[Any]], object] | None = None,
    on_crash: Callable[[], object] | None = None,
    during: During | None = None,
    faults: Sequence[Fault] = (),
    data: Mapping[str, Any] | None = None,
    max_kills: int = 200,
) -> CrashReport:
    """Kill a durable run at each write to its journal in turn, carry it on, and compare.

    Each time it must end as it does without a kill: with the same result or error, the same
    `context.data`, and, where `state` says what that is, the same state of the world outside. No
    step that had finished may be executed again. All this happens in this process, on a journal in
    memory and in virtual time; a killed process starts no step any more, but what it was in the
    middle of is cancelled, which a real one is not.

    The functions may be sync or async.

    Args:
        workflow: The workflow.
        input_data: Its input.
        setup: Puts the world outside back to how it is at first; called before each run.
        state: Says how the world outside is, as something that can be compared.
        check: Is given each run's outcome, and raises where that must not be.
        on_crash: Forgets what a process that dies forgets, such as a cache of the module's.
        during: Is given each run, killed or not, and executed beside it: it sends signals.
        faults: What goes wrong besides; see `fail`, `latency`, `hang` and `cancel`. What a fault
            does is counted over a kill: it happens to the world, not to the process.
        data: What `context.data` starts with.
        max_kills: How many kills at the most, evenly spread.

    Raises:
        UnknownNodeError: A fault is one of a node that the workflow does not have.
        UnusedFaultError: The run never came to the node of a fault.
        CrashSafetyError: It differs; the message says where it was killed, how, and what may be
            the cause.

    Example:
        >>> import anyio
        >>> from plait import WorkflowContext, step
        >>> from plait.testing import assert_crash_safe
        >>> charged = []
        >>> @step
        ... async def charge(total: int) -> str:
        ...     charged.append(total)
        ...     return "paid"
        >>> async def main() -> None:
        ...     await assert_crash_safe(charge, 42, setup=charged.clear, state=lambda: charged)
        >>> anyio.run(main)
        Traceback (most recent call last):
        ...
        plait.testing.CrashSafetyError: 'charge' is not crash-safe: ...
    """
    trial = _Trial(workflow, input_data, setup, state, check, on_crash, during, faults, data)
    async with virtual_time():
        writes, before = await trial.uninterrupted()
        _, again = await trial.uninterrupted()
        difference = trial.difference(before, again)
        if difference is not None:
            msg = (
                f"two runs of {workflow.name!r} differ although none was killed, so there is "
                f"nothing to compare with:\n{difference.what}\n"
                "Pass setup= to put the world outside back to how it is at first."
            )
            raise CrashSafetyError(msg)
        kills = _spread(writes, max_kills)
        found: dict[_Difference, list[str]] = {}
        for number in kills:
            killed_at, difference = await trial.killed(number, before)
            if difference is not None:
                found.setdefault(difference, []).append(killed_at)
    if found:
        raise CrashSafetyError(_message(workflow.name, len(kills), found))
    return CrashReport(writes, len(kills), before.outcome)


@dataclass(frozen=True, slots=True)
class _End:
    """What is compared."""

    outcome: Outcome[Any]
    data: dict[str, Any]
    state: object


@dataclass(frozen=True)
class _Trial:
    workflow: WorkflowPrimitive[Any, Any]
    input_data: object
    setup: Callable[[], object] | None
    state: Callable[[], object] | None
    check: Callable[[Outcome[Any]], object] | None
    on_crash: Callable[[], object] | None
    during: During | None
    faults: Sequence[Fault]
    data: Mapping[str, Any] | None

    async def uninterrupted(self) -> tuple[int, _End]:
        """How many writes a run makes that is not killed, and how it ends."""
        async with storage() as kept:
            journal = MortalJournal(kept)
            life = await self._live(await self._made(), journal)
        if isinstance(life.outcome, Failure) and isinstance(life.outcome.error, SerializationError):
            msg = (
                f"{self.workflow.name!r} is not crash-safe: a value has no form that a journal "
                "could give back"
            )
            raise CrashSafetyError(msg) from life.outcome.error
        if isinstance(life.outcome, Failure) and isinstance(life.outcome.error, _NO_FAULT):
            raise life.outcome.error
        return journal.writes, await self._end(life)

    async def killed(self, number: int, before: _End) -> tuple[str, _Difference | None]:
        """Where a run was killed, and what differs once it was carried on."""
        workflow = await self._made()
        async with storage() as kept:
            journal = MortalJournal(kept)
            journal.dies_at = lambda write, _: write == number
            killed = await self._live(workflow, journal)
            if not journal.is_dead:
                return "", self.difference(before, await self._end(killed))
            await called(self.on_crash)
            life = await self._live(workflow, MortalJournal(kept))
        twice = [path for path in life.executed if path in journal.finished]
        if twice:
            what = f"  {twice[0]!r} had finished before, and was executed again"
            return killed.killed_at, _Difference(what, "")
        return killed.killed_at, self.difference(before, await self._end(life))

    def difference(self, before: _End, after: _End) -> _Difference | None:
        """What differs between the ends of two runs."""
        error = after.outcome.error if isinstance(after.outcome, Failure) else None
        if not same_outcome(before.outcome, after.outcome):
            what = _compared("it ends with", told(before.outcome), told(after.outcome))
            hint = _OUTCOME_HINT
            if isinstance(error, WorkflowChangedError):
                hint = _CHANGED_HINT
            elif isinstance(error, StepInterruptedError):
                hint = _INTERRUPTED_HINT
            elif isinstance(before.outcome, Failure) and any(f.times for f in self.faults):
                hint = _FAULT_HINT
            return _Difference(what, hint)
        if not alike(before.data, after.data):
            what = _compared("context.data is", repr(before.data), repr(after.data))
            return _Difference(what, _DATA_HINT)
        if not alike(before.state, after.state):
            what = _compared("the state is", repr(before.state), repr(after.state))
            return _Difference(what, _STATE_HINT)
        return None

    async def _made(self) -> WorkflowPrimitive[Any, Any]:
        await called(self.setup)
        tally = Tally(self.faults)
        return faulty(self.workflow, self.faults, lambda: tally)

    async def _live(self, workflow: WorkflowPrimitive[Any, Any], journal: MortalJournal) -> Life:
        # A workflow may change its input; the runner's own copy is what counts.
        input_data = copy.deepcopy(self.input_data)
        return await live(workflow, input_data, journal, data=self.data, during=self.during)

    async def _end(self, life: Life) -> _End:
        assert life.outcome is not None
        await called(self.check, life.outcome)
        return _End(life.outcome, copy.deepcopy(life.data), copy.deepcopy(await called(self.state)))


_NO_FAULT = (UnknownNodeError, UnusedFaultError)
"""What a run ends with where it never came to a fault."""
_CHANGED_HINT = (
    "What a workflow does outside of its steps must be the same each time: take the time, random "
    "numbers and ids from the context (context.now(), context.random, context.uuid()), and do "
    "all that may turn out otherwise in a step."
)
_INTERRUPTED_HINT = (
    "A step that may run at most once was interrupted: a fallback around it may look whether it "
    "had its effect."
)
_FAULT_HINT = (
    "A fault with times= is counted over a kill: what happened to the process that was killed does "
    "not happen again to the one that carries on. Give it times=None to have it happen each time."
)
_OUTCOME_HINT = (
    "A step that had finished is not executed again: its result, or its error, comes from the "
    "journal. What it only left in memory (a global, an attribute, an object that two hold) is "
    "gone; context.data is kept."
)
_DATA_HINT = (
    "What a step writes to context.data by assigning to it is kept. An object that stands there "
    "and is a step's result or input as well is two objects in a run that is carried on: change it "
    "as context.data[key]."
)
_STATE_HINT = (
    "A step that was killed before its record was written is executed again, and so is its effect: "
    "pass context.idempotency_key to what drops a repeated request, look before, or make it "
    "at_most_once=True."
)


def _message(name: str, kills: int, found: dict[_Difference, list[str]]) -> str:
    count = sum(map(len, found.values()))
    parts = [f"{name!r} is not crash-safe: {count} of {kills} kills made a difference"]
    for difference, places in found.items():
        more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
        where = f"killed at {places[0]}{more}, and carried on"
        if not places[0]:
            where = f"not killed{more}, for it made fewer writes than the first run"
        parts.append(f"\n{where}:\n{difference.what}")
        if difference.hint:
            parts.append(difference.hint)
    return "\n".join(parts)


def _compared(what: str, before: str, after: str) -> str:
    return f"  without a kill {what}\n    {before}\n  with it\n    {after}"


def _spread(count: int, limit: int) -> list[int]:
    """Numbers from 1 to `count`, the last among them, `limit` at the most."""
    if count <= limit:
        return list(range(1, count + 1))
    return sorted({round(1 + place * (count - 1) / (limit - 1)) for place in range(limit)})
