"""Types that JSON does not have: each value comes back as it was."""

import dataclasses
import enum
import functools
import io
import ipaddress
import math
import os
import re
import struct
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, Optional, TypedDict, TypeVar, Union
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait import SerializationError, WorkflowPrimitive
from plait.durable import JsonCodec
from plait.primitives._encoding import decode, encode
from plait.primitives._sameness import same

T = TypeVar("T")


def again(value):
    codec = JsonCodec()
    return codec.decode(codec.encode(value))


@dataclasses.dataclass
class Box(Generic[T]):
    inside: T


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen(Generic[T]):
    inside: T
    computed: int = dataclasses.field(init=False, default=3)


@dataclasses.dataclass
class Keyed(dict):
    """A dataclass that is a dict as well."""

    note: str = ""


@attrs.define
class Line:
    name: str
    parts: list = attrs.field(factory=list)
    _hidden: int = 0


@attrs.frozen(slots=False)
class Tag:
    name: str


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"


class Pet(pydantic.BaseModel):
    animal: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


class Numbers(pydantic.RootModel[list[int]]):
    pass


@pydantic.dataclasses.dataclass
class Checked:
    value: int


class Address(TypedDict):
    street: str


class Pair(NamedTuple):
    left: Any
    right: Any


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class UserId(str):
    __slots__ = ()


class Metres(float):
    pass


class Count(int):
    pass


class Digest(bytes):
    pass


class Tags(list):
    pass


class Path2(tuple):
    __slots__ = ()


class Headers(dict):
    def __init__(self, *, never_called):
        raise AssertionError

    def items(self):
        return []


class Names(set):
    pass


class Slotted(list):
    __slots__ = ("__secret", "unset")

    def __init__(self, secret):
        super().__init__([secret])
        self.__secret = secret

    @property
    def secret(self):
        return self.__secret


def tags():
    made = Tags([1, (2,)])
    made.note = {3}
    return made


def headers():
    made = Headers.__new__(Headers)
    dict.__setitem__(made, ("a", 1), "b")
    return made


def bag():
    return defaultdict(list, {1: [2]})


VALUES = [
    Box(1),
    Box[int](1),
    Box[list[int]]([1]),
    Frozen((1, 2)),
    Line("tea", [1, (2,)], 3),
    Tag("new"),
    Pet(animal=Dog()),
    Page[int](items=[1]),
    Page[Box[int]](items=[]),
    Page[dict[str, Pair | None]](items=[{"a": Pair(1, 2)}]),
    Page[Literal["a", 1]](items=["a"]),
    Page[Optional[int]](items=[None]),  # noqa: UP045 - another class than that of `int | None`
    Page[Union[int, str]](items=[1]),  # noqa: UP007
    Page[Any](items=[(1,)]),
    Numbers([1]),
    Checked(1),
    Address(street="here"),
    Access.READ | Access.WRITE,
    UserId("ada"),
    Metres("nan"),
    Count(2**70),
    Digest(b"\x00"),
    tags(),
    Path2((1, [2])),
    headers(),
    Names({1, (2,)}),
    Slotted(1),
    re.compile("a+", re.IGNORECASE | re.DOTALL),
    re.compile(b"a"),
    range(3),
    range(10, 0, -2),
    slice(1, None, (2,)),
    complex("nan"),
    complex(1, -0.0),
    bag(),
    defaultdict(None, a=1),
    OrderedDict([((1,), 2), ("a", {3})]),
    Counter({1: 2, "a": -1.5}),
    deque([1, (2,)], maxlen=3),
    Decimal("NaN"),
    Decimal("sNaN123"),
    Decimal("-Infinity"),
    Decimal("1.50"),
    Fraction(1, 3),
    math.nan,
    -math.inf,
    10**5000,
    {-(10**5000): [10**5000]},
    ("half a pair \ud800", {"\ud800": {1}}),
    ["$tuple", {"a": ["$type"]}],
    [1, {"a": [{"$tuple": [1]}]}],
    {1: {2.5: {None: {True: ()}}}},
    datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    datetime(2024, 10, 27, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    datetime(2024, 10, 27, tzinfo=timezone(timedelta(hours=1), "CET")),
    time(1, 2, 3, 4, tzinfo=UTC),
    timedelta.min,
    ZoneInfo("UTC"),
    timezone.max,
    UUID(int=1),
    Path("/there"),
    PurePosixPath("a/b"),
    PureWindowsPath(r"c:\a"),
    ipaddress.ip_address("::1"),
    ipaddress.ip_network("10.0.0.0/8"),
    pydantic.AnyUrl("https://example.com/a"),
    type(None),
    list[int],
    dict[str, list[int | None]],
    Box[int],
    int | None,
    Optional[int],  # noqa: UP045
    Literal["a"],
    np.arange(6).reshape(2, 3),
    np.arange(6).reshape(2, 3).T,
    np.array(1.5),
    np.array([]),
    np.zeros((0, 3), dtype=np.int8),
    np.array([1, 2], dtype=">u4"),
    np.array([math.nan, -0.0]),
    np.array(["a", "bc"]),
    np.array([b"a", b""]),
    np.array(["2024-01-01", "NaT"], dtype="M8[D]"),
    np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]),
    np.array([1 + 2j]),
    np.array([True, False]),
    np.array([None, (1,), {2}], dtype=object),
    np.float64(-0.0),
    np.float32("nan"),
    np.int64(-1),
    np.bool_(True),
    np.str_("a"),
    np.datetime64("2024-01-01T01:02", "s"),
    np.timedelta64(5, "m"),
    np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")])[0],
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value) if _is_short(value) else "")
def test_a_value_comes_back_as_it_was(value):
    second = again(value)
    assert same(second, value)
    assert same(again([value])[0], value)
    assert encode(second) == encode(value)


