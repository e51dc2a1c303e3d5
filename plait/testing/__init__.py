"""What a user's own workflow tests need."""

from __future__ import annotations

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

from plait.primitives._public import publish as _publish
from plait.testing._mock import MockCall, MockPrimitive

if TYPE_CHECKING:
    from plait.testing._clock import DeadlockError, VirtualClock
    from plait.testing._crash import CrashReport, CrashSafetyError, assert_crash_safe
    from plait.testing._explore import Exploration, ExplorationError, explore
    from plait.testing._faults import (
        Fault,
        InjectedCancelError,
        InjectedError,
        UnusedFaultError,
        cancel,
        fail,
        hang,
        latency,
        with_faults,
    )
    from plait.testing._journals import JournalConformance
    from plait.testing._recording import record, replayed
    from plait.testing._replay import ReplayError, assert_replays
    from plait.testing._selection import UnknownNodeError

__all__ = [
    "CrashReport",
    "CrashSafetyError",
    "DeadlockError",
    "Exploration",
    "ExplorationError",
    "Fault",
    "InjectedCancelError",
    "InjectedError",
    "JournalConformance",
    "MockCall",
    "MockPrimitive",
    "ReplayError",
    "UnknownNodeError",
    "UnusedFaultError",
    "VirtualClock",
    "assert_crash_safe",
    "assert_replays",
    "cancel",
    "explore",
    "fail",
    "hang",
    "latency",
    "record",
    "replayed",
    "with_faults",
]

# `import plait` brings this package for its mock: the rest waits until somebody asks for it.
_LATER = {
    "_clock": ("DeadlockError", "VirtualClock"),
    "_crash": ("CrashReport", "CrashSafetyError", "assert_crash_safe"),
    "_explore": ("Exploration", "ExplorationError", "explore"),
    "_faults": (
        "Fault",
        "InjectedCancelError",
        "InjectedError",
        "UnusedFaultError",
        "cancel",
        "fail",
        "hang",
        "latency",
        "with_faults",
    ),
    "_journals": ("JournalConformance",),
    "_recording": ("record", "replayed"),
    "_replay": ("ReplayError", "assert_replays"),
    "_selection": ("UnknownNodeError",),
}


def __getattr__(name: str) -> Any:
    for module, names in _LATER.items():
        if name in names:
            found = _import_module(f"{__name__}.{module}")
            globals().update({each: getattr(found, each) for each in names})
            _publish({**globals(), "__all__": names})
            return globals()[name]
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


_publish({**globals(), "__all__": ["MockCall", "MockPrimitive"]})
