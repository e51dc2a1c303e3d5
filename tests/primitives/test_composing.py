"""`>>`, `|`, what may stand beside them, and how the result looks."""

import functools

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
    SequentialPrimitive,
    TimeoutPrimitive,
    WorkflowContext,
    WorkflowPrimitive,
    step,
)

pytestmark = pytest.mark.anyio


@step
async def double(number: int) -> int:
    return number * 2


@step
def increment(number: int) -> int:
    return number + 1


async def test_then_feeds_each_output_to_the_next():
    assert await (double >> increment >> str)(5) == "11"


async def test_or_gives_both_the_same_input_and_returns_a_tuple():
    result = await (double | increment | str)(5)
    assert result == (10, 6, "5")
    assert type(result) is tuple


async def test_a_tuple_of_results_is_the_input_of_what_follows():
    assert await (double >> (increment | str) >> list)(5) == [11, "10"]


async def test_a_function_may_stand_on_the_left():
    assert await (len >> double)("abc") == 6
    assert await (len | step(str.upper))("abc") == (3, "ABC")


class Adder:
    def __init__(self, amount):
        self.amount = amount

    def method(self, number):
        return number + self.amount

    async def async_method(self, number):
        return number + self.amount

    def __call__(self, number):
        return number + self.amount


class AsyncAdder(Adder):
    async def __call__(self, number):
        return number + self.amount


class Box:
    def __init__(self, content):
        self.content = content

    def __eq__(self, other):
        return self.content == other.content

    __hash__ = None


async def add(left, right):
    return left + right


@pytest.mark.parametrize(
    ("operand", "result"),
    [
        (lambda number: number + 1, 6),
        (lambda number: add(number, 1), 6),
        (lambda number, context: number + len(context.data), 5),
        (functools.partial(add, 1), 6),
        (functools.partial(functools.partial(add), right=2), 7),
        (functools.partial(Adder(3)), 8),
        (Adder(4).method, 9),
        (Adder(5).async_method, 10),
        (Adder(6), 11),
        (AsyncAdder(7), 12),
        (Box, Box(5)),
        (str, "5"),
        (abs, 5),
        (range, range(5)),
        (lambda *numbers: numbers, (5,)),
        (lambda number=1, factor=3: number * factor, 15),
        (lambda: "nothing", "nothing"),
    ],
    ids=[
        "lambda",
        "lambda that returns a coroutine",
        "function of input and context",
        "partial",
        "partial of partial",
        "partial of a callable object",
        "bound method",
        "async bound method",
        "callable object",
        "async callable object",
        "class",
        "builtin class",
        "builtin function",
        "builtin without a signature",
        "variadic",
        "defaults",
        "no parameters",
    ],
)
async def test_any_callable_is_an_operand(operand, result):
    assert await (step(lambda number: number) >> operand)(5) == result


@pytest.mark.parametrize("operand", [3, None, "text", {"a": len}, int | str])
@pytest.mark.parametrize(
    "compose",
    [
        lambda operand: double >> operand,
        lambda operand: operand >> double,
        lambda operand: double | operand,
        lambda operand: operand | double,
        lambda operand: (double | str) | operand,
        lambda operand: SequentialPrimitive([double, operand]),
        lambda operand: ParallelPrimitive([double, operand]),
        lambda operand: ParallelPrimitive({"key": operand}),
        lambda operand: ConditionalPrimitive(bool, operand),
        lambda operand: ConditionalPrimitive(bool, double, operand or 0),
        lambda operand: RouterPrimitive({"route": operand}, str),
        MapPrimitive,
        RetryPrimitive,
        lambda operand: FallbackPrimitive(operand, [double]),
        lambda operand: FallbackPrimitive(double, [operand]),
        lambda operand: TimeoutPrimitive(operand, 1),
        lambda operand: CachePrimitive(operand, 1),
    ],
)
def test_what_is_no_operand_is_refused_by_name_when_composed(compose, operand):
    with pytest.raises(TypeError, match=r"^cannot compose .* neither a primitive nor a function"):
        compose(operand)


