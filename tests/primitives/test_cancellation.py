"""Cancelled from outside, every composite waits until what it started has ended."""

import asyncio

import anyio
import pytest
from anyio.lowlevel import checkpoint

from plait import (
    CachePrimitive,
    ConditionalPrimitive,
    FallbackPrimitive,
    MapPrimitive,
    MockPrimitive,
    ParallelPrimitive,
    ReducePrimitive,
    RetryPrimitive,
    RouterPrimitive,
    TimeoutPrimitive,
    WorkflowPrimitive,
    step,
)

pytestmark = pytest.mark.anyio


class Patient(WorkflowPrimitive):
    """Waits until it is cancelled, then takes some time to clean up."""

    def __init__(self):
        self.started = self.ended = 0

    async def execute(self, input_data, context):
        self.started += 1
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
            self.ended += 1


class Delegate(WorkflowPrimitive):
    def __init__(self, child):
        self.child = child

    @property
    def children(self):
        return (self.child,)

    async def execute(self, input_data, context):
        return await self.child.execute(input_data, context)


def stream(elements):
    async def generate():
        for element in elements:
            yield element

    return generate()


def never(*_):
    pytest.fail("this was not to be called")


class Never(MockPrimitive):
    def __init__(self):
        super().__init__("never", side_effect=never)


COMPOSITES = {
    "sequential": (lambda child: step(list) >> child >> Never(), 1),
    "parallel": (lambda child: child | child | child, 3),
    "parallel, bounded": (
        lambda child: ParallelPrimitive([child, child, Never()], max_concurrency=2),
        2,
    ),
    "parallel, collecting": (lambda child: ParallelPrimitive([child] * 2, errors="collect"), 2),
    "map": (MapPrimitive, 2),
    "map, collecting": (lambda child: MapPrimitive(child, errors="collect"), 2),
    "map of a stream": (lambda child: step(stream) >> MapPrimitive(child), 2),
    "map and reduce": (lambda child: MapPrimitive(child) >> ReducePrimitive(max, 0), 2),
    "reduce": (lambda child: ReducePrimitive(lambda _, element: child(element), 0), 1),
    "conditional": (lambda child: ConditionalPrimitive(bool, child, Never()), 1),
    "condition": (lambda child: ConditionalPrimitive(lambda _: child(0), Never(), Never()), 1),
    "router": (lambda child: RouterPrimitive({"a": child, "b": Never()}, lambda _: "a"), 1),
    "router, several": (
        lambda child: RouterPrimitive({"a": child, "b": child}, lambda _: ["a", "b"]),
        2,
    ),
    "retry": (RetryPrimitive, 1),
    "fallback": (lambda child: FallbackPrimitive(child, [Never()]), 1),
    "fallback's second": (
        lambda child: FallbackPrimitive(MockPrimitive(side_effect=OSError), [child, Never()]),
        1,
    ),
    "timeout": (lambda child: TimeoutPrimitive(child, 60), 1),
    "cache": (lambda child: CachePrimitive(child, 60), 1),
    "user's own": (Delegate, 1),
    "nested": (
        lambda child: MapPrimitive(TimeoutPrimitive(RetryPrimitive(child | child) >> Never(), 60)),
        4,
    ),
}


@pytest.fixture(params=COMPOSITES, ids=lambda name: name.replace(" ", "-"))
def composite(request):
    return COMPOSITES[request.param]


async def test_a_cancel_scope_around_a_run_ends_everything_in_it(composite):
    compose, expected = composite
    patient = Patient()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(compose(patient).__call__, [1, 2])
            await anyio.wait_all_tasks_blocked()
            assert (patient.started, patient.ended) == (expected, 0)
            scope.cancel()
    assert scope.cancelled_caught
    assert patient.ended == expected


async def test_a_deadline_around_a_run_ends_everything_in_it(composite):
    compose, expected = composite
    patient = Patient()
    with anyio.move_on_after(0.05) as scope:
        await compose(patient)([1, 2])
    assert scope.cancelled_caught
    assert patient.started == patient.ended == expected


def test_cancelling_the_task_ends_everything_in_it_under_asyncio(composite):
    compose, expected = composite
    patient = Patient()

    async def main():
        task = asyncio.create_task(compose(patient)([1, 2]))
        await anyio.wait_all_tasks_blocked()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert patient.started == patient.ended == expected
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_a_task_that_is_cancelled_twice_waits_all_the_same():
    patient = Patient()

    async def main():
        task = asyncio.create_task((patient | patient)(None))
        await anyio.wait_all_tasks_blocked()
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert patient.ended == 2

    asyncio.run(main())


async def test_cancelled_while_a_failure_stops_the_others_it_still_waits():
    patient, failed = Patient(), anyio.Event()

    async def fail(_):
        await anyio.wait_all_tasks_blocked()
        failed.set()
        raise ValueError("broken")

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon((patient | fail).__call__, None)
            await failed.wait()
            await checkpoint()
            assert patient.ended == 0
            scope.cancel()
    assert scope.cancelled_caught
    assert patient.ended == 1


async def test_a_run_is_cancelled_between_two_retries():
    failing = MockPrimitive(side_effect=OSError)
    with anyio.move_on_after(0.01) as scope:
        await RetryPrimitive(failing, jitter=False)(None)
    assert scope.cancelled_caught
    assert failing.call_count == 1
