"""What steps return and raise comes back from the journal as it was, or fails at once."""

import asyncio
import dataclasses
import enum
import functools
import io
import json
import os
import threading
from collections import Counter, OrderedDict, deque
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pydantic
import pytest
from interruption import Gate, carry_on, fail, interrupt

from plait import (
    FallbackPrimitive,
    MapPrimitive,
    RecordedError,
    RetryPrimitive,
    SequentialPrimitive,
    SerializationError,
    WorkflowPrimitive,
    step,
)
from plait.durable import DurableRunner, JournalError
from plait.primitives._sameness import same

pytestmark = pytest.mark.anyio

T = TypeVar("T")


class Colour(enum.Enum):
    RED = (255, 0)
    BLUE = (0, 255)


class Level(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    number: int
    lines: tuple[str, ...] = ()


@dataclasses.dataclass
class Priced:
    """Has more to it than its fields."""

    net: int

    def __post_init__(self):
        self.gross = self.net * 2


@dataclasses.dataclass(eq=False)
class Scale:
    """A function with a memory."""

    factor: int


class Customer(pydantic.BaseModel):
    name: str
    tags: set[str] = set()
    _secret: str = pydantic.PrivateAttr("none")


class Box(pydantic.BaseModel, Generic[T]):
    inside: T


class Outer:
    @dataclasses.dataclass
    class Inner:
        value: int


async def again(journal, function):
    """What a step's result is in the run itself, and in one that was interrupted after it."""
    gate = Gate()
    seen = []
    workflow = SequentialPrimitive([function, lambda value: seen.append(value) or value, gate])
    workflow = workflow.named("workflow")
    await interrupt(journal, workflow, None, gate)
    return seen[0], await carry_on(journal, workflow)


VALUES = [
    None,
    1,
    2**100,
    -0.5,
    float("inf"),
    "text",
    "half a pair \ud800",
    [1, [2, {"a": None}]],
    {"$type": "no type", "$tuple": [1]},
    {1: "a", (2, "b"): [3], None: 4},
    (),
    (1, (2, [3]), {"a": (4,)}),
    {(2, "b")},
    frozenset({frozenset({b"1"})}),
    b"\x00\xff",
    bytearray(b"abc"),
    1 + 2j,
    Decimal("1.50"),
    Fraction(1, 3),
    date(2024, 2, 29),
    time(1, 2, 3),
    datetime(2024, 2, 29, 1, 2, 3, 4),  # noqa: DTZ001 - those without a zone come back as well
    datetime(2024, 2, 29, tzinfo=UTC),
    timedelta(days=-1, microseconds=1),
    UUID(int=42),
    Path("/there"),
    Colour.RED,
    [Level.LOW],
    Access.READ | Access.WRITE,
    Access(0),
    Point(1, (2, Point(3, None))),
    Order(1, ("tea", "milk")),
    {"order": Order(1), "orders": [Order(2), Order(3)]},
    Priced(10),
    Customer(name="ada", tags={"new"}),
    [Customer(name="ada")],
    Outer.Inner(42),
    Counter("aab"),
    Counter({1: 2}),
    Decimal("NaN"),
    [Decimal("-Infinity")],
    OrderedDict(b=1, a=2),
    deque([1, 2], maxlen=3),
    int,
    Order,
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_a_value_comes_back_as_it_was(journal, value):
    first, second = await again(journal, lambda _: value)
    assert first is value
    assert same(second, value)
    assert repr(second) == repr(value)


@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_a_run_returns_again_what_it_returned(journal, value):
    @step
    async def make(_):
        return value

    async with DurableRunner(journal, workflows=[make]) as runner:
        assert await runner.run(make, None, run_id="run") is value
        second = await runner.run(make, None, run_id="run")
    assert same(second, value)


async def test_what_a_dataclass_has_beside_its_fields_comes_back(journal):
    _, second = await again(journal, lambda _: Priced(10))
    assert second.gross == 20


async def test_what_a_model_keeps_to_itself_comes_back(journal):
    customer = Customer(name="ada")
    customer._secret = "kept"
    _, second = await again(journal, lambda _: customer)
    assert second._secret == "kept"
    assert second.model_fields_set == {"name"}


async def test_a_time_keeps_its_zone(journal):
    summer = datetime(2024, 7, 1, tzinfo=ZoneInfo("Europe/Berlin"))
    _, second = await again(journal, lambda _: summer)
    assert (second + timedelta(days=180)).utcoffset() == timedelta(hours=1)


def pair(_) -> tuple[int, str]:
    return 1, "a"


def orders(_) -> list[Order]:
    return [Order(1, ("tea",))]


def box(_) -> Box[int]:
    return Box[int](inside=1)


def described(_) -> Annotated[Order, pydantic.Field(description="an order"), {"un": "hashable"}]:
    return Order(1)


def documented(_) -> "the order, with its number":  # noqa: F722
    return Order(1)


def unknown(_) -> "Missing":  # noqa: F821
    return Order(1)


def wrong(_) -> list[int]:
    return (1, 2)


def narrower(_) -> set[int]:
    return {True}


def wider(_) -> Outer:
    return Order(1)


def open_type(value: T) -> list[T]:
    return [(value,)]


@pytest.mark.parametrize(
    "function",
    [pair, orders, box, described, documented, unknown, wrong, narrower, wider, open_type],
)
async def test_an_annotated_result_comes_back_as_it_was(journal, function):
    first, second = await again(journal, function)
    assert repr(second) == repr(first)


async def test_the_annotation_is_found_through_what_is_around_the_step(journal):
    made = Box[int](inside=1)

    async def make(_) -> Box[int]:
        return made

    retried = RetryPrimitive(step(str) >> make)
    workflow = MapPrimitive(retried).named("workflow")
    async with DurableRunner(journal, workflows=[workflow]) as runner:
        await runner.run(workflow, [1], run_id="run")
    assert await carry_on(journal, workflow) == [made]


async def test_the_annotation_of_a_class_is_that_of_its_execute(journal):
    class Make(WorkflowPrimitive):
        async def execute(self, input_data, context) -> Box[int]:
            return Box[int](inside=input_data)

    first, second = await again(journal, step(lambda _: 1) >> Make())
    assert second == first


@dataclasses.dataclass
class Times:
    factor: int

    def __call__(self, _):
        return (self.factor,)


@pytest.mark.parametrize("function", [Times(2), functools.partial(pair)], ids=["object", "partial"])
async def test_any_callable_makes_results_that_come_back(journal, function):
    first, second = await again(journal, function)
    assert second == first
    assert type(second) is tuple


class Opaque:
    pass


def local_class():
    @dataclasses.dataclass
    class Local:
        value: int

    return Local(1)


def knot():
    tied = []
    tied.append(tied)
    return tied


def deep():
    nested = []
    for _ in range(100_000):
        nested = [nested]
    return nested


class Picky(pydantic.BaseModel):
    value: Any

    @pydantic.field_serializer("value")
    def refuse(self, value):
        raise LookupError("not this one")


class Careless(pydantic.BaseModel):
    amount: pydantic.SecretStr


class Rude:
    @classmethod
    def __get_pydantic_core_schema__(cls, source, handler):
        raise RuntimeError("no schema")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Opaque, r"cannot encode test_results\.Opaque: no JSON form"),
        (lambda: {"a": [1, Opaque()]}, r"Opaque at \.a\[1\]: no JSON form"),
        (lambda: {1: (Opaque(),)}, r"Opaque at \[1\]\[0\]: no JSON form"),
        (lambda: [Order(Opaque())], r"Opaque at \[0\]\.number: no JSON form"),
        (local_class, r"Local: its class cannot be found again by its name"),
        (threading.Lock, r"lock: its class cannot be found again"),
        (lambda: (n for n in "ab"), r"generator: "),
        (lambda: Careless(amount="1"), r"Careless: what is decoded differs"),
        (lambda: pydantic.SecretStr("1"), r"SecretStr: what is decoded differs"),
        (lambda: ({"a": pydantic.SecretStr("1")},), r"SecretStr at \[0\]\.a: what is decoded"),
        (lambda: {float("nan")}, r"set: what is decoded differs"),
        (knot, r"list at \[0\]: it contains itself"),
        (lambda: {"a": (1, knot())}, r"list at \.a\[1\]\[0\]: it contains itself"),
        (deep, r"list: it is nested too deeply"),
        (lambda: [len, lambda: 1], r"function at \[1\]: a lambda or an inner function has no name"),
        (lambda: {"file": io.StringIO()}, r" at \.file: an open file ends with its process"),
        (Rude, r"Rude: "),
    ],
)
async def test_a_result_that_cannot_come_back_fails_its_step_at_once(journal, make, message):
    async with DurableRunner(journal) as runner:
        with pytest.raises(SerializationError, match=message) as caught:
            await runner.run((step(name="make")(lambda _: make()) >> str).named("w"), 1, run_id="r")
        assert (await runner.info("r")).status == "failed"
    assert caught.value.__notes__ == ["in step 'make' (w/1:make, run r)"]


