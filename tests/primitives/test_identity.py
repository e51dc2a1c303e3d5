"""Composed workflows are values: they compare, copy, pickle and draw as such."""

import copy
import pickle

import pytest

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
    workflow,
)
from plait.recovery import constant, exponential


class Scale(WorkflowPrimitive[int, int]):
    def __init__(self, factor):
        self.factor = factor

    async def execute(self, input_data: int, context: WorkflowContext) -> int:
        return input_data * self.factor


@step
async def double(number: int) -> int:
    return number * 2


def increment(number):
    return number + 1


def is_big(number):
    return number > 3


def route(number):
    return "big" if number > 3 else "small"


@workflow(version="2", timeout=60)
async def outer(number: int) -> int:
    return await double(number)


WORKFLOWS = {
    "step": (lambda: double, 8),
    "function": (lambda: step(increment), 5),
    "options": (lambda: step(name="plus", thread=True, at_most_once=True)(increment), 5),
    "builtin": (lambda: step(str), "4"),
    "sequence": (lambda: double >> increment >> str, "9"),
    "parallel": (lambda: double | increment | str, (8, 5, "4")),
    "limited parallel": (lambda: ParallelPrimitive([double], max_concurrency=2), (8,)),
    "dict": (lambda: ParallelPrimitive({"a": double, "b": increment}), {"a": 8, "b": 5}),
    "named": (lambda: (double >> increment).named("both"), 9),
    "conditional": (lambda: ConditionalPrimitive(is_big, double, increment), 8),
    "conditional without else": (lambda: ConditionalPrimitive(is_big, double), 8),
    "router": (lambda: RouterPrimitive({"big": double, "small": str}, route, default="big"), 8),
    "map and reduce": (lambda: range >> MapPrimitive(double) >> ReducePrimitive(max, 0), 6),
    "bounded map": (lambda: range >> MapPrimitive(double, max_concurrency=2), [0, 2, 4, 6]),
    "retry": (lambda: RetryPrimitive(double, 5, retry_on=OSError, max_elapsed=60), 8),
    "retry with a schedule": (
        lambda: RetryPrimitive(double, backoff=constant(1).up_to(2).then(exponential(3).capped(9))),
        8,
    ),
    "fallback": (lambda: FallbackPrimitive(double, [str], fallback_on=OSError), 8),
    "timeout": (lambda: TimeoutPrimitive(double, 60), 8),
    "cache": (lambda: CachePrimitive(double, 60), 8),
    "workflow": (lambda: outer, 8),
}


@pytest.fixture(params=WORKFLOWS)
def composed(request):
    compose, result = WORKFLOWS[request.param]
    return compose, result


def test_what_is_made_alike_is_equal_unless_it_has_a_state_of_its_own(composed):
    compose, _ = composed
    one, other = compose(), compose()
    if not isinstance(one, CachePrimitive):
        assert one == other
        assert hash(one) == hash(other)
    assert one != object()


def test_every_kind_of_workflow_is_told_apart():
    made = [compose() for compose, _ in WORKFLOWS.values()]
    for index, one in enumerate(made):
        assert [other == one for other in made].index(True) == index


def test_a_pickled_workflow_is_an_equal_one_that_runs_the_same(composed):
    compose, result = composed
    one = compose()
    restored = pickle.loads(pickle.dumps(one))
    assert restored.run_sync(4) == one.run_sync(4) == result
    assert str(restored) == str(one)
    if not isinstance(one, CachePrimitive):
        assert restored == one


def test_a_copy_runs_the_same(composed):
    compose, result = composed
    assert copy.copy(compose()).run_sync(4) == result
    assert copy.deepcopy(compose()).run_sync(4) == result


def test_another_name_or_another_option_makes_another_workflow():
    assert double.named("twice") != double
    assert RetryPrimitive(double, 1) != RetryPrimitive(double, 2)
    assert (double >> increment) != (step(increment) >> double)
    assert step(increment) != step(thread=True)(increment)
    assert TimeoutPrimitive(double, 1) != RetryPrimitive(double, 1)


def test_a_decorated_step_of_a_module_is_pickled_by_name():
    assert pickle.loads(pickle.dumps(double)) is double


def test_a_class_of_the_users_own_is_equal_to_itself_alone():
    assert Scale(2) != Scale(2)
    scale = Scale(2)
    assert scale == scale  # noqa: PLR0124
    assert len({scale, scale, Scale(2)}) == 2
    assert pickle.loads(pickle.dumps(scale)).run_sync(4) == 8
    assert copy.copy(scale).run_sync(4) == 8


def test_a_renamed_mock_counts_with_the_one_it_was():
    mock = MockPrimitive("a")
    mock.named("b").run_sync(1)
    assert mock.call_count == 1


def test_the_shape_is_drawn_as_a_flowchart():
    retry = RetryPrimitive(double, backoff=constant(0)).named('say "hi"')
    assert (retry >> (double | str)).to_mermaid().splitlines() == [
        "flowchart TD",
        '    n0["sequential"]',
        '    n1["say #quot;hi#quot;"]',
        "    n0 --> n1",
        '    n2["double"]',
        "    n1 --> n2",
        '    n3["parallel"]',
        "    n0 --> n3",
        '    n4["double"]',
        "    n3 --> n4",
        '    n5["str"]',
        "    n3 --> n5",
    ]
