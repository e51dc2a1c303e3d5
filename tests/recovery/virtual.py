"""Event loops whose time passes only when nothing else is left to do."""

import asyncio
import selectors

import anyio
import trio
import trio.testing

from plait import WorkflowContext
from plait.primitives import Runtime


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self):
        super().__init__()
        self.now = 0.0

    def select(self, timeout=None):
        if timeout is None or timeout > 0:
            assert timeout is not None, "every task waits for something that nobody will do"
            self.now += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self):
        return self._jumping.now


class _LoopTime(Runtime):
    """Takes the time from the event loop."""

    def time(self):
        return anyio.current_time()


def context(**arguments):
    """A context whose clock is the event loop's."""
    made = WorkflowContext(**arguments)
    made._runtime = _LoopTime()
    return made


def run(function, backend):
    """Run an async function in virtual time; `backend` is "asyncio" or "trio"."""
    if backend == "trio":
        return trio.run(function, clock=trio.testing.MockClock(autojump_threshold=0))
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(function())
