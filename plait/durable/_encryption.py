"""Payloads that only the holder of a key can read, or write."""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from plait.durable._codec import EARLIER_BYTES, JsonCodec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plait.durable._codec import Codec
    from plait.primitives import WorkflowPrimitive

_ID_BYTES, _SALT_BYTES, _MAC_BYTES = 4, 8, 16
_FERNET_VERSION = b"gAAAA"  # 0x80 and the first bytes of a time, which has leading zeros until 2106


class EncryptedCodec:
    """What another codec makes, encrypted and authenticated with Fernet.

    The first key encrypts, all of them decrypt. To rotate, put a new key in front; an old one may
    go when no run that was recorded under it is left. A payload that was written without a key,
    under another one, or was changed since, is refused.

    Paths, names of workflows, run ids, times and the sizes of payloads are not hidden.

    Args:
        inner: Makes bytes of values.
        keys: Fernet keys, 32 bytes in URL-safe base64 each, as `Fernet.generate_key()` makes them.

    Raises:
        ValueError: There is no key, or one is none.
        ImportError: The `cryptography` package is missing: `pip install "plait[encryption]"`.

    Example:
        >>> from cryptography.fernet import Fernet
        >>> from plait.durable import EncryptedCodec, JsonCodec
        >>> old, new = Fernet.generate_key(), Fernet.generate_key()
        >>> payload = EncryptedCodec(JsonCodec(), [old]).encode({"card": "4242"})
        >>> b"4242" in payload
        False
        >>> EncryptedCodec(JsonCodec(), [new, old]).decode(payload)
        {'card': '4242'}
    """

    def __init__(self, inner: Codec, keys: Sequence[str | bytes]) -> None:
        try:
            from cryptography.fernet import Fernet, InvalidToken, MultiFernet
        except ImportError as error:
            msg = 'EncryptedCodec needs the package cryptography: pip install "plait[encryption]"'
            raise ImportError(msg) from error
        if isinstance(keys, str | bytes) or not keys:
            msg = "keys= takes a list of at least one Fernet key, the one that encrypts first"
            raise ValueError(msg)
        self.inner = inner
        fernets: list[Fernet] = []
        for index, key in enumerate(keys):
            try:
                fernets.append(Fernet(key))
            except (TypeError, ValueError):
                # Without what was given, which may be a key but for a typing error.
                msg = f"keys[{index}] is no Fernet key; Fernet.generate_key() makes one"
                raise ValueError(msg) from None
        self._fernet = MultiFernet(fernets)
        self._invalid = InvalidToken
        self._digest_keys = {_key_id(made): made for made in map(_digest_key, keys)}
        self._first = next(iter(self._digest_keys))

    def __repr__(self) -> str:
        return f"EncryptedCodec({self.inner!r}, {len(self._digest_keys)} keys)"

    def encode(self, value: object, primitive: WorkflowPrimitive[Any, Any] | None = None) -> bytes:
        """A value, encrypted under the first key.

        Args:
            value: The value.
            primitive: What returned it, where it is a result.

        Raises:
            SerializationError: The inner codec has no form for it.
        """
        return self._fernet.encrypt(self.inner.encode(value, primitive))

    def decode(self, payload: bytes, primitive: WorkflowPrimitive[Any, Any] | None = None) -> Any:
        """The value that was encoded.

        Args:
            payload: What `encode` made of it.
            primitive: What returned it.

        Raises:
            ValueError: None of the keys made this payload, or it does not fit.
        """
        return self.inner.decode(self.decrypted(payload), primitive)

    def decrypted(self, payload: bytes) -> bytes:
        """The payload of the inner codec.

        Args:
            payload: What `encode` made of it.

        Raises:
            ValueError: None of the keys made this payload.
        """
        try:
            return self._fernet.decrypt(payload)
        except self._invalid as error:
            reason = (
                "none of the keys decrypts it, or it was changed since it was written"
                if payload.startswith(_FERNET_VERSION)
                else "it is not encrypted; it was written without EncryptedCodec, or by another"
            )
            raise ValueError(reason) from error

    def digest(self, value: object, like: bytes = b"") -> bytes:
        """Tells an input from others, to whoever has the key it was made under.

        It is salted, so that equal inputs are not seen to be equal, and keyed, so that guesses
        cannot be tried. A digest says under which key and salt it was made: one that is to be
        compared with it is made the same way, also after the keys were rotated.

        Args:
            value: The input.
            like: The digest that this one will be compared with.

        Returns:
            28 bytes; none for a value that has no encoded form.

        Raises:
            ValueError: `like` was made under a key that is not there any more, or under none.
        """
        # How long an inner digest was is not seen in what hides it: all are of the first form.
        inner_like = bytes(EARLIER_BYTES) if isinstance(self.inner, JsonCodec) else b""
        content = self.inner.digest(value, inner_like)
        if not content or not like:
            return content and self._keyed(content, self._first, os.urandom(_SALT_BYTES))
        key_id, salt = like[:_ID_BYTES], like[_ID_BYTES : _ID_BYTES + _SALT_BYTES]
        if key_id not in self._digest_keys or len(like) != _ID_BYTES + _SALT_BYTES + _MAC_BYTES:
            msg = "the input was recorded under a key that is not among the codec's keys, or none"
            raise ValueError(msg)
        return self._keyed(content, key_id, salt)

    def _keyed(self, content: bytes, key_id: bytes, salt: bytes) -> bytes:
        key = self._digest_keys[key_id]
        mac = blake2b(content, digest_size=_MAC_BYTES, key=key, salt=salt).digest()
        return key_id + salt + mac


def _digest_key(key: str | bytes) -> bytes:
    # Of its own, so that digests tell nothing of what the encryption uses.
    secret = key.encode() if isinstance(key, str) else key
    return blake2b(secret, digest_size=32, person=b"plait.digest").digest()


def _key_id(digest_key: bytes) -> bytes:
    return blake2b(digest_key, digest_size=_ID_BYTES, person=b"plait.key-id").digest()