def test_the_refusal_shows_the_operand_and_its_type():
    with pytest.raises(TypeError, match=r"^cannot compose 3 \(int\): "):
        double >> 3


def three(first, second, third): ...


@pytest.mark.parametrize("operand", [three, step(three)])
def test_a_function_that_needs_more_arguments_is_refused(operand):
    with pytest.raises(TypeError, match=r"'three', which needs 3 arguments \(first, second, third"):
        double >> operand


def keyword(number, *, unit): ...


@pytest.mark.parametrize("operand", [keyword, step(keyword)])
def test_a_function_that_needs_a_keyword_argument_is_refused(operand):
    with pytest.raises(TypeError, match="'keyword': it needs the keyword argument 'unit'"):
        double >> operand


@pytest.mark.parametrize(
    "compose",
    [
        lambda function: ConditionalPrimitive(function, str),
        lambda function: RouterPrimitive({"route": str}, function),
    ],
)
def test_a_decision_that_needs_more_than_input_and_context_is_refused(compose):
    with pytest.raises(TypeError, match="three"):
        compose(three)


def generator(number):
    yield number


async def async_generator(number):
    yield number


class GeneratorObject:
    def __call__(self, number):
        yield number


@pytest.mark.parametrize(
    "function",
    [
        generator,
        async_generator,
        functools.partial(generator),
        GeneratorObject(),
        GeneratorObject().__call__,
    ],
)
def test_a_generator_is_refused(function):
    with pytest.raises(TypeError, match=r"is a generator; a step returns one value"):
        double >> function
    with pytest.raises(TypeError, match=r"is a generator; a step returns one value"):
        step(function)


def test_then_is_associative():
    left, right = (double >> increment) >> double, double >> (increment >> double)
    assert left.children == right.children == (double, increment, double)
    assert str(left) == str(right) == "double >> increment >> double"


def test_or_is_associative():
    left, right = (double | increment) | str, double | (increment | str)
    assert [str(branch) for branch in left.children] == ["double", "increment", "str"]
    assert str(left) == str(right) == "(double | increment | str)"
    assert left.run_sync(2) == right.run_sync(2) == (4, 3, "2")


def test_two_parallels_become_one():
    both = (double | increment) | (step(str) | repr)
    assert len(both.children) == 4
    assert both.run_sync(1) == (2, 2, "1", "1")


def test_a_parallel_on_the_left_of_a_function_flattens():
    assert len((str | (double | increment)).children) == 3


def test_a_sequence_inside_a_parallel_stays_a_branch():
    workflow = double >> increment | increment >> double
    assert workflow.run_sync(3) == (7, 8)
    assert str(workflow) == "(double >> increment | increment >> double)"


def test_a_named_sequence_stays_whole():
    prepare = (double >> increment).named("prepare")
    workflow = prepare >> str
    assert workflow.children[0] is prepare
    assert str(workflow) == "prepare >> str"
    assert workflow.run_sync(2) == "5"


def test_a_named_parallel_stays_whole():
    both = (double | increment).named("both")
    workflow = both | str
    assert workflow.run_sync(2) == ((4, 3), "2")
    assert str(workflow) == "(both | str)"


@pytest.mark.parametrize(
    "inner",
    [
        ParallelPrimitive([double, increment], max_concurrency=1),
        ParallelPrimitive([double, increment], errors="collect"),
        ParallelPrimitive({"double": double, "increment": increment}),
    ],
)
def test_a_parallel_with_options_of_its_own_stays_whole(inner):
    assert (inner | str).children[0] is inner
    assert (step(str) | inner).children[1] is inner


def test_a_subclass_of_a_composite_stays_whole():
    class Pipeline(SequentialPrimitive):
        pass

    class Fan(ParallelPrimitive):
        pass

    assert len((Pipeline([double, increment]) >> str).children) == 2
    assert len((Fan([double, increment]) | str).children) == 2


def test_naming_makes_a_copy():
    renamed = double.named("twice")
    assert (renamed.name, double.name) == ("twice", "double")
    assert renamed.run_sync(4) == 8


