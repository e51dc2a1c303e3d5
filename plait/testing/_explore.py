"""The orders in which the branches of a workflow can get on."""

from __future__ import annotations

import copy
import math
import secrets
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from plait.primitives import Failure, Outcome, Success, WorkflowContext, WorkflowPrimitive
from plait.testing._faults import Fault, Tally, faulty
from plait.testing._front import Around, Fronted, FrontRuntime
from plait.testing._selection import UnknownNodeError
from plait.testing._surroundings import alike, called, same_outcome, told, virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence

    from plait.primitives import Runtime
    from plait.testing._front import Execute

A = TypeVar("A")
T = TypeVar("T")


class ExplorationError(AssertionError):
    """A workflow does something else in another order of its branches.

    Attributes:
        order: The order, for `explore(order=...)`.
    """

    def __init__(self, message: str, order: str) -> None:
        super().__init__(message)
        self.order = order


@dataclass(frozen=True, slots=True)
class Exploration:
    """What `explore` has done.

    Attributes:
        runs: How often the workflow was run.
        is_exhaustive: Whether these were all the orders there are.
        seed: What the orders were drawn by, where there are more.
        outcome: How the first run ended.
    """

    runs: int
    is_exhaustive: bool
    seed: int
    outcome: Outcome[Any]


async def explore(
    workflow: WorkflowPrimitive[Any, Any],
    input_data: object,
    *,
    runs: int = 100,
    seed: int | None = None,
    order: str | None = None,
    check: Callable[[Outcome[Any], WorkflowContext], object] | None = None,
    setup: Callable[[], object] | None = None,
    faults: Sequence[Fault] = (),
    data: Mapping[str, Any] | None = None,
) -> Exploration:
    """Run a workflow in the orders in which its concurrent steps can begin and end.

    One step at a time is let go on, to its beginning or from its end, whenever all else waits: in
    every order where these are few, else in orders drawn by a seed. Each run must end alike, with
    the same result or error and the same `context.data`, unless `check` says what must hold.

    Args:
        workflow: The workflow.
        input_data: Its input.
        runs: How many orders at the most.
        seed: What they are drawn by; a new one where none is given.
        order: The one order to run, as an `ExplorationError` names it.
        check: Is given each outcome and the context, and raises where that must not be.
        setup: Puts the world outside back to how it is at first; called before each run.
        faults: What goes wrong besides, in each run.
        data: What `context.data` starts with.

    Raises:
        ExplorationError: Runs end differently, or `check` refused one; the message has the order
            and the seed.
        UnknownNodeError: A fault is one of a node that the workflow does not have.
        UnusedFaultError: No run came to the node of a fault.
        ValueError: `runs` is less than 1.

    Example:
        >>> import anyio
        >>> from plait import WorkflowContext, step
        >>> from plait.testing import explore
        >>> @step
        ... async def first(_: None, context: WorkflowContext) -> str:
        ...     return context.data.setdefault("winner", "first")
        >>> @step
        ... async def second(_: None, context: WorkflowContext) -> str:
        ...     return context.data.setdefault("winner", "second")
        >>> async def main() -> None:
        ...     await explore(first | second, None, seed=1)
        >>> anyio.run(main)
        Traceback (most recent call last):
        ...
        plait.testing.ExplorationError: '(first | second)' ends differently ...
    """
    if runs < 1:
        msg = f"runs={runs!r} must be at least 1"
        raise ValueError(msg)
    seed = secrets.randbelow(2**32) if seed is None else seed
    choices = _Choices(seed, runs) if order is None else _Choices(seed, 1, _read(order))
    first: _Run | None = None
    count = 0
    over_all = Tally(faults)
    async with virtual_time() as clock:
        for choose in choices:
            await called(setup)
            run = _Run(choose)
            clock.on_idle.append(run.release)
            try:
                await run.execute(workflow, input_data, faults, data)
            finally:
                clock.on_idle.remove(run.release)
            count += 1
            over_all.reached |= run.tally.reached
            if first is None:
                first = run
                _refuse_unknown(run.outcome)
            problem = await _problem(first, run, check)
            if problem is not None:
                shown = "-".join(map(str, choose.made))
                msg = (
                    f"{str(workflow)!r} {problem}\n"
                    f"seed {seed}, run {count}; to see it again: explore(..., order={shown!r})"
                )
                raise ExplorationError(msg, shown) from run.refusal
    assert first is not None
    over_all.check(workflow.name)
    return Exploration(count, choices.is_exhaustive, seed, first.outcome)


class _Choice:
    """What was chosen in one run, and what there was to choose from.

    Args:
        pick: Chooses one of so many.
    """

    def __init__(self, pick: Callable[[int, int], int]) -> None:
        self._pick = pick
        self.made: list[int] = []
        self.counts: list[int] = []

    def __call__(self, count: int) -> int:
        if count == 1:
            return 0
        chosen = min(self._pick(len(self.made), count), count - 1)
        self.made.append(chosen)
        self.counts.append(count)
        return chosen


