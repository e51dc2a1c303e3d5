import anyio
import pytest
from anyio.lowlevel import checkpoint

from plait import Failure, MapPrimitive, MockPrimitive, Success, WorkflowContext

pytestmark = pytest.mark.anyio


async def stream(elements):
    for element in elements:
        await checkpoint()
        yield element


class Countdown:
    """An async iterable that is no generator."""

    def __init__(self, start):
        self.number = start

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self.number == 0:
            raise StopAsyncIteration
        self.number -= 1
        return self.number


@pytest.mark.parametrize(
    "make",
    [
        lambda: [2, 1, 0],
        lambda: (2, 1, 0),
        lambda: range(2, -1, -1),
        lambda: {2: "a", 1: "b", 0: "c"},
        lambda: (n for n in [2, 1, 0]),
        lambda: iter([2, 1, 0]),
        lambda: stream([2, 1, 0]),
        lambda: Countdown(3),
    ],
    ids=["list", "tuple", "range", "dict", "generator", "iterator", "async generator", "async"],
)
@pytest.mark.parametrize("limit", [None, 1, 2])
async def test_results_are_a_list_in_the_order_of_the_elements(make, limit):
    async def work(number):
        # The later ones finish first.
        await anyio.sleep(number / 1000)
        return number * 10

    assert await MapPrimitive(work, max_concurrency=limit)(make()) == [20, 10, 0]


@pytest.mark.parametrize("make", [list, lambda: iter(()), lambda: stream([])])
async def test_of_nothing_comes_an_empty_list(make):
    assert await MapPrimitive(str)(make()) == []


async def test_a_list_is_mapped_all_at_once_by_default(gauge):
    async def work(_):
        with gauge:
            await anyio.sleep(0.001)

    await MapPrimitive(work)(range(150))
    assert gauge.peak == 150


@pytest.mark.parametrize("make", [lambda: iter(range(250)), lambda: stream(range(250))])
async def test_what_has_no_length_is_mapped_100_at_once_by_default(gauge, make):
    async def work(_):
        with gauge:
            await anyio.sleep(0.05)

    assert len(await MapPrimitive(work)(make())) == 250
    assert gauge.peak == 100


@pytest.mark.parametrize("make", [list, iter, stream])
async def test_max_concurrency_bounds_how_many_run_at_once(gauge, make):
    async def work(_):
        with gauge:
            await anyio.sleep(0.005)

    await MapPrimitive(work, max_concurrency=3)(make(range(12)))
    assert (gauge.peak, gauge.total) == (3, 12)


@pytest.mark.parametrize("is_async", [False, True])
async def test_an_element_is_asked_for_only_when_there_is_room_for_it(is_async):
    asked, done, ahead = 0, 0, []

    def elements():
        nonlocal asked
        for number in range(20):
            asked += 1
            ahead.append(asked - done)
            yield number

    async def work(_):
        nonlocal done
        await anyio.sleep(0.002)
        done += 1

    source = stream(elements()) if is_async else elements()
    await MapPrimitive(work, max_concurrency=4)(source)
    assert max(ahead) == 4
    assert done == 20


@pytest.mark.parametrize("make", [list, iter, stream])
async def test_the_first_failure_cancels_the_others_and_waits_until_they_have_ended(make):
    events = []

    async def work(number):
        if number == 1:
            await anyio.sleep(0.01)
            events.append("failed")
            raise ValueError("broken")
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
            events.append("cleaned up")

    with pytest.raises(ValueError, match="broken") as caught:
        await MapPrimitive(work, max_concurrency=3)(make(range(10)))
    assert events == ["failed", "cleaned up", "cleaned up"]
    assert caught.value.__notes__ == ["in step 'work' (work[1])"]


async def test_failures_of_the_others_become_notes_of_the_first():
    async def work(number):
        try:
            await anyio.sleep(0.01 if number else 60)
        finally:
            raise ValueError(number)

    with pytest.raises(ValueError, match="1") as caught:
        await MapPrimitive(work)([0, 1])
    assert caught.value.__notes__ == [
        "in step 'work' (work[1])",
        "another failed too: ValueError(0)",
    ]


