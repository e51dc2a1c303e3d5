"""Values as a caller is shown them: as JSON, with what is to be hidden hidden."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plait.durable._readable import as_json

if TYPE_CHECKING:
    from collections.abc import Callable

HIDDEN = "[hidden]"
_SECRETS = (
    r"passw(or)?d|passphrase|secret|token|api_?key|authorization|cookie|credential|private_?key|"
    r"card_?number|cvc|cvv|iban|ssn"
)


@dataclass(frozen=True, slots=True)
class Redaction:
    """What is not shown of inputs, results, errors and metadata.

    It holds for the dashboard, and for what a token that has only the scope "read" is told.

    Args:
        fields: A regular expression, looked for in the names of fields and the keys of dicts,
            whatever their case; the values of those that it is found in are hidden.
        payloads: Whether payloads are shown at all.
        of: What else is done to a value before it is shown; it is given plain JSON data.

    Example:
        >>> from plait.server import Redaction
        >>> Redaction().of_value({"user": "ada", "password": "1815"})
        {'user': 'ada', 'password': '[hidden]'}
    """

    fields: str = _SECRETS
    payloads: bool = True
    of: Callable[[Any], Any] | None = None

    def of_value(self, value: Any) -> Any:
        """A value as plain JSON data, without what is hidden."""
        if not self.payloads:
            return HIDDEN
        shown = self._hide(as_json(value), re.compile(self.fields, re.IGNORECASE))
        return shown if self.of is None else self.of(shown)

    def of_text(self, text: str) -> str:
        """An error's message, or what a run says of its progress."""
        return text if self.payloads else HIDDEN

    def _hide(self, value: Any, names: re.Pattern[str]) -> Any:
        if isinstance(value, dict):
            return {
                key: HIDDEN if names.search(key) else self._hide(part, names)
                for key, part in value.items()
            }
        if isinstance(value, list):
            return [self._hide(part, names) for part in value]
        return value


SHOW_ALL = Redaction(fields=r"(?!)")
