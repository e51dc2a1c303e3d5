"""Texts that any exporter can encode."""

from __future__ import annotations


def utf8(text: str) -> str:
    """The text, with what is no Unicode escaped.

    Half a surrogate pair, as in names of files, would cost its whole batch at the exporter.
    """
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