class _Choices:
    """One choice for each run: in turn where all can be taken, else drawn."""

    def __init__(self, seed: int, runs: int, first: Sequence[int] = ()) -> None:
        self._seed = seed
        self._runs = runs
        self._first = first
        self.is_exhaustive = False

    def __iter__(self) -> Iterator[_Choice]:
        choice = _Choice(_following(self._first))
        yield choice
        if math.prod(choice.counts) > self._runs:
            for number in range(1, self._runs):
                random = Random(f"{self._seed}:{number}")
                yield _Choice(lambda _, count, random=random: random.randrange(count))  # type: ignore[misc]
            return
        for _ in range(1, self._runs):
            following = _next(choice)
            if following is None:
                break
            choice = _Choice(_following(following))
            yield choice
        self.is_exhaustive = _next(choice) is None


class _Run(FrontRuntime):
    """One run: each step waits for its turn to begin, and for its turn to have ended."""

    def __init__(self, choose: _Choice) -> None:
        super().__init__()
        self._choose = choose
        self._waiting: dict[str, anyio.Event] = {}
        self.order: list[str] = []
        self.outcome: Outcome[Any]
        self.context = WorkflowContext()
        self.refusal: Exception | None = None
        self.tally: Tally

    async def execute(
        self,
        workflow: WorkflowPrimitive[Any, Any],
        input_data: object,
        faults: Sequence[Fault],
        data: Mapping[str, Any] | None,
    ) -> None:
        """Run the workflow."""
        self.context = WorkflowContext(
            correlation_id="explore", data=copy.deepcopy(dict(data or {}))
        )
        self.tally = Tally(faults)
        faulted = faulty(workflow, faults, lambda: self.tally, may_be_unused=True)
        gated = Fronted(faulted, self._in_front_of)
        try:
            self.outcome = Success(await gated.execute(copy.deepcopy(input_data), self.context))
        except Exception as error:  # noqa: BLE001 - compared with the other runs'
            self.outcome = Failure(error)

    def release(self) -> bool:
        """Let one that waits go on; whether there was one."""
        # By name: the order in which they came to wait is the event loop's.
        names = sorted(self._waiting)
        if not names:
            return False
        chosen = names[self._choose(len(names))]
        self.order.append(chosen)
        self._waiting.pop(chosen).set()
        return True

    def perform(
        self,
        primitive: WorkflowPrimitive[A, T],
        execute: Callable[[Any, A, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: A,
        context: WorkflowContext,
    ) -> Coroutine[Any, Any, T]:
        """Execute a node, and a step when its turn comes."""

        async def in_turn(
            execute: Execute,
            primitive: WorkflowPrimitive[A, T],
            input_data: A,
            context: WorkflowContext,
        ) -> Any:
            if primitive.children or primitive._numbers_children:
                return await execute(primitive, input_data, context)
            await self._turn(f"{context.path} begins")
            try:
                result = await execute(primitive, input_data, context)
            except Exception:
                await self._turn(f"{context.path} fails")
                raise
            await self._turn(f"{context.path} ends")
            return result

        around = Around(primitive, execute, in_turn)
        return super().perform(primitive, around, input_data, context)

    async def _turn(self, name: str) -> None:
        turn = self._waiting[name] = anyio.Event()
        try:
            await turn.wait()
        finally:
            self._waiting.pop(name, None)

    def _in_front_of(self, inner: Runtime | None) -> FrontRuntime:
        self.inner = inner
        return self


def _refuse_unknown(outcome: Outcome[Any]) -> None:
    """Raise what is wrong with the test, rather than have all runs end alike with it."""
    if isinstance(outcome, Failure) and isinstance(outcome.error, UnknownNodeError):
        raise outcome.error


async def _problem(
    first: _Run,
    run: _Run,
    check: Callable[[Outcome[Any], WorkflowContext], object] | None,
) -> str | None:
    if check is not None:
        try:
            await called(check, run.outcome, run.context)
        except Exception as error:  # noqa: BLE001 - what the user's check says
            run.refusal = error
            refused = f"{type(error).__name__}: {error}".rstrip(": ")
            return f"is refused in this order:\n{_shown(run)}\n  because of\n    {refused}"
        return None
    if not same_outcome(first.outcome, run.outcome):
        what, one, other = "ends with", told(first.outcome), told(run.outcome)
    elif not alike(first.context.data, run.context.data):
        what, one, other = "leaves context.data as", str(first.context.data), str(run.context.data)
    else:
        return None
    return (
        f"ends differently in another order of its steps:\n{_shown(first)}\n  {what}\n    {one}\n"
        f"and\n{_shown(run)}\n  {what}\n    {other}"
    )


def _shown(run: _Run) -> str:
    return "\n".join(f"    {name}" for name in run.order)


def _following(choices: Sequence[int]) -> Callable[[int, int], int]:
    return lambda place, _: choices[place] if place < len(choices) else 0


def _next(choice: _Choice) -> list[int] | None:
    """The choices after these, the last of which changes first; None after the last ones."""
    made = list(choice.made)
    while made:
        if made[-1] + 1 < choice.counts[len(made) - 1]:
            made[-1] += 1
            return made
        made.pop()
    return None


def _read(order: str) -> list[int]:
    try:
        return [int(part) for part in order.split("-") if part]
    except ValueError:
        msg = f"order={order!r} is not of the form '0-2-1', as an ExplorationError has it"
        raise ValueError(msg) from None
