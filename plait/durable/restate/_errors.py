"""What runs on Restate may fail with."""

from __future__ import annotations

from plait.primitives import PermanentError


class UnsupportedOnRestateError(PermanentError):
    """Something that a `DurableRunner` does, and that has no equivalent on Restate."""