def _is_short(value):
    return not isinstance(value, int | dict)


def test_what_came_back_can_be_used_as_what_it_was():
    assert again(Slotted(7)).secret == 7
    assert again(tags()).note == {3}
    assert again(bag())["new"] == []
    assert again(Box[int](1)).__orig_class__ == Box[int]
    assert type(again(Page[int](items=[1]))) is Page[int]
    array = again(np.arange(3))
    array[0] = 7
    assert array.tolist() == [7, 1, 2]


def test_the_pairs_of_a_class_of_dict_have_an_order_where_it_says_so():
    def canonical(value):
        return encode(value, canonical=True)

    assert canonical(Counter({1: 2, 3: 4})) == canonical(Counter({3: 4, 1: 2}))
    assert canonical(OrderedDict({1: 2, 3: 4})) != canonical(OrderedDict({3: 4, 1: 2}))
    assert canonical({"pairs": [[2], [1]]}) != canonical({"pairs": [[1], [2]]})


@pytest.mark.parametrize(
    "other",
    [np.zeros(3), np.zeros((2, 1)), np.zeros(2, "f4"), np.array([0.0, -0.0]), [0.0, 0.0]],
)
def test_arrays_of_another_shape_type_or_content_are_not_the_same(other):
    assert not same(np.zeros(2), other)


class Secretive(tzinfo):
    def __reduce__(self):
        raise LookupError("not this one")


class Assembled(WorkflowPrimitive):
    """Is not what its constructor was called with."""

    def __init__(self, first, /, *rest):
        self.parts = (first, *rest)

    async def execute(self, input_data, context):
        return input_data


class Masked(np.ndarray):
    pass


class Sorted(OrderedDict):
    pass


class Described(pydantic.BaseModel):
    value: Any


def inner():
    class Local:
        pass

    return Local


def counted():
    yield 1


