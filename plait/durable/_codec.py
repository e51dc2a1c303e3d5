"""Payloads: what a journal keeps of values, errors and times."""

from __future__ import annotations

import functools
import hashlib
import inspect
import typing
from typing import TYPE_CHECKING, Any

from plait.primitives import MapPrimitive, SequentialPrimitive, SerializationError, Step
from plait.primitives._encoding import adapter, decode, encode, is_plain, same, to_json
from plait.primitives._references import full_name
from plait.primitives._wrapper import Wrapper

if TYPE_CHECKING:
    from plait.primitives import WorkflowPrimitive

# `{"$annotated":"shop.orders:Order","value":...}`, where the type is the value's own.
_TYPED, _VALUE, _END = b'{"$annotated":"', b'","value":', b"}"


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
        try:
            if is_plain(value):
                return to_json(value)
            annotated = _encode_annotated(value, return_type(primitive))
            if annotated is not None:
                return annotated
            payload = encode(value)
            decoded = decode(payload)
            fits = same(value, decoded)
        except (ValueError, RecursionError) as error:
            raise SerializationError(type(value), "", str(error)) from error
        if not fits:
            reason = "what is decoded differs from it; annotate the step's return type"
            raise SerializationError(*_unlike(value, decoded, ""), reason)
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
        annotation = return_type(primitive)
        known = None if annotation is Any else adapter(annotation)
        if known is None:
            msg = "what returned it no longer says of which type it is"
            raise ValueError(msg)
        name, _, text = payload[len(_TYPED) : -len(_END)].partition(_VALUE)
        try:
            value = known.validate_json(text)
        except Exception as error:
            # Validators of the user's take part in it, and raise whatever they like.
            msg = f"a value of {primitive} cannot be decoded: {type(error).__name__}: {error}"
            raise ValueError(msg) from error
        if full_name(type(value)).encode() != name:
            msg = f"it was {name.decode()}, and {primitive} returns {full_name(type(value))}"
            raise ValueError(msg)
        return value


def digest(value: object) -> bytes:
    """Tells inputs apart; empty for one that has no encoded form."""
    try:
        return hashlib.blake2b(encode(value, canonical=True), digest_size=12).digest()
    except SerializationError:
        return b""


def _unlike(value: Any, decoded: Any, where: str) -> tuple[type, str]:
    """The type of the part that was decoded to something else, and the way to it."""
    places: Any = ()
    if type(value) in (list, tuple):
        places = enumerate(value)
    elif type(value) is dict:
        places = value.items()
    for key, part in places:
        if not same(part, decoded[key]):
            place = f".{key}" if isinstance(key, str) else f"[{key!r}]"
            return _unlike(part, decoded[key], where + place)
    return type(value), where


def _encode_annotated(value: object, annotation: Any) -> bytes | None:
    known = None if annotation is Any else adapter(annotation)
    if known is None:
        return None
    try:
        text = known.dump_json(value, warnings="error")
        fits = same(known.validate_json(text), value)
    except Exception:  # noqa: BLE001 - whatever serializers and validators of the user's raise
        return None
    name = full_name(type(value)).encode()
    return b"".join((_TYPED, name, _VALUE, text, _END)) if fits else None


def return_type(primitive: WorkflowPrimitive[Any, Any] | None) -> Any:
    """The type that a primitive is annotated to return, as far as it says; else Any."""
    match primitive:
        case None:
            return Any
        case Step():
            return _return_annotation(_hashable(primitive._function))
        case SequentialPrimitive():
            return return_type(primitive.children[-1])
        case MapPrimitive():
            return list[return_type(primitive.children[0])]  # type: ignore[misc]
        case Wrapper():
            return return_type(primitive.children[0])
        case _:
            return _return_annotation(type(primitive)._undoored)


def _hashable(function: Any) -> Any:
    """What says which type a callable returns; an object's own hash may be refused."""
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    if isinstance(function, functools.partial):
        return _hashable(function.func)
    return type(function).__call__


@functools.lru_cache(4096)
def _return_annotation(function: Any) -> Any:
    try:
        annotation = typing.get_type_hints(function, include_extras=True).get("return", Any)
    except Exception:  # noqa: BLE001 - annotations may be anything
        return Any
    is_open = isinstance(annotation, typing.TypeVar) or bool(
        getattr(annotation, "__parameters__", ())
    )
    return Any if is_open else annotation
