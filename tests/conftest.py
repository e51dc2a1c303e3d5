import pytest
from anyio.lowlevel import checkpoint

from plait import WorkflowContext
from plait.primitives import Runtime


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request):
    """Every async test runs on both event loops."""
    return request.param


class WatchedRuntime(Runtime):
    """Writes down the path of every node, in the order in which they start, and what it reports."""

    def __init__(self):
        super().__init__()
        self.paths = []
        self.events = []

    def context(self, **arguments):
        context = WorkflowContext(**arguments)
        context._runtime = self
        return context

    def perform(self, primitive, execute, input_data, context):
        self.paths.append(context.path)
        return super().perform(primitive, execute, input_data, context)

    def report(self, event, attributes, context):
        self.events.append((event, context.path, attributes))


class Clock(WatchedRuntime):
    """Time that passes only where something sleeps; `sleeps` are how long."""

    def __init__(self):
        super().__init__()
        self.now = 1000.0
        self.sleeps = []

    def time(self):
        return self.now

    async def sleep(self, seconds, context):
        self.sleeps.append(seconds)
        self.now += seconds
        await checkpoint()


class Gauge:
    """Counts how many tasks are inside of its `with` block: now, at most, and in all."""

    def __init__(self):
        self.now = self.peak = self.total = 0

    def __enter__(self):
        self.now += 1
        self.total += 1
        self.peak = max(self.peak, self.now)

    def __exit__(self, *_):
        self.now -= 1


@pytest.fixture
def runtime():
    return WatchedRuntime()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def gauge():
    return Gauge()
