"""Payloads: what a journal keeps of inputs, results, errors and data."""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from plait.primitives import (
    MapPrimitive,
    RecordedError,
    SequentialPrimitive,
    SerializationError,
    Step,
)
from plait.primitives._encoded_errors import identity
from plait.primitives._encoded_types import adapter
from plait.primitives._encoding import decode, encode, plain_json
from plait.primitives._references import full_name
from plait.primitives._sameness import attributes, has_fields, same
from plait.primitives._wrapper import Wrapper

if TYPE_CHECKING:
    from plait.primitives import WorkflowPrimitive

# `{"$annotated":"shop.orders:Order","value":...}`, where the type is the value's own.
_TYPED, _VALUE, _END = b'{"$annotated":"', b'","value":', b"}"


@runtime_checkable
class Codec(Protocol):
    """Values as bytes, for a journal, and back.

    Everything that a durable runner writes of a program's own data goes through its codec: inputs,
    results, errors, `context.data`, the payloads of signals and events. It is called on the event
    loop, before and after what a step does, so it must be quick and wait for nothing.
    """

    def encode(self, value: object, primitive: WorkflowPrimitive[Any, Any] | None = None) -> bytes:
        """A value as bytes that give back an equal one, of the same types all through.

        Args:
            value: The value.
            primitive: What returned it, where it is a result.

        Raises:
            SerializationError: There is no such form.
        """
        ...

    def decode(self, payload: bytes, primitive: WorkflowPrimitive[Any, Any] | None = None) -> Any:
        """The value that was encoded.

        Args:
            payload: What `encode` made of it.
            primitive: What returned it.

        Raises:
            ValueError: It cannot be had from this payload.
        """
        ...

    def digest(self, value: object, like: bytes = b"") -> bytes:
        """Tells an input from others: equal ones have equal digests.

        Args:
            value: The input.
            like: The digest that this one will be compared with, where there is one. A codec that
                hides values behind a key and a salt takes those of that digest.

        Returns:
            A few bytes; none for a value that has no encoded form.

        Raises:
            ValueError: Nothing can be compared with `like`, such as for want of its key.
        """
        ...


class JsonCodec:
    """Values as JSON that gives them back.

    What JSON keeps by itself is plain JSON; the rest goes by the step's return annotation through
    pydantic, and where that does not fit, with its types written beside. Whatever is not plain is
    decoded once and compared: a value that a replay could not give back fails now, and not then.

    Reading imports no module and calls no function that a payload names. Classes are looked for in
    what the program has imported, and made only in the way in which their objects are written.

    Args:
        max_bytes: How long a payload may be, at least 4,096; None for no limit.

    Raises:
        ValueError: `max_bytes` is less than that.

    Example:
        >>> from decimal import Decimal
        >>> codec = JsonCodec()
        >>> codec.encode({"total": 42})
        b'{"total":42}'
        >>> codec.decode(codec.encode((Decimal("1.50"), b"tea")))
        (Decimal('1.50'), b'tea')
    """

    def __init__(self, *, max_bytes: int | None = 16 * 1024 * 1024) -> None:
        if max_bytes is not None and max_bytes < _LEAST_BYTES:
            msg = f"max_bytes={max_bytes}: less than {_LEAST_BYTES:,} leaves no room for an error"
            raise ValueError(msg)
        self.max_bytes = max_bytes
        self._limit = sys.maxsize if max_bytes is None else max_bytes

    def __repr__(self) -> str:
        return f"JsonCodec(max_bytes={self.max_bytes})"

    def encode(self, value: object, primitive: WorkflowPrimitive[Any, Any] | None = None) -> bytes:
        """A value, such as a node's result.

        Args:
            value: The value.
            primitive: What returned it, where it is a result.

        Raises:
            SerializationError: It has no form that gives it back, or a longer one than allowed.
        """
        payload = plain_json(value)
        if payload is None:
            payload = _encode_checked(value, primitive)
        if len(payload) > self._limit:
            what = "it" if primitive is None else f"the result of {primitive.name!r}"
            reason = (
                f"{what} takes {len(payload):,} bytes, more than max_bytes={self.max_bytes:,}; keep"
                " it in a blob store and hand on its key, or give the runner a blob store and its "
                "JsonCodec a higher max_bytes"
            )
            raise SerializationError(type(value), "", reason)
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

    def digest(self, value: object, like: bytes = b"") -> bytes:
        """Tells an input from others; empty for one that has no encoded form.

        Args:
            value: The input.
            like: The digest that this one will be compared with: earlier versions had longer ones.
        """
        try:
            text = encode(value, canonical=True)
        except SerializationError:
            return b""
        if len(like) == EARLIER_BYTES:
            return blake2b(text, digest_size=EARLIER_BYTES).digest()
        # What is no longer than a digest tells as much, and costs a third.
        return (
            text
            if len(text) <= _DIGEST_BYTES
            else blake2b(text, digest_size=_DIGEST_BYTES).digest()
        )


IN_MEMORY = JsonCodec(max_bytes=None)
"""For what does not leave the process: it is not encrypted, and may be as long as it likes."""


def encode_error(codec: Codec, error: BaseException) -> bytes:
    """An error, with as much of it as the codec takes: it is to be recorded in any case.

    Args:
        codec: What encodes it.
        error: The error.
    """
    try:
        return codec.encode(error)
    except SerializationError:
        known = identity(error)
        return codec.encode(RecordedError(known["$error"], known["message"][:_SHORT]))


_SHORT = 300
"""How many characters of a message are kept of an error that is too long as it is."""
EARLIER_BYTES = 12
"""How long the digests of earlier versions are."""
_DIGEST_BYTES = 11
_LEAST_BYTES = 4_096
"""What an error with a message of that length surely fits in."""


def _encode_checked(value: object, primitive: WorkflowPrimitive[Any, Any] | None) -> bytes:
    """A value with its types, once it is seen to come back."""
    if isinstance(value, BaseException):
        return encode(value)  # whatever is left of it comes back: none is made to see that
    annotated = _encode_annotated(value, return_type(primitive))
    if annotated is not None:
        return annotated
    payload = encode(value)
    try:
        decoded = decode(payload)
        fits = same(value, decoded)
    except Exception as error:
        # Classes of the user's are asked whether they are equal, and raise whatever they like.
        raise SerializationError(type(value), "", str(error)) from error
    if not fits:
        reason = "what is decoded differs from it; annotate the step's return type"
        raise SerializationError(*_unlike(value, decoded, ""), reason)
    return payload


def _unlike(value: Any, decoded: Any, where: str) -> tuple[type, str]:
    """The type of the part that was decoded to something else, and the way to it."""
    places: Any = ()
    if type(value) is type(decoded) and has_fields(type(value)):
        theirs = attributes(decoded)
        places = [(f".{name}", it, theirs.get(name)) for name, it in attributes(value).items()]
    elif type(value) in (list, tuple):
        places = [(f"[{index}]", it, decoded[index]) for index, it in enumerate(value)]
    elif type(value) is dict:
        names = (f".{key}" if isinstance(key, str) else f"[{key!r}]" for key in value)
        places = [(name, value[key], decoded[key]) for name, key in zip(names, value, strict=True)]
    for place, part, other in places:
        if not same(part, other):
            return _unlike(part, other, where + place)
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
