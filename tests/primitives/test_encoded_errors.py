"""What is kept of errors, where their classes make it hard, and of values that need care."""

import dataclasses
import functools
from collections import deque
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pydantic
import pytest

from plait import RecordedError, SerializationError, step
from plait.durable._codec import JsonCodec
from plait.primitives._encoding import decode, encode
from plait.primitives._sameness import same


class OddlyReducedError(Exception):
    def __reduce__(self):
        raise LookupError("not this one")


class MadeElsewhereError(Exception):
    def __reduce__(self):
        return make_elsewhere, self.args


def make_elsewhere(*args):
    return MadeElsewhereError(*args)


@pytest.mark.parametrize("kind", [OddlyReducedError, MadeElsewhereError])
def test_an_error_that_is_copied_in_a_way_of_its_own_comes_back(kind):
    again = decode(encode(kind("closed")))
    assert (type(again), again.args) == (kind, ("closed",))


class WorseEachTimeError(Exception):
    def __init__(self, message):
        super().__init__(f"very {message}")


def test_an_error_that_adds_to_its_message_comes_back_with_the_one_that_it_had():
    assert str(decode(encode(WorseEachTimeError("late")))) == "very late"


def test_a_recorded_error_keeps_its_own_message_beside_an_attribute_of_that_name():
    class LocalError(Exception):
        pass

    error = LocalError("closed")
    error.message, error.code = "another", 7
    again = decode(encode(error))
    assert (type(again), again.message, again.code) == (RecordedError, "closed", 7)


def test_notes_do_not_make_an_error_another_input():
    error = ValueError({"a", "b"})
    before = JsonCodec().digest([error])
    error.add_note("in step 'shop'")
    again = decode(encode(error))
    assert JsonCodec().digest([error]) == JsonCodec().digest([again]) == before
    assert JsonCodec().digest([ValueError("c")]) != before


@pytest.mark.parametrize(
    "text",
    [
        b'{"$error":1,"message":"closed"}',
        b'{"$error":"builtins:ValueError","message":1}',
        b'{"$error":"builtins:ValueError"}',
        b'{"$error":"builtins:ValueError","message":"","state":1}',
        b'{"$tuple":{"a":1}}',
        b'{"$dict":[1]}',
        b'{"$bytes":"?"}',
        b'{"$type":"builtins:print","items":["a"]}',
        b'{"$global":1}',
        b'{"$global":""}',
        b'{"$global":".:a"}',
        b'{"$set":[[]]}',
        b"[" * 100_000,
    ],
)
def test_a_malformed_text_is_refused(text):
    with pytest.raises(ValueError, match="a value cannot be decoded"):
        decode(text)


@dataclasses.dataclass
class Area:
    width: int

    @functools.cached_property
    def doubled(self):
        return self.width * 2


def test_what_is_only_cached_is_not_kept():
    area = Area(2)
    assert area.doubled == 4
    assert b"doubled" not in encode(area)
    assert same(decode(encode(area)), area)


class Zone(tzinfo):
    """Has a state beside its arguments."""

    def __init__(self, hours=0):
        self.hours = hours

    def utcoffset(self, _):
        return timedelta(hours=self.hours)


@pytest.mark.parametrize(
    "zone",
    [
        UTC,
        timezone(timedelta(hours=1), "CET"),
        ZoneInfo("Europe/Berlin"),
        pydantic.TypeAdapter(datetime).validate_json('"2024-10-27T02:30:00+02:00"').tzinfo,
    ],
    ids=repr,
)
@pytest.mark.parametrize("fold", [0, 1])
def test_a_time_keeps_its_zone_and_its_fold(zone, fold):
    moment = datetime(2024, 10, 27, 2, 30, fold=fold, tzinfo=zone)
    again = decode(encode(moment))
    assert repr(again) == repr(moment)
    assert again.utcoffset() == moment.utcoffset()


def test_a_zone_with_a_state_has_no_form():
    with pytest.raises(SerializationError, match=r"Zone: no JSON form"):
        encode(datetime(2024, 1, 1, tzinfo=Zone(2)))


@pytest.mark.parametrize(
    "value",
    [10**5000, -(10**5000), [10**5000], {"a": 10**5000}, (10**5000,), {1: 10**5000}],
    ids=["alone", "negative", "in a list", "in a dict", "in a tuple", "with other keys"],
)
def test_an_integer_comes_back_that_is_too_long_to_be_read_as_decimal_digits(value):
    assert decode(encode(value)) == value
    assert JsonCodec().digest(value) != b""


def test_a_long_string_of_digits_is_none():
    assert decode(encode("1" * 5000)) == "1" * 5000


def test_queues_are_the_same_when_their_lengths_are():
    assert not same(deque([1], 2), deque([1], 3))
    assert same(deque([1], 2), deque([1], 2))


def test_the_part_that_would_not_come_back_is_named():
    with pytest.raises(SerializationError, match=r"SecretStr at \.a\[1\]\[2\]: what is decoded"):
        JsonCodec().encode({"a": (1, {2: pydantic.SecretStr("1")})})


class Checked(pydantic.BaseModel):
    amount: int

    @pydantic.field_validator("amount")
    @classmethod
    def check(cls, amount):
        if is_down:
            raise ConnectionError
        return amount


is_down = []


@step
async def pay(_) -> Checked:
    return Checked(amount=1)


def test_a_validator_that_breaks_down_is_the_texts_fault():
    payload = JsonCodec().encode(Checked(amount=1), pay)
    is_down.append(True)
    with pytest.raises(ValueError, match="ConnectionError"):
        JsonCodec().decode(payload, pay)


class UnlikeError(Exception):
    """Says something else each time."""

    def __str__(self):
        return str(id(self))


def test_an_error_that_would_say_something_else_comes_back_as_recorded():
    error = UnlikeError()
    again = decode(encode(error))
    assert (type(again), again.message) == (RecordedError, str(error))
