"""Encrypted payloads: nobody without the key reads, guesses or forges them; keys are rotated."""

import base64
import builtins

import pytest
from cryptography.fernet import Fernet

from plait import step
from plait.durable import EncryptedCodec, JsonCodec

OLD, NEW, OTHER = (Fernet.generate_key() for _ in range(3))


def codec(*keys):
    return EncryptedCodec(JsonCodec(), keys)


def test_a_payload_does_not_show_what_is_in_it():
    first, second = codec(OLD).encode("secret"), codec(OLD).encode("secret")
    assert b"secret" not in base64.urlsafe_b64decode(first)
    assert first != second
    assert Fernet(OLD).decrypt(first) == b'"secret"'


def test_keys_may_be_text():
    assert codec(OLD.decode()).decode(codec(OLD).encode(1)) == 1
    digest = codec(OLD).digest(1)
    assert codec(OLD.decode()).digest(1, digest) == digest


def test_rotated_keys_read_what_the_old_ones_wrote():
    payload = codec(OLD).encode((1, 2))
    assert codec(NEW, OLD).decode(payload) == (1, 2)
    rotated = codec(NEW, OLD).encode((1, 2))
    assert codec(NEW).decode(rotated) == (1, 2)


def test_a_digest_stays_comparable_when_the_keys_are_rotated():
    recorded = codec(OLD).digest({"order": 1})
    assert codec(NEW, OLD).digest({"order": 1}, recorded) == recorded
    assert codec(NEW, OLD).digest({"order": 2}, recorded) != recorded
    recorded = codec(NEW, OLD).digest({"order": 1})
    assert codec(NEW).digest({"order": 1}, recorded) == recorded


@pytest.mark.parametrize(
    ("value", "recorded"),
    [
        ("yes", "c015ba01628c0da95de81926449ffc8b17451dc685faed0048e760e0"),
        (
            {"order": 1, "items": ["tea", "milk"]},
            "c015ba0150a2bd2580b5d02c98feafda1185e7e7808264fcda694a4b",
        ),
    ],
    ids=["short", "long"],
)
def test_a_digest_of_an_earlier_version_stays_comparable(value, recorded):
    key = base64.urlsafe_b64encode(bytes(range(32)))
    assert codec(NEW, key).digest(value, bytes.fromhex(recorded)).hex() == recorded


def test_digests_do_not_show_which_inputs_are_equal():
    assert len({codec(OLD).digest("yes") for _ in range(100)}) == 100


def test_digests_cannot_be_tried_without_the_key():
    recorded = codec(OLD).digest("yes")
    plain = JsonCodec().digest("yes")
    assert plain not in recorded
    forged = codec(OTHER).digest("yes")
    assert forged[-16:] != recorded[-16:]


@pytest.mark.parametrize(
    "like", [codec(OTHER).digest(1), JsonCodec().digest(1)], ids=["another key", "no key"]
)
def test_a_digest_of_another_key_is_not_compared(like):
    with pytest.raises(ValueError, match="recorded under a key that is not among the codec's keys"):
        codec(OLD).digest(1, like)


@pytest.mark.parametrize("keys", [(OTHER,), (OTHER, NEW)])
def test_a_wrong_key_is_an_error(keys):
    payload = codec(OLD).encode(1)
    with pytest.raises(ValueError, match="none of the keys decrypts it"):
        codec(*keys).decode(payload)


def test_a_payload_that_was_changed_is_refused():
    payload = bytearray(codec(OLD).encode({"amount": 1}))
    payload[40] ^= 1
    with pytest.raises(ValueError, match="or it was changed since it was written"):
        codec(OLD).decode(bytes(payload))


@pytest.mark.parametrize("payload", [b'{"amount":1}', b"1", b"", b"\xff"])
def test_a_payload_that_is_not_encrypted_is_refused(payload):
    with pytest.raises(ValueError, match="it is not encrypted; it was written without"):
        codec(OLD).decode(payload)


@step
async def nothing(_): ...


def test_what_the_inner_codec_cannot_decode_is_its_error():
    payload = Fernet(OLD).encrypt(b'{"$annotated":"a:B","value":1}')
    with pytest.raises(ValueError, match="no longer says of which type"):
        codec(OLD).decode(payload, nothing)


@pytest.mark.parametrize("keys", [[], OLD, OLD.decode()], ids=["none", "bytes", "text"])
def test_keys_are_a_list(keys):
    with pytest.raises(ValueError, match="a list of at least one Fernet key"):
        EncryptedCodec(JsonCodec(), keys)


@pytest.mark.parametrize("key", ["typing error", b"\xff", base64.b64encode(b"short"), 7])
def test_a_key_that_is_none_is_refused_without_being_shown(key):
    with pytest.raises(ValueError, match=r"^keys\[1\] is no Fernet key") as caught:
        EncryptedCodec(JsonCodec(), [OLD, key])
    assert str(key) not in str(caught.value)
    assert caught.value.__cause__ is None


def test_it_does_not_show_its_keys():
    assert repr(codec(OLD, NEW)) == "EncryptedCodec(JsonCodec(max_bytes=16777216), 2 keys)"


def test_a_missing_package_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("cryptography"):
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'pip install "plait\[encryption\]"'):
        codec(OLD)