async def test_a_result_that_cannot_come_back_is_not_made_again_by_a_retry(journal):
    made = []

    @step
    async def make(_):
        made.append(Opaque())
        return made[-1]

    assert isinstance(await fail(journal, RetryPrimitive(make), None), SerializationError)
    assert len(made) == 1


async def test_a_model_that_refuses_to_be_written_comes_back_by_its_state(journal):
    def make(_) -> Picky:
        return Picky(value=1)

    _, second = await again(journal, make)
    assert second == Picky(value=1)


class ShopError(Exception):
    """Built with keywords only, as those of HTTP clients are."""

    def __init__(self, *, code):
        super().__init__(f"code {code}")
        self.code = code


@dataclasses.dataclass
class StockError(Exception):
    item: str


class LockedError(Exception):
    """Holds what has no form as JSON."""

    def __init__(self, message, lock):
        super().__init__(message)
        self.lock = lock


ERRORS = [
    ValueError("no", 1),
    KeyError("a"),
    FileNotFoundError(2, "No such file or directory", "/a"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    SyntaxError("invalid syntax", ("a.py", 1, 2, "x = ")),
    json.JSONDecodeError("Expecting value", "", 0),
    ExceptionGroup("several", [ValueError(1), KeyError("b")]),
    TimeoutError(),
    asyncio.QueueEmpty(),
    ImportError("no module", name="a"),
    ShopError(code=7),
    StockError("tea"),
    StockError(item="tea"),
    LockedError("locked", threading.Lock()),
    SerializationError(int, ".a", "no form"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: f"{type(error).__name__}: {error}")
async def test_an_error_comes_back_as_its_own_type(journal, error):
    @step
    async def break_down(_):
        raise error

    first = await fail(journal, break_down, None)
    async with DurableRunner(journal, workflows=[break_down]) as runner:
        run = await runner.get("run")
        with pytest.raises(type(error)) as caught:
            await run.result()
    second = caught.value
    assert first is error
    assert type(second) is type(first)
    assert str(second) == str(first)
    assert second.__notes__ == first.__notes__


async def test_an_error_keeps_its_attributes(journal):
    @step
    async def break_down(_):
        error = ConnectionError("busy")
        error.retry_after = 3
        raise error

    await fail(journal, break_down, None)
    with pytest.raises(ConnectionError) as caught:
        await carry_on(journal, break_down)
    assert caught.value.retry_after == 3


async def test_an_error_of_a_class_that_is_gone_comes_back_as_recorded(journal):
    class LocalError(Exception):
        pass

    @step
    async def break_down(_):
        raise LocalError("no", "words")

    await fail(journal, break_down, None)
    with pytest.raises(RecordedError, match=r"LocalError: \('no', 'words'\)") as caught:
        await carry_on(journal, break_down)
    assert caught.value.type_name.startswith("test_results:test_an_error_of_a_class")
    assert caught.value.message == "('no', 'words')"
    assert caught.value.__notes__ == ["in step 'break_down' (break_down, run run)"]


async def test_an_attribute_that_cannot_come_back_does_not_hide_the_error(journal):
    @step
    async def break_down(_):
        error = ConnectionError("busy")
        error.size = os.terminal_size((80, 24))
        raise error

    await fail(journal, break_down, None)
    with pytest.raises(ConnectionError, match="busy"):
        await carry_on(journal, break_down)


async def test_a_handled_error_of_a_class_that_is_gone_stays_handled(journal):
    class LocalError(Exception):
        pass

    @step
    async def break_down(_):
        raise LocalError

    gate = Gate()
    fallback = FallbackPrimitive(break_down, ["{} saved".format], fallback_on=LocalError)
    workflow = (fallback >> gate).named("workflow")
    await interrupt(journal, workflow, "day", gate)
    assert await carry_on(journal, workflow) == "day saved"


async def test_a_result_of_a_workflow_that_a_runner_does_not_have_needs_it(journal):
    @step(name="boxes")
    async def make(_) -> Box[int]:
        return Box[int](inside=1)

    async with DurableRunner(journal) as runner:
        await runner.run(make, None, run_id="run")
    async with DurableRunner(journal) as runner:
        run = await runner.get("run")
        with pytest.raises((ValueError, JournalError), match=r"'boxes'"):
            await run.result()