async def awaited():
    yield 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: [lambda: 1], r"function at \[0\]: a lambda or an inner function has no name"),
        (lambda: {"a": inner()}, r"Local at \.a: a class is found by its name"),
        (inner, r"Local: a class is found by its name"),
        (lambda: [inner()()][0], r"Local: its class cannot be found again"),
        (io.StringIO, r"StringIO: an open file ends with its process"),
        (lambda: (counted(),), r"generator at \[0\]: it can be run through only once"),
        (awaited, r"async_generator: it can be run through only once"),
        (lambda: Box(object()), r"object at \.inside: no JSON form"),
        (lambda: Line("a", [object()]), r"object at \.parts\[0\]: no JSON form"),
        (lambda: Described(value=[object()]), r"object at \.value\[0\]: no JSON form"),
        (lambda: {(1, object())}, r"object at \{.*\}\[1\]: no JSON form"),
        (lambda: {object(): 1}, r"object at \[.*\]: no JSON form"),
        (lambda: defaultdict(lambda: 1), r"function: a lambda or an inner function"),
        (lambda: {"zone": Secretive()}, r"Secretive at \.zone: LookupError: not this one"),
        (lambda: [Assembled(1)], r"Assembled at \[0\]: no JSON form"),
        (lambda: os.terminal_size((1, 2)), r"terminal_size: .* is not safe"),
        (lambda: memoryview(b"a"), r"memoryview: no JSON form"),
        (lambda: Sorted(a=1), r"Sorted: no JSON form"),
        (lambda: np.arange(3).view(Masked), r"Masked: no JSON form"),
        (lambda: np.ma.masked_array([1], [True]), r"MaskedArray: no JSON form"),
        (lambda: np.zeros(1, dtype=[("a", object)]), r"ndarray: a part of it is made of Python's"),
        (lambda: Page[Annotated[int, "note"]](items=[]), r"its class cannot be found again"),
        (lambda: list[inner()], r"GenericAlias"),
        (lambda: [Box(pydantic.SecretStr("1"))], r"SecretStr at \[0\]\.inside: what is decoded"),
        (lambda: np.array([math.nan, object()], dtype=object), r"object at \[1\]: no JSON form"),
    ],
)
def test_what_has_no_form_is_refused_with_the_reason_and_the_place(make, message):
    with pytest.raises(SerializationError, match=message):
        JsonCodec().encode(make())


def test_a_zone_that_was_read_from_a_file_is_refused():
    # The shortest file that there is: one zone, no offset, no name.
    empty = (
        b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 0, 1, 1) + struct.pack(">lbb", 0, 0, 0)
    )
    zone = ZoneInfo.from_file(io.BytesIO(empty + bytes(1)))
    with pytest.raises(SerializationError, match=r"ZoneInfo at \.at: it was read from a file"):
        encode({"at": zone})


def knotted(make):
    value = make()
    value.append({"back": value})
    return value


@pytest.mark.parametrize("make", [list, deque, Tags])
def test_a_value_that_contains_itself_is_refused_with_the_place(make):
    kind = make.__qualname__
    with pytest.raises(SerializationError, match=rf"{kind} at \[0\]\.back: it contains itself"):
        JsonCodec().encode(knotted(make))


def test_an_object_that_contains_itself_is_refused_with_the_place():
    box = Box({1: None})
    box.inside[1] = box
    with pytest.raises(SerializationError, match=r"Box at \.inside\[1\]: it contains itself"):
        encode(box)


def test_a_value_that_is_nested_too_deeply_is_refused_as_that():
    nested = functools.reduce(lambda inside, _: (list, inside), range(5000), 1)
    with pytest.raises(SerializationError, match="it is nested too deeply"):
        encode(nested)


def test_an_error_comes_back_with_its_cause_its_notes_and_its_group():
    error = ValueError("outer")
    error.__cause__ = KeyError("inner")
    error.__cause__.__cause__ = OSError(2, "no such file", "a.txt")
    error.add_note("noted")
    group = decode(encode(ExceptionGroup("both", [error, ExceptionGroup("in", [TypeError(1)])])))
    first, second = group.exceptions
    assert (type(first), first.__notes__) == (ValueError, ["noted"])
    assert type(first.__cause__) is KeyError
    assert (type(first.__cause__.__cause__), first.__cause__.__cause__.filename) == (
        FileNotFoundError,
        "a.txt",
    )
    assert type(second.exceptions[0]) is TypeError
    assert encode(decode(encode(group))) == encode(group)


