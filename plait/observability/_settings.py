"""What this process observes besides OpenTelemetry's providers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plait.observability._instrument import Instrument
    from plait.observability._payloads import Payloads


@dataclass(frozen=True, slots=True)
class Settings:
    """One state of it; a change makes another.

    Attributes:
        instruments: What is told of nodes, in addition to traces and metrics.
        payloads: How inputs and results are shown; None for not at all.
        marks_replayed: Whether nodes that were not executed again are spans too.
        retired: Providers that were shut down, and so have nobody to tell.
    """

    instruments: tuple[Instrument, ...] = ()
    payloads: Payloads | None = None
    marks_replayed: bool = False
    retired: tuple[object, ...] = ()


_settings = Settings()


def settings() -> Settings:
    """What holds now."""
    return _settings


def change(**changes: Any) -> None:
    """Let something else hold for every context that is made from now on."""
    global _settings  # noqa: PLW0603 - one state for the process, like logging's root
    _settings = dataclasses.replace(_settings, **changes)


def add_instrument(instrument: Instrument) -> None:
    """Tell an instrument of every node of the runs whose context is made from now on.

    Args:
        instrument: What is told.
    """
    change(instruments=(*_settings.instruments, instrument))


def remove_instrument(instrument: Instrument) -> None:
    """Tell an instrument nothing of runs whose context is made from now on.

    Args:
        instrument: One that was added; any other is ignored.
    """
    rest = tuple(other for other in _settings.instruments if other is not instrument)
    change(instruments=rest)
