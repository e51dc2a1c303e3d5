"""Every execution passes through one door, and a runtime behind it sees them all."""

import subprocess
import sys

import anyio
import pytest
import sniffio

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
    WorkflowContext,
    WorkflowPrimitive,
    step,
)
from plait.primitives import Runtime
from plait.recovery import constant

pytestmark = pytest.mark.anyio


class Scale(WorkflowPrimitive[int, int]):
    def __init__(self, factor):
        self.factor = factor

    async def execute(self, input_data: int, context: WorkflowContext) -> int:
        return input_data * self.factor


class LoggedScale(Scale):
    async def execute(self, input_data: int, context: WorkflowContext) -> int:
        context.data["scaled"] = input_data
        return await super().execute(input_data, context)


class Twice(WorkflowPrimitive[int, tuple]):
    """A composite of the user's own: it lists what it executes."""

    def __init__(self, child):
        self.child = child

    @property
    def children(self):
        return (self.child,)

    async def execute(self, input_data: int, context: WorkflowContext) -> tuple:
        first = await self.child.execute(input_data, context)
        return first, await self.child.execute(input_data, context)


class LoggedTwice(Twice):
    async def execute(self, input_data: int, context: WorkflowContext) -> tuple:
        return await super().execute(input_data, context)


@step
def where(_: object, context: WorkflowContext) -> str:
    return context.path


async def test_a_class_of_the_users_own_is_a_primitive():
    assert await (Scale(2) >> Scale(5) >> str)(3) == "30"
    assert await Scale(2).execute(3, WorkflowContext()) == 6


async def test_execute_wants_a_context():
    for nothing in (None, {}, "context"):
        with pytest.raises(TypeError, match=r"Scale.execute.* takes a WorkflowContext, got"):
            await Scale(2).execute(3, nothing)
    with pytest.raises(TypeError, match=r"len.execute.* pass WorkflowContext\(\), or call `await"):
        await step(len).execute("abc", None)
    with pytest.raises(TypeError, match=r"sequential.execute"):
        await (step(len) >> str).execute("abc", None)


def test_execute_must_return_and_not_yield():
    with pytest.raises(TypeError, match=r"Stream.execute is a generator"):

        class Stream(WorkflowPrimitive):
            async def execute(self, input_data, context):
                yield input_data

    with pytest.raises(TypeError, match=r"Lines.execute is a generator"):

        class Lines(WorkflowPrimitive):
            def execute(self, input_data, context):
                yield input_data


def test_a_class_without_execute_is_abstract():
    class Unfinished(WorkflowPrimitive):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Unfinished()


def failing_once():
    return MockPrimitive("flaky", side_effect=[OSError(), "done"])


@pytest.mark.parametrize(
    ("compose", "paths"),
    [
        (lambda: step(list), ["w"]),
        (lambda: step(list) >> len, ["w", "w/1:list", "w/2:len"]),
        (
            lambda: step(list) >> (step(len) >> abs).named("n"),
            ["w", "w/1:list", "w/2:n", "w/2:n/1:len", "w/2:n/2:abs"],
        ),
        (lambda: ParallelPrimitive({"a": len}), ["w", "w/a"]),
        (lambda: ParallelPrimitive([len, list], max_concurrency=1), ["w", "w/1:len", "w/2:list"]),
        (lambda: MapPrimitive(str, max_concurrency=1), ["w", "w[0]", "w[1]"]),
        (lambda: ReducePrimitive(max, 0), ["w"]),
        (lambda: ConditionalPrimitive(bool, len), ["w", "w/condition", "w/then"]),
        (lambda: ConditionalPrimitive(lambda _: 0, len), ["w", "w/condition"]),
        (lambda: RouterPrimitive({"a": len}, lambda _: "a"), ["w", "w/router", "w/a"]),
        (lambda: RouterPrimitive({"a": len}, lambda _: ["a"]), ["w", "w/router", "w/a"]),
        (
            lambda: RetryPrimitive(failing_once(), backoff=constant(0)),
            ["w", "w/attempt 1", "w/attempt 2"],
        ),
        (
            lambda: FallbackPrimitive(failing_once(), [MockPrimitive(), len]),
            ["w", "w/primary", "w/fallback 1"],
        ),
        (lambda: TimeoutPrimitive(len, 9), ["w", "w/timed"]),
        (lambda: CachePrimitive(len, 9), ["w", "w/miss"]),
        (lambda: Twice(step(len)), ["w", "w/1:len", "w/2:len"]),
        (
            lambda: Twice(Twice(step(len))),
            [
                "w",
                *("w/1:Twice", "w/1:Twice/1:len", "w/1:Twice/2:len"),
                *("w/2:Twice", "w/2:Twice/1:len", "w/2:Twice/2:len"),
            ],
        ),
    ],
)
async def test_a_runtime_sees_every_node(compose, paths, runtime):
    await compose().execute([1, 2], runtime.context(workflow_id="w"))
    assert runtime.paths == paths


async def test_a_runtime_sees_a_map_that_is_folded(runtime):
    workflow = MapPrimitive(str, max_concurrency=1) >> ReducePrimitive(max, "")
    assert await workflow.execute([1, 2], runtime.context(workflow_id="w")) == "2"
    assert sorted(runtime.paths) == ["w", "w/1:str", "w/1:str[0]", "w/1:str[1]", "w/2:max"]


