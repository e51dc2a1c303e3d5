"""Values as JSON: whatever is encoded comes back equal, and of the same types all through."""

import dataclasses
import enum
import functools
import math
import re
from datetime import UTC, datetime, tzinfo
from types import GenericAlias
from typing import Any, NamedTuple

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait import MapPrimitive, RecordedError, SerializationError, step
from plait.durable._codec import JsonCodec
from plait.primitives._encoding import decode, encode
from plait.primitives._sameness import same


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1


class Key(enum.Enum):
    LOCK = object()


class Mood(enum.StrEnum):
    GLAD = "glad"


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclasses.dataclass(frozen=True)
class Node:
    value: Any
    children: Any = ()


@dataclasses.dataclass(slots=True)
class Leaf:
    value: Any


class Model(pydantic.BaseModel):
    value: Any
    note: str = ""


class ShopError(Exception):
    pass


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec=None))
    | st.binary()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.dates()
    | st.times().map(lambda time: time.replace(fold=0))
    | st.datetimes(allow_imaginary=False).map(lambda time: time.replace(fold=0))
    | st.datetimes(timezones=st.just(UTC))
    | st.timedeltas()
    | st.uuids()
    | st.fractions()
    | st.sampled_from([*Colour, *Size, *Mood])
    | st.sampled_from([int, Node, Colour])
)
hashable = st.recursive(
    scalars,
    lambda inner: (
        st.tuples(inner) | st.frozensets(inner, max_size=3) | st.builds(Pair, inner, inner)
    ),
    max_leaves=5,
)
keys = st.text(max_size=3) | st.sampled_from(["$tuple", "$type", "$"])


def containers(inner):
    return (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.sets(hashable, max_size=4)
        | st.binary().map(bytearray)
        | st.builds(Pair, inner, inner)
        | st.builds(Node, inner, inner)
        | st.builds(Leaf, inner)
        | st.builds(Model, value=inner)
        | st.builds(Model, value=inner, note=st.text())
    )


values = st.recursive(scalars, containers, max_leaves=20)


@settings(deadline=None, max_examples=300)
@given(values)
def test_what_is_encoded_comes_back_as_it_was(value):
    codec = JsonCodec()
    assert same(codec.decode(codec.encode(value)), value)


@settings(deadline=None)
@given(values)
def test_what_came_back_is_encoded_alike(value):
    assert encode(decode(encode(value))) == encode(value)


@settings(deadline=None)
@given(values)
def test_an_error_comes_back_with_its_arguments(value):
    error = decode(encode(ShopError(value, "closed")))
    assert type(error) is ShopError
    assert same(error.args, (value, "closed"))


@given(st.dictionaries(keys, st.integers()))
def test_the_canonical_form_does_not_depend_on_the_order_of_keys(value):
    other = dict(reversed(value.items()))
    assert encode(value, canonical=True) == encode(other, canonical=True)


@given(st.dictionaries(st.integers() | st.text(), st.integers()))
def test_the_canonical_form_does_not_depend_on_the_order_of_keys_of_any_type(value):
    other = dict(reversed(value.items()))
    assert encode(value, canonical=True) == encode(other, canonical=True)


@given(st.lists(hashable, max_size=6, unique=True))
def test_a_set_is_encoded_alike_whatever_its_own_order(value):
    backwards = value[::-1]
    assert encode(set(value)) == encode(set(backwards))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, b"null"),
        ([1, "a", {"b": 0.5}], b'[1,"a",{"b":0.5}]'),
        ((1, 2), b'{"$tuple":[1,2]}'),
        ({2, 1}, b'{"$set":[1,2]}'),
        ({1: "a"}, b'{"$dict":[[1,"a"]]}'),
        ({"$a": 1}, b'{"$dict":[["$a",1]]}'),
        (b"abc", b'{"$bytes":"YWJj"}'),
        (Leaf(1), b'{"$type":"test_encoding:Leaf","fields":{"value":1}}'),
        (Pair(1, 2), b'{"$type":"test_encoding:Pair","items":[1,2]}'),
        (int, b'{"$global":"builtins:int"}'),
        ("half a pair \ud800", b'"half a pair \\ud800"'),
    ],
    ids=repr,
)
def test_the_form_says_which_types_there_were(value, text):
    assert encode(value) == text


def test_numbers_that_json_does_not_have_come_back():
    assert decode(encode([math.inf, -math.inf])) == [math.inf, -math.inf]
    assert math.isnan(decode(encode(math.nan)))
    assert math.copysign(1, decode(encode(-0.0))) == -1


def test_a_field_that_was_never_set_stays_so():
    leaf = Leaf.__new__(Leaf)
    assert not hasattr(decode(encode(leaf)), "value")


@dataclasses.dataclass
class Square:
    side: int

    @functools.cached_property
    def area(self):
        return self.side**2


def test_what_can_be_computed_again_is_not_kept():
    square = Square(3)
    assert square.area == 9
    assert encode(square) == b'{"$type":"test_encoding:Square","fields":{"side":3}}'


class Zone(tzinfo):
    """Knows more than what it is called with."""

    def __init__(self, hours=0):
        self.hours = hours