def test_a_name_must_not_be_empty():
    with pytest.raises(ValueError, match="the name of double must not be empty"):
        double.named("")


def test_composing_changes_neither_operand():
    pair = double >> increment
    pair >> str
    assert len(pair.children) == 2


def test_a_workflow_may_be_composed_into_several():
    assert (double >> (double | (double >> double))).run_sync(1) == (4, 8)


def test_a_workflow_with_nothing_in_it_is_refused():
    with pytest.raises(ValueError, match="a SequentialPrimitive needs at least one step, got none"):
        SequentialPrimitive([])
    with pytest.raises(ValueError, match="a ParallelPrimitive needs at least one branch, got none"):
        ParallelPrimitive([])
    with pytest.raises(ValueError, match="a ParallelPrimitive needs at least one branch, got none"):
        ParallelPrimitive({})


class Scale(WorkflowPrimitive[float, float]):
    async def execute(self, input_data: float, context: WorkflowContext) -> float:
        return input_data * 10


class Twice(WorkflowPrimitive[int, int]):
    def __init__(self, child):
        self.child = child

    @property
    def children(self):
        return (self.child,)

    async def execute(self, input_data: int, context: WorkflowContext) -> int:
        once = await self.child.execute(input_data, context)
        return await self.child.execute(once, context)


@pytest.mark.parametrize(
    ("workflow", "text"),
    [
        (double, "double"),
        (Scale(), "Scale"),
        (Twice(double), "Twice(double)"),
        (MockPrimitive(), "Mock"),
        (double >> (increment | str), "double >> (increment | str)"),
        (ParallelPrimitive({"a": double, "b": str}), "(a: double | b: str)"),
        (ParallelPrimitive({"a": double}).named("all"), "all"),
        (step(lambda _: 1), "lambda"),
        (step(functools.partial(add, 1)), "add"),
        (step(Adder(1)), "Adder"),
        (step(name="charge")(add), "charge"),
        (ConditionalPrimitive(bool, double), "if bool then double"),
        (ConditionalPrimitive(bool, double, str), "if bool then double else str"),
        (ConditionalPrimitive(bool, double).named("maybe"), "maybe"),
        (RouterPrimitive({"a": double, "b": str}, str), "route str to {a: double, b: str}"),
        (RouterPrimitive({"a": double}, str).named("dispatch"), "dispatch"),
        (MapPrimitive(double), "map(double)"),
        (ReducePrimitive(add, 0), "reduce(add)"),
        (RetryPrimitive(double), "retry(double)"),
        (RetryPrimitive(double).named("insist"), "insist"),
        (FallbackPrimitive(double, [str, repr]), "fallback(double, str, repr)"),
        (TimeoutPrimitive(double >> str, 1), "timeout(double >> str)"),
        (CachePrimitive(double, 1), "cache(double)"),
    ],
)
def test_a_workflow_reads_as_algebra(workflow, text):
    assert str(workflow) == text
    assert repr(workflow) == f"<{type(workflow).__name__} {text}>"


def names(described):
    return [child["name"] for child in described["children"]]


def test_describe_shows_what_each_primitive_executes():
    assert names(ConditionalPrimitive(bool, double, str).describe()) == ["bool", "double", "str"]
    assert names(RouterPrimitive({"a": double}, repr).describe()) == ["repr", "double"]
    assert names(FallbackPrimitive(double, [str, repr]).describe()) == ["double", "str", "repr"]
    assert names(ParallelPrimitive({"a": double, "b": str}).describe()) == ["double", "str"]
    assert names(CachePrimitive(double, 1).describe()) == ["double"]
    assert names(Twice(double).describe()) == ["double"]


def test_describe_is_the_shape_as_data():
    assert (double >> RetryPrimitive(str)).describe() == {
        "name": "sequential",
        "type": "SequentialPrimitive",
        "children": [
            {"name": "double", "type": "Step", "children": []},
            {
                "name": "retry",
                "type": "RetryPrimitive",
                "children": [{"name": "str", "type": "Step", "children": []}],
            },
        ],
    }
