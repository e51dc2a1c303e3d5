"""Codecs: what they promise a journal."""

import dataclasses
from decimal import Decimal

import pydantic
import pytest
from cryptography.fernet import Fernet

from plait import RecordedError, SerializationError, step
from plait.durable import Codec, EncryptedCodec, JsonCodec
from plait.durable._codec import encode_error


@dataclasses.dataclass
class Order:
    number: int


class Money(pydantic.BaseModel):
    amount: Decimal


@step
async def price(_) -> Money: ...


class Quarrelsome(int):
    """Cannot be compared."""

    def __eq__(self, other):
        raise LookupError("not with me")

    __hash__ = int.__hash__


VALUES = [None, 1, "text", {"a": [1]}, (1, 2), Order(1), {Decimal("1.50")}, 10**5000]


@pytest.fixture(params=["json", "encrypted"])
def codec(request):
    inner = JsonCodec()
    return inner if request.param == "json" else EncryptedCodec(inner, [Fernet.generate_key()])


def test_a_codec_is_one(codec):
    assert isinstance(codec, Codec)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_codec_gives_back_what_it_was_given(codec, value):
    payload = codec.encode(value)
    assert type(payload) is bytes
    again = codec.decode(payload)
    assert (type(again), again) == (type(value), value)


def test_a_codec_goes_by_the_annotation(codec):
    money = Money(amount=Decimal("1.50"))
    assert codec.decode(codec.encode(money, price), price) == money


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_equal_inputs_have_comparable_digests(codec, value):
    first = codec.digest(value)
    assert first
    assert codec.digest(value, first) == first
    assert codec.digest(["another"], first) != first


def test_the_order_of_keys_makes_no_other_digest(codec):
    first = codec.digest({"a": 1, 2: 3})
    assert codec.digest({2: 3, "a": 1}, first) == first


def test_what_has_no_form_has_no_digest(codec):
    assert codec.digest(object()) == b""
    assert codec.digest(object(), codec.digest(1)) == b""


def test_a_codec_refuses_what_has_no_form(codec):
    with pytest.raises(SerializationError, match=r"object at \[1\]: no JSON form"):
        codec.encode([1, object()])


def test_a_payload_that_is_too_long_is_refused():
    codec = JsonCodec(max_bytes=5000)
    assert len(codec.encode("a" * 4998)) == 5000
    for value in ("a" * 4999, ("a" * 4999,)):
        with pytest.raises(
            SerializationError,
            match=r"the result of 'price' takes 5,0\d\d bytes, more than max_bytes=5,000; .*blob",
        ):
            codec.encode(value, price)
    with pytest.raises(SerializationError, match="it takes 5,001 bytes"):
        codec.encode("a" * 4999)


def test_the_limit_is_16_mib_where_none_is_given_and_can_be_lifted():
    text = "a" * (16 * 1024 * 1024)
    with pytest.raises(SerializationError, match=r"takes 16,777,218 bytes, more than .*16,777,216"):
        JsonCodec().encode(text)
    assert len(JsonCodec(max_bytes=None).encode(text)) == len(text) + 2


def test_a_limit_that_allows_nothing_is_refused():
    with pytest.raises(
        ValueError, match="max_bytes=4095: less than 4,096 leaves no room for an err"
    ):
        JsonCodec(max_bytes=4095)


def test_a_json_codec_shows_its_limit():
    assert repr(JsonCodec(max_bytes=9999)) == "JsonCodec(max_bytes=9999)"


def test_a_value_that_refuses_to_be_compared_is_refused():
    with pytest.raises(SerializationError, match="not with me"):
        JsonCodec().encode([Quarrelsome(1)])


class CountedError(Exception):
    made = 0

    def __init__(self, message):
        CountedError.made += 1
        super().__init__(message)


def test_an_error_is_encoded_without_making_another(codec):
    error = CountedError("no")
    error.cost = Decimal("1.50")
    before = CountedError.made
    payload = encode_error(codec, error)
    assert CountedError.made == before
    again = codec.decode(payload)
    assert (type(again), str(again), again.cost) == (CountedError, "no", Decimal("1.50"))


@pytest.mark.parametrize("letter", ["a", "\ud800", "\U0001f680"], ids=ascii)
def test_an_error_that_is_too_long_is_recorded_all_the_same(letter):
    codec = JsonCodec(max_bytes=4096)
    again = codec.decode(encode_error(codec, ValueError(letter * 5000)))
    assert isinstance(again, RecordedError)
    assert (again.type_name, again.message) == ("builtins:ValueError", letter * 300)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": (1, {2: pydantic.SecretStr("1")})}, r"SecretStr at \.a\[1\]\[2\]: what is decoded"),
        (Order(pydantic.SecretStr("1")), r"SecretStr at \.number: what is decoded"),
    ],
)
def test_the_part_that_would_come_back_as_another_is_named(value, message):
    with pytest.raises(SerializationError, match=message):
        JsonCodec().encode(value)
