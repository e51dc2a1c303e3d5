"""Inputs and results as text for those that observe, without what nobody may see."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

REDACTED = "[redacted]"

_SECRET = re.compile(
    r"pass(word|wd|phrase)|secret|token|api_?key|private_?key|authori[sz]ation|cookie|credential"
    r"|session_?id|^(pwd|pin|cvv|cvc|ssn|iban)$|card_?number",
    re.IGNORECASE,
)


def redact_secrets(value: Any) -> Any:
    """Replace, at any depth, what stands under a key that sounds like a secret.

    Args:
        value: Plain data: dicts, lists, strings, numbers.

    Example:
        >>> redact_secrets({"user": "ada", "auth": [{"api_key": "k-123"}]})
        {'user': 'ada', 'auth': [{'api_key': '[redacted]'}]}
    """
    if isinstance(value, dict):
        return {
            key: REDACTED if _SECRET.search(key.replace("-", "_")) else redact_secrets(part)
            for key, part in value.items()
        }
    if isinstance(value, list):
        return [redact_secrets(part) for part in value]
    return value


class Payloads:
    """Shows inputs and results on spans and to instruments, which see none of them by default.

    Args:
        redact: Is given the payload as plain data (dicts with string keys, lists, strings,
            numbers), and returns what may be shown of it.
        max_chars: How much of each is shown, in characters of its JSON.

    Raises:
        ValueError: `max_chars` is not positive.

    Example:
        >>> from plait.observability import Payloads
        >>> Payloads(max_chars=40).show({"user": "ada", "password": "analytical"})
        '{"user": "ada", "password": "[redacted]"...'
    """

    def __init__(
        self, redact: Callable[[Any], Any] = redact_secrets, *, max_chars: int = 2048
    ) -> None:
        if max_chars < 1:
            msg = f"max_chars={max_chars!r} must be at least 1"
            raise ValueError(msg)
        self._redact = redact
        self._max_chars = max_chars

    def show(self, value: object) -> str:
        """A payload as JSON, redacted and cut short.

        Args:
            value: The payload. What JSON does not know is shown by the name of its class.
        """
        from pydantic_core import to_jsonable_python

        try:
            plain = to_jsonable_python(value, bytes_mode="base64", fallback=_name_of_class)
            text = json.dumps(self._redact(plain), ensure_ascii=False, default=_name_of_class)
        except Exception as error:  # noqa: BLE001 - what cannot be shown must not fail the run
            # The message may quote the payload; the kind of the error does not.
            return f"<{_class_of(value)} cannot be shown: {type(error).__name__}>"
        return text if len(text) <= self._max_chars else f"{text[: self._max_chars]}..."


def _name_of_class(value: object) -> str:
    return f"<{_class_of(value)}>"


def _class_of(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
