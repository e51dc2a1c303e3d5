import heapq
import itertools

import anyio
import pytest
from anyio.lowlevel import checkpoint

from plait import WorkflowContext
from plait.primitives import Runtime
from plait.primitives._concurrency import DeadlineExceededError


class VirtualTime(Runtime):
    """Time that jumps to the next timer once nothing is ready to run; keeps what was reported."""

    def __init__(self):
        super().__init__()
        self.now = 1000.0
        self.reports = []
        self._timers = []
        self._order = itertools.count()

    def context(self, **arguments):
        context = WorkflowContext(**arguments)
        context._runtime = self
        return context

    def time(self):
        return self.now

    def report(self, event, attributes, context):
        self.reports.append((event, attributes))

    async def sleep(self, seconds, context):
        woken = anyio.Event()
        self._at(self.now + seconds, woken.set)
        await woken.wait()

    async def within(self, seconds, call, context):
        with anyio.CancelScope() as scope:
            self._at(self.now + seconds, scope.cancel)
            return await call()
        raise DeadlineExceededError(call)

    async def drive(self, main):
        """Await `main()`, and let the time pass that it sleeps."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._pass)
            await main()
            tasks.cancel_scope.cancel()

    def _at(self, time, act):
        heapq.heappush(self._timers, (time, next(self._order), act))

    async def _pass(self):
        while True:
            for _ in range(20):
                await checkpoint()
            if self._timers:
                time, _, act = heapq.heappop(self._timers)
                self.now = max(self.now, time)
                act()
            else:
                await anyio.sleep(0.001)


@pytest.fixture
def virtual():
    return VirtualTime()


@pytest.fixture
def make_virtual():
    """For tests that hypothesis runs many times."""
    return VirtualTime
