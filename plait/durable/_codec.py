"""Payloads: what a journal keeps of values, errors and times."""

from __future__ import annotations

import functools
import hashlib
import typing
from typing import TYPE_CHECKING, Any

import pydantic_core
from pydantic import ValidationError

from plait.primitives import MapPrimitive, SequentialPrimitive, SerializationError, Step
from plait.primitives._encoding import adapter, decode, encode, is_plain, same
from plait.primitives._wrapper import Wrapper

if TYPE_CHECKING:
    from plait.primitives import WorkflowPrimitive

_TYPED, _END = b'{"$annotated":', b"}"


class JsonCodec:
    """Values as JSON that gives them back.

    What JSON keeps by itself is plain JSON; the rest goes by the step's return annotation through
    pydantic, and where that does not fit, with its types written beside. Whatever is not plain is
    decoded once and compared: a value that a replay could not give back fails now, and not then.
    """

    def encode(self, value: object, primitive: WorkflowPrimitive[Any, Any] | None = None) -> bytes:
        """A value, such as a node's result.

        Args:
            value: The value.
            primitive: What returned it, where it is a result.

        Raises:
            SerializationError: It has no form that gives it back.
        """
        if is_plain(value):
            return encode(value)
        annotated = _encode_annotated(value, return_type(primitive))
        if annotated is not None:
            return annotated
        payload = encode(value)
        if not same(decode(payload), value):
            reason = "what is decoded differs from it; annotate the step's return type"
            raise SerializationError(value, "", reason)
        return payload

    def decode(self, payload: bytes, primitive: WorkflowPrimitive[Any, Any] | None = None) -> Any:
        """The value that was encoded.

        Args:
            payload: What `encode` made of it.
            primitive: What returned it.

        Raises:
            ValueError: It does not fit, or names a type that is not there any more.
        """
        if not payload.startswith(_TYPED):
            return decode(payload)
        known = adapter(return_type(primitive))
        if known is None:
            msg = f"{primitive} no longer says what type it returns"
            raise ValueError(msg)
        return known.validate_json(payload[len(_TYPED) : -len(_END)])


def digest(value: object) -> bytes:
    """Tells inputs apart; empty for one that has no encoded form."""
    try:
        return hashlib.blake2b(encode(value), digest_size=12).digest()
    except SerializationError:
        return b""


def _encode_annotated(value: object, annotation: Any) -> bytes | None:
    known = None if annotation is Any else adapter(annotation)
    if known is None:
        return None
    try:
        payload = known.dump_json(value, warnings="error")
        fits = same(known.validate_json(payload), value)
    except (ValidationError, pydantic_core.PydanticSerializationError):
        return None
    return _TYPED + payload + _END if fits else None


def return_type(primitive: WorkflowPrimitive[Any, Any] | None) -> Any:
    """The type that a primitive is annotated to return, as far as it says; else Any."""
    match primitive:
        case None:
            return Any
        case Step():
            return _return_annotation(primitive._function)
        case SequentialPrimitive():
            return return_type(primitive.children[-1])
        case MapPrimitive():
            return list[return_type(primitive.children[0])]  # type: ignore[misc]
        case Wrapper():
            return return_type(primitive.children[0])
        case _:
            return _return_annotation(type(primitive)._undoored)


@functools.lru_cache(4096)
def _return_annotation(function: Any) -> Any:
    try:
        annotation = typing.get_type_hints(function, include_extras=True).get("return", Any)
    except (NameError, TypeError, AttributeError):
        return Any
    is_open = isinstance(annotation, typing.TypeVar) or bool(
        getattr(annotation, "__parameters__", ())
    )
    return Any if is_open else annotation
