"""Time that passes only while nothing else happens."""

from plait.testing._clock._deadlock import DeadlockError
from plait.testing._clock._virtual import VirtualClock

__all__ = ["DeadlockError", "VirtualClock"]