def test_a_cause_that_leads_back_to_its_error_is_left_out():
    error = ValueError("outer")
    error.__cause__ = KeyError("inner")
    error.__cause__.__cause__ = error
    second = decode(encode(error))
    assert type(second.__cause__) is KeyError
    assert second.__cause__.__cause__ is None


@pytest.mark.parametrize("cause", [b'{"$later":1}', b"1"])
def test_a_cause_that_cannot_be_read_does_not_hide_the_error(cause):
    text = encode(ValueError("a"))[:-1] + b',"cause":%s}' % cause
    second = decode(text)
    assert (type(second), second.__cause__) == (ValueError, None)


def test_a_cause_does_not_make_an_error_another_input():
    error = ValueError("a")
    before = encode(error, canonical=True)
    error.__cause__ = KeyError("b")
    assert encode(error, canonical=True) == before


def test_numpy_is_imported_for_what_needs_it_and_for_nothing_else():
    script = """if True:
        import sys
        from plait.durable import JsonCodec
        codec = JsonCodec()
        assert codec.decode(codec.encode({1: (2.5, {3})})) == {1: (2.5, {3})}
        assert "numpy" not in sys.modules and "attr" not in sys.modules
        array = codec.decode(%r)
        assert array.tolist() == [1, 2]
    """
    payload = JsonCodec().encode(np.array([1, 2]))
    subprocess.run([sys.executable, "-c", script % payload], check=True)


def arrays():
    dtypes = st.sampled_from(["i1", ">i8", "f8", "c16", "?", "U3", "S2", "M8[s]"])
    shapes = st.sampled_from([(), (0,), (3,), (2, 2)])
    return st.builds(lambda dtype, shape: np.zeros(shape, dtype), dtypes, shapes)


numbers = st.integers() | st.floats() | st.complex_numbers() | st.decimals() | st.fractions()
moments = (
    st.datetimes(timezones=st.none() | st.timezones(), allow_imaginary=False)
    | st.times()
    | st.dates()
    | st.timedeltas()
)
hashable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | moments
    | st.uuids()
    | st.sampled_from([*Access, UserId("a"), PurePosixPath("b"), int, range(2), Frozen(1)])
    | st.builds(range, st.integers(), st.integers(), st.integers(1)),
    lambda inner: (
        st.tuples(inner)
        | st.frozensets(inner, max_size=3)
        | st.builds(Pair, inner, inner)
        | st.builds(Frozen, inner)
    ),
    max_leaves=4,
)


def containers(inner):
    dicts = st.dictionaries(hashable, inner, max_size=3)
    return (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.lists(inner, max_size=3).map(Tags)
        | st.lists(inner, max_size=3).map(deque)
        | st.sets(hashable, max_size=3)
        | st.dictionaries(st.text(max_size=2) | st.just("$type"), inner, max_size=3)
        | dicts
        | dicts.map(OrderedDict)
        | dicts.map(lambda pairs: defaultdict(dict, pairs))
        | st.dictionaries(hashable, st.integers(), max_size=3).map(Counter)
        | st.builds(slice, inner, inner)
        | st.builds(Box, inner)
        | st.builds(Line, st.text(), st.lists(inner, max_size=2))
        | st.builds(Tag, inner)
        | st.builds(lambda value: Described(value=value), inner)
        | st.builds(lambda value: Page[Any](items=[value]), inner)
        | st.builds(lambda value: ValueError(value, "no"), inner)
        | st.lists(inner, max_size=3).map(_object_array)
    )


def _object_array(items):
    array = np.empty(len(items), dtype=object)
    for index, item in enumerate(items):
        array[index] = item
    return array


@settings(deadline=None, max_examples=200)
@given(st.recursive(hashable | numbers | arrays(), containers, max_leaves=12))
def test_values_nested_in_any_way_come_back_as_they_were(value):
    assert same(again(value), value)