async def test_what_runs_inside_of_super_is_part_of_the_same_node(runtime):
    context = runtime.context()
    assert await LoggedScale(2).execute(3, context) == 6
    assert runtime.paths == ["LoggedScale"]
    assert context.data == {"scaled": 3}


async def test_a_composite_that_calls_super_numbers_its_calls_once(runtime):
    workflow = LoggedTwice(where)
    expected = ("LoggedTwice/1:where", "LoggedTwice/2:where")
    assert await workflow(1) == expected
    assert await workflow.execute(1, runtime.context()) == expected
    assert runtime.paths == ["LoggedTwice", *expected]


@pytest.mark.parametrize("watched", [False, True])
async def test_a_composite_of_the_users_own_numbers_its_calls(watched, runtime):
    async def paths(workflow):
        return await workflow.execute(1, runtime.context() if watched else WorkflowContext())

    assert await paths(Twice(where)) == ("Twice/1:where", "Twice/2:where")
    assert await paths(step(abs) >> Twice(where)) == (
        "sequential/2:Twice/1:where",
        "sequential/2:Twice/2:where",
    )
    assert await paths(Twice(step(abs) >> where)) == (
        "Twice/1:sequential/2:where",
        "Twice/2:sequential/2:where",
    )
    assert await paths(Twice(Twice(where))) == (
        ("Twice/1:Twice/1:where", "Twice/1:Twice/2:where"),
        ("Twice/2:Twice/1:where", "Twice/2:Twice/2:where"),
    )


async def test_calls_at_the_same_time_are_numbered_in_the_order_of_the_code():
    class Both(Twice):
        async def execute(self, input_data, context):
            calls = [self.child.execute(n, context) for n in range(3)]
            return [await call for call in reversed(calls)]

    assert await Both(where)(1) == ["Both/3:where", "Both/2:where", "Both/1:where"]


async def test_a_failure_inside_a_composite_of_the_users_own_is_noted():
    with pytest.raises(ValueError, match="invalid literal") as caught:
        await Twice(step(int)).execute("x", WorkflowContext(workflow_id="orders"))
    assert caught.value.__notes__ == ["in step 'int' (orders/1:int)"]
    with pytest.raises(ValueError, match="invalid literal") as caught:
        await Twice(Twice(step(int))).execute("x", WorkflowContext(workflow_id="orders"))
    assert caught.value.__notes__ == ["in step 'int' (orders/1:Twice/1:int)"]


async def test_composites_of_the_users_own_may_run_at_the_same_time():
    both = Twice(where).named("left") | Twice(where).named("right")
    assert await both(1) == (
        ("parallel/1:left/1:where", "parallel/1:left/2:where"),
        ("parallel/2:right/1:where", "parallel/2:right/2:where"),
    )


async def test_a_second_run_in_the_same_context_has_a_path_of_its_own(runtime):
    context = runtime.context(workflow_id="orders")
    assert await where.execute(1, context) == "orders"
    assert await where.execute(1, context) == "2:orders"


class Outer(Runtime):
    """Stands around each execution, and leaves all else to the runtime inside."""

    def __init__(self, inner):
        super().__init__(inner)
        self.performed = 0

    async def perform(self, primitive, execute, input_data, context):
        self.performed += 1
        return await super().perform(primitive, execute, input_data, context)


async def test_runtimes_nest(clock):
    outer = Outer(clock)
    context = WorkflowContext()
    context._runtime = outer
    flaky = MockPrimitive("flaky", side_effect=[OSError(), 2], delay=1)
    retry = RetryPrimitive(flaky, backoff=constant(5), jitter=False, max_elapsed=60)
    numbers = CachePrimitive(retry, 60) >> range
    total = MapPrimitive(TimeoutPrimitive(abs, 9)) >> ReducePrimitive(max, 0)
    assert await (numbers >> (total | len)).execute(0, context) == (1, 2)
    assert clock.sleeps == [1, 5, 1]
    assert outer.performed == len(clock.paths)


async def test_a_runtime_by_itself_adds_nothing():
    context = WorkflowContext()
    context._runtime = Runtime()
    workflow = step(list) >> (
        MapPrimitive(where) >> ReducePrimitive(max, "") | TimeoutPrimitive(where, 9)
    )
    assert await workflow.execute("ab", context) == await workflow(["a", "b"])
    await MockPrimitive(delay=0.001).execute(1, context)
    assert context.time() <= context.time()
    assert await CachePrimitive(len, 9).execute("ab", context) == 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_run_sync_is_for_code_that_is_not_async(backend):
    async def event_loop(_):
        return sniffio.current_async_library()

    assert (step(event_loop) >> str.upper).run_sync(0, backend=backend) == backend.upper()


def test_run_sync_takes_a_context():
    context = WorkflowContext(workflow_id="orders")
    assert (step(str) >> where).run_sync(1, context) == "orders/2:where"


async def test_run_sync_is_refused_inside_an_event_loop():
    with pytest.raises(
        RuntimeError,
        match=r"len.run_sync\(\) was called inside a running event loop",
    ):
        step(len).run_sync("abc")


async def test_run_sync_may_be_called_in_a_thread_of_its_own():
    assert await anyio.to_thread.run_sync(step(len).run_sync, "abc") == 3


def test_run_sync_needs_nothing_but_what_plait_depends_on():
    script = (
        "import sys\n"
        "sys.modules['sniffio'] = sys.modules['trio'] = None\n"
        "from plait import step\n"
        "assert (step(len) | str).run_sync('abc') == (3, 'abc')\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
