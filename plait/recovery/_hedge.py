"""Asking again before the first answer is there."""

from __future__ import annotations

import math
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, ClassVar

from plait.primitives._base import In, Out
from plait.primitives._compensation import Scope, scope_of, scoped
from plait.primitives._decision import Decision
from plait.primitives._errors import Abort, note_failure
from plait.primitives._outcome import results_of
from plait.primitives._wrapper import Wrapper

if TYPE_CHECKING:
    from plait.primitives._base import Operand, WorkflowPrimitive
    from plait.primitives._context import WorkflowContext

_WINNER = 0


class HedgePrimitive(Wrapper[In, Out]):
    """Executes a primitive, and once more where it has not answered after a while.

    The first answer is the result; the attempts that have not answered by then are cancelled and
    waited for ("The Tail at Scale", Dean and Barroso, 2013, who wait for the 95th percentile of the
    expected latency). An attempt that fails decides nothing while another one is under way; where
    all that were started have failed, the first failure is raised. What a lost attempt has done is
    undone where it has compensations. All have the same `context.idempotency_key`.

    Only what may be executed twice should be hedged.

    Args:
        primitive: What is executed.
        delay_seconds: How long each further attempt waits for those before it.
        max_hedges: How many further attempts there may be.

    Raises:
        ValueError: A number is not positive.
        TypeError: The primitive cannot be composed.

    Example:
        >>> import asyncio
        >>> from plait import HedgePrimitive, WorkflowContext, step
        >>> @step
        ... async def read(key: str, context: WorkflowContext) -> str:
        ...     await asyncio.sleep(60 if context.attempt == 1 else 0)
        ...     return f"{key} from replica {context.attempt}"
        >>> HedgePrimitive(read, delay_seconds=0.01).run_sync("user")
        'user from replica 2'
    """

    _repeats_input: ClassVar[bool] = True
    _kind: ClassVar[str] = "hedge"
    # Which attempt answers first does not follow from what they are.
    _is_leaf: ClassVar[bool] = True

    def __init__(
        self, primitive: Operand[In, Out], delay_seconds: float, *, max_hedges: int = 1
    ) -> None:
        if not 0 < delay_seconds < math.inf:
            msg = f"delay_seconds={delay_seconds!r} must be positive"
            raise ValueError(msg)
        if not max_hedges >= 1:
            msg = f"max_hedges={max_hedges!r} must be at least 1"
            raise ValueError(msg)
        super().__init__(primitive)
        self._attempts = max_hedges + 1
        self._delay = delay_seconds

    async def execute(self, input_data: In, context: WorkflowContext) -> Out:
        """Execute attempts until one answers."""
        race = _Race(self._primitive, input_data, self._delay)
        frames = [context.enter(self, number) for number in range(1, self._attempts + 1)]
        outer = scope_of(context)
        scopes = [Scope(context._run, outer) for _ in frames]
        try:
            gathered = await context.concurrently(map(partial, repeat(race.run), frames, scopes))
        except BaseException:
            _hand_over(scopes, outer)
            raise
        answers = [error for _, error in gathered.failures if isinstance(error, _Answer)]
        if not answers or any(isinstance(error, Abort) for _, error in gathered.failures):
            _hand_over(scopes, outer)
            results_of(gathered)
        winner = answers[0].frame._cursor
        if self._compensates:
            await _decision(winner).execute(input_data, context.enter(self, _WINNER))
        _hand_over([scopes.pop(winner - 1)], outer)
        for scope in scopes:
            await scope.undo(answers[0], context)
        result: Out = answers[0].result
        return result

    async def _repeat(self, input_data: Any, context: WorkflowContext) -> None:
        frame = context.enter(self, _WINNER)
        winner = await _decision(_WINNER).execute(input_data, frame)
        await self._primitive.execute(input_data, context.enter(self, winner))

    def _place(self, cursor: int) -> tuple[str, WorkflowPrimitive[Any, Any]]:
        return "/winner" if cursor == _WINNER else f"/attempt {cursor}", self._primitive

    def _spec(self) -> dict[str, Any]:
        return {
            "primitive": self._primitive,
            "delay_seconds": self._delay,
            "max_hedges": self._attempts - 1,
        }


class _Answer(Exception):  # noqa: N818 - it ends the race, and is no error
    """What ends a race: an attempt that has answered."""

    def __init__(self, frame: WorkflowContext, result: Any) -> None:
        super().__init__(result)
        self.frame = frame
        self.result = result


class _Race:
    """The attempts of one execution."""

    def __init__(
        self, primitive: WorkflowPrimitive[Any, Any], input_data: Any, delay: float
    ) -> None:
        self._primitive = primitive
        self._input = input_data
        self._delay = delay
        self._failures: list[Exception] = []
        self._under_way = 0

    async def run(self, frame: WorkflowContext, scope: Scope) -> None:
        """Make one attempt when it is its turn; raises what decides the race."""
        number = frame._cursor
        if number > 1:
            await frame.sleep(self._delay * (number - 1))
            if not frame.has_begun:
                frame.report("hedge", attempt=number)
        self._under_way += 1
        try:
            result = await scoped(partial(self._primitive.execute, self._input, frame), scope)
        except Exception as error:  # noqa: BLE001 - another attempt may answer
            note_failure(error, frame)
            self._failures.append(error)
        else:
            raise _Answer(frame, result)
        finally:
            self._under_way -= 1
        if not self._under_way:
            first, *others = self._failures
            for other in others:
                first.add_note(f"another attempt failed too: {other!r}")
            raise first


def _hand_over(scopes: list[Scope], outer: Scope | None) -> None:
    if outer is not None:
        for scope in scopes:
            outer.take(scope)


def _decision(winner: int) -> WorkflowPrimitive[Any, int]:
    """A node that keeps which attempt answered first."""
    return Decision(lambda _: winner, int)