async def test_after_a_failure_no_further_element_is_asked_for():
    source = iter(range(10))
    failing = MockPrimitive(side_effect=ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        await MapPrimitive(failing, max_concurrency=1)(source)
    assert next(source) == 1


def failing_source():
    yield 0
    yield 1
    raise OSError("connection lost")


async def failing_stream():
    for element in failing_source():
        await anyio.sleep(0.001)
        yield element


@pytest.mark.parametrize("make", [failing_source, failing_stream])
async def test_a_source_that_fails_half_way_fails_the_map(make):
    started, ended = set(), set()

    async def work(number):
        started.add(number)
        try:
            await anyio.sleep_forever()
        finally:
            ended.add(number)

    context = WorkflowContext(workflow_id="import")
    with pytest.raises(OSError, match="connection lost") as caught:
        await MapPrimitive(work).execute(make(), context)
    assert started == ended
    assert caught.value.__notes__ == ["in step 'import' (import)"]


async def test_a_source_that_fails_is_not_collected():
    with pytest.raises(OSError, match="connection lost"):
        await MapPrimitive(str, errors="collect")(failing_source())


class ClosableStream:
    """An async generator, and whether its `finally` has run."""

    def __init__(self):
        self.closed = False

    async def elements(self):
        try:
            for number in range(100):
                await checkpoint()
                yield number
        finally:
            self.closed = True


async def test_an_async_generator_is_closed_when_an_element_fails():
    source = ClosableStream()
    with pytest.raises(ValueError, match="broken"):
        await MapPrimitive(MockPrimitive(side_effect=ValueError("broken")))(source.elements())
    assert source.closed


async def test_an_async_generator_is_closed_when_the_map_is_cancelled():
    source = ClosableStream()
    with anyio.move_on_after(0.01) as scope:
        await MapPrimitive(MockPrimitive(delay=60), max_concurrency=2)(source.elements())
    assert scope.cancelled_caught
    assert source.closed


async def test_an_async_generator_may_await_while_it_is_closed():
    closed = []

    async def pages():
        try:
            while True:
                yield 60
        finally:
            await checkpoint()
            closed.append("closed")

    with anyio.move_on_after(0.01):
        await MapPrimitive(anyio.sleep, max_concurrency=2)(pages())
    assert closed == ["closed"]


async def test_a_source_that_fails_while_it_is_closed_does_not_hide_the_failure():
    async def elements():
        try:
            for number in range(10):
                yield number
        finally:
            raise RuntimeError("cannot close")

    with pytest.raises(ValueError, match="broken") as caught:
        await MapPrimitive(MockPrimitive(side_effect=ValueError("broken")), max_concurrency=1)(
            elements()
        )
    assert any("cannot close" in note for note in caught.value.__notes__)


async def test_collecting_makes_failures_values():
    outcomes = await MapPrimitive(int, errors="collect")(["1", "x", "3"])
    assert outcomes[0] == Success(1)
    assert isinstance(outcomes[1], Failure)
    assert outcomes[1].error.__notes__ == ["in step 'int' (int[1])"]
    assert outcomes[2] == Success(3)


async def test_maps_nest():
    assert await MapPrimitive(MapPrimitive(str))([[1, 2], [3]]) == [["1", "2"], ["3"]]


async def test_each_element_has_a_path_of_its_own():
    workflow = MapPrimitive((lambda _, context: context.path)).named("all")
    context = WorkflowContext(workflow_id="orders")
    assert await workflow.execute("ab", context) == ["orders[0]", "orders[1]"]


async def test_what_cannot_be_iterated_is_refused():
    with pytest.raises(TypeError, match="'int' object is not iterable"):
        await MapPrimitive(str)(5)


def test_options_out_of_their_range_are_refused():
    with pytest.raises(ValueError, match="max_concurrency=0 of a MapPrimitive"):
        MapPrimitive(str, max_concurrency=0)
    with pytest.raises(ValueError, match="errors='skip' of a MapPrimitive"):
        MapPrimitive(str, errors="skip")


@pytest.mark.parametrize("kind", [set, frozenset])
async def test_a_set_is_mapped_in_an_order_that_is_the_same_in_every_process(kind):
    assert await MapPrimitive(str.upper)(kind(["tea", "bread", "milk"])) == ["BREAD", "MILK", "TEA"]
