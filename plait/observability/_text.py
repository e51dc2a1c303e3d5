"""Texts that any exporter can encode, and any receiver takes."""

from __future__ import annotations

_LONGEST = 16_384
"""A receiver that limits what it takes refuses a whole batch for one span that is too large."""


def utf8(text: str) -> str:
    """The text, with what is no Unicode escaped.

    Half a surrogate pair, as in names of files, would cost its whole batch at the exporter.
    """
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def text_of(value: object) -> str:
    """Anything of the application's as such a text; of one that is too long, both ends."""
    try:
        text = str(value)
    except Exception as error:  # noqa: BLE001 - what observes a run must not fail it
        kind = type(value)
        text = f"<{kind.__module__}.{kind.__qualname__}: str() raised {type(error).__name__}>"
    if len(text) > _LONGEST:
        half = _LONGEST // 2
        left_out = len(text) - 2 * half
        text = f"{text[:half]} ... {left_out} characters are left out ... {text[-half:]}"
    return utf8(text)