def test_a_zone_that_cannot_be_made_again_is_named():
    with pytest.raises(SerializationError, match=r"test_encoding\.Zone at \.start"):
        encode({"start": datetime(2024, 1, 1, tzinfo=Zone(1))})


def test_an_error_comes_back_with_its_notes_and_its_attributes():
    error = ShopError("closed", 7)
    error.add_note("in step 'shop'")
    error.retry_after = 3
    again = decode(encode(error))
    assert (type(again), again.args, again.retry_after) == (ShopError, ("closed", 7), 3)
    assert again.__notes__ == ["in step 'shop'"]


def test_an_error_that_cannot_be_built_comes_back_as_recorded():
    class LocalError(Exception):
        pass

    again = decode(encode(LocalError("closed")))
    assert isinstance(again, RecordedError)
    assert again.message == "closed"
    assert str(again).endswith("LocalError: closed")


def test_an_error_that_was_recorded_is_encoded_as_what_it_was():
    class LocalError(Exception):
        pass

    text = encode(LocalError("closed"))
    assert encode(decode(text)) == text


def test_an_error_that_refers_to_itself_comes_back_without():
    error = ShopError("closed")
    error.causes = [error]
    assert isinstance(decode(encode(error)), ShopError)


def test_an_error_comes_back_though_a_set_in_it_has_another_order_now():
    text = encode(ShopError({"a", "b"}))
    for message in (b"{'a', 'b'}", b"{'b', 'a'}"):
        elsewhere = re.sub(rb'"message":"[^"]*"', b'"message":"%s"' % message, text)
        assert type(decode(elsewhere)) is ShopError


class NotAnError:
    """Took the place of an exception class of an earlier version."""

    def __init__(self, *args):
        self.args = args


def test_an_error_whose_class_is_none_any_more_comes_back_as_recorded():
    text = b'{"$error":"test_encoding:NotAnError","message":"closed","args":{"$tuple":[]}}'
    again = decode(text)
    assert (type(again), again.type_name) == (RecordedError, "test_encoding:NotAnError")


def test_what_has_no_form_is_named_with_the_way_to_it():
    with pytest.raises(SerializationError) as caught:
        encode({"orders": [{"lock": (1, object())}]})
    assert caught.value.where == ".orders[0].lock[1]"
    assert "cannot encode builtins.object at .orders[0].lock[1]" in str(caught.value)


def test_a_key_that_has_no_form_is_named():
    with pytest.raises(SerializationError, match=r"cannot encode \S+Opaque at \["):
        encode({Opaque(): 1})


def shout(text):
    return text.upper()


def test_a_primitive_comes_back_as_it_was_composed():
    workflow = MapPrimitive(step(shout) | len, max_concurrency=2).named("loud") >> step(str)
    again = decode(encode(workflow))
    assert again == workflow
    assert str(again) == "loud >> str"
    assert again.run_sync(["ada"]) == "[('ADA', 3)]"


class Opaque:
    pass


Opaque.__module__ = "gone.module"
alias = GenericAlias(list, (int,))


@pytest.mark.parametrize("value", [Opaque(), Opaque])
def test_a_class_that_cannot_be_found_again_is_named(value):
    with pytest.raises(SerializationError, match=r" at \[0\]: "):
        encode([value])


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b'{"$later":1}',
        b'{"$type":"gone.module:Order","fields":{}}',
        b'{"$type":"test_encoding:Gone","fields":{}}',
        b'{"$type":"test_encoding:alias","fields":{}}',
        b'{"$type":"builtins:memoryview","value":1}',
        b'{"$global":"test_encoding:gone"}',
    ],
)
def test_a_text_that_cannot_be_decoded_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        decode(text)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, True),
        (1, 1.0),
        ([1], (1,)),
        ((1, 2), Pair(1, 2)),
        ([1], [1, 2]),
        ({"a": 1}, {"a": True}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1: "a"}, {True: "a"}),
        ({1}, {True}),
        (Leaf(1), Leaf(True)),
        (ValueError("a"), ValueError("b")),
        (ValueError("a"), KeyError("a")),
        (Model(value=1), Model(value=True)),
        (0.0, math.nan),
        (Size.SMALL, 1),
    ],
    ids=repr,
)
def test_values_of_other_types_are_not_the_same(left, right):
    assert not same(left, right)
    assert not same(right, left)


def test_an_enum_whose_value_has_no_form_is_refused():
    with pytest.raises(SerializationError, match=r"Key at \[1\]: cannot encode builtins.object"):
        encode([1, Key.LOCK])


class Trap:
    """Does something when it is made; nothing that `encode` makes any of."""

    made = 0

    def __init__(self, *args, **kwargs):
        Trap.made += 1

    def __setstate__(self, state):
        Trap.made += 1


@pytest.mark.parametrize(
    "content",
    ['"items":[1]', '"value":1', '"spec":{},"name":null', '"state":{}', '"fields":{"a":1}'],
)
def test_no_class_is_called_that_is_not_of_the_kind_that_was_encoded(content):
    Trap.made = 0
    with pytest.raises(ValueError, match=r"."):
        decode(b'{"$type":"test_encoding:Trap",%s}' % content.encode())
    assert Trap.made == 0
