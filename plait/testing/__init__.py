"""What a user's own workflow tests need."""

from plait.primitives._public import publish as _publish
from plait.testing._mock import MockPrimitive

__all__ = ["MockPrimitive"]

_publish(globals())
