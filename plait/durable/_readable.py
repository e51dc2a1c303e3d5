"""Values for a person or another program to read: as plain JSON data."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

from plait.durable._encryption import EncryptedCodec

if TYPE_CHECKING:
    from plait.durable._codec import Codec


def readable(payload: bytes, codec: Codec) -> Any:
    """What a payload says, for a person: also where its type is not there any more.

    Raises:
        ValueError: It is not JSON, and its codec does not know it.
    """
    try:
        return codec.decode(payload)
    except ValueError:
        value = written(payload, codec)
        if isinstance(value, dict) and value.keys() == {"$annotated", "value"}:
            return value["value"]
        return value


def written(payload: bytes, codec: Codec) -> Any:
    """The JSON that a payload is, with its types beside where they were written so.

    Raises:
        ValueError: It is not JSON, or none of the keys decrypts it.
    """
    if isinstance(codec, EncryptedCodec):
        return written(codec.decrypted(payload), codec.inner)
    try:
        return json.loads(payload)
    except ValueError:
        msg = "it is not JSON: only a runner with the codec that wrote it can read it"
        raise ValueError(msg) from None


def as_json(value: Any) -> Any:
    """A value as plain JSON data: by pydantic where it can be, else as it is printed."""
    try:
        return _finite(to_jsonable_python(value, fallback=_fallback))
    except (ValueError, RecursionError):
        # Bytes that are no text, or something inside that cannot be told.
        return _fallback(value)


def _fallback(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, BaseException):
        return {"type": type(value).__qualname__, "message": str(value)}
    return repr(value)


def _finite(value: Any) -> Any:
    """Without NaN and the infinities, for which JSON has no form."""
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):  # noqa: PLR0124 - NaN
        return str(value)
    if isinstance(value, dict):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return value
