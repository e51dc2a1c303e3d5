"""What was cancelled by the code of a run, and how a replay comes to where that was."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from plait.durable._calls import ImperativeCalls
from plait.durable._recorder import FrontierReached
from plait.primitives._concurrency import backend
from plait.primitives._errors import Abort

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from plait.primitives import WorkflowContext, WorkflowPrimitive

In = TypeVar("In")
T = TypeVar("T")


class Cancellations(ImperativeCalls):
    """Replays what was under way in a node when it was cancelled."""

    __slots__ = ()

    async def _cancelled_again(
        self,
        primitive: WorkflowPrimitive[In, T],
        execute: Callable[[Any, In, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: In,
        context: WorkflowContext,
    ) -> None:
        """Come to where a node was cancelled, and wait for whoever will do so again."""
        if primitive.children or not primitive._is_leaf:
            # What had finished in it has changed the data, and may have to be undone.
            again = partial(super().perform, primitive, execute, input_data, context)
            self._cut_off[context.path] = None
            try:
                await backend().shielded(partial(self._until_settled, again))
            finally:
                self._cut_off.pop(context.path, None)
        await anyio.sleep_forever()

    async def _until_settled(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Have something replayed, and cancel it when it comes to nothing any more."""

        async def settled() -> None:
            replayed = -1
            while replayed != self.replayed:
                replayed = self.replayed
                await self._come_to_rest()
            raise FrontierReached("")

        gathered = await backend().gather([call, settled], None)
        for _, error in gathered.failures:
            if isinstance(error, Abort):
                raise error
