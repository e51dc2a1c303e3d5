"""What an application has set up, until it shuts it down."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from typing import TYPE_CHECKING, Self

from plait.observability._settings import change, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

    from plait.observability._instrument import Instrument
    from plait.observability._payloads import Payloads

_logger = logging.getLogger("plait.observability")


class Telemetry:
    """What `configure` has set up; a context manager that shuts it down.

    Attributes:
        tracer_provider: OpenTelemetry's provider of tracers; None where it was left alone.
        meter_provider: Its provider of meters; None where it was left alone.
    """

    def __init__(self) -> None:
        self.tracer_provider: TracerProvider | None = None
        self.meter_provider: MeterProvider | None = None
        self._instruments: tuple[Instrument, ...] = ()
        self._flushes: list[Callable[[], object]] = []
        self._endings: list[Callable[[], object]] = []
        self._is_shut_down = False
        atexit.register(self.shutdown)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()

    def hold(self, flush: Callable[[], object] | None, end: Callable[[], object]) -> None:
        """Take charge of a part.

        Args:
            flush: Sends what has gathered.
            end: Ends it.
        """
        if flush is not None:
            self._flushes.append(flush)
        self._endings.append(end)

    def observe_with(
        self,
        instruments: tuple[Instrument, ...],
        payloads: Payloads | None,
        *,
        marks_replayed: bool,
    ) -> None:
        """Let these hold until it is shut down."""
        self._instruments = instruments
        change(
            instruments=(*settings().instruments, *instruments),
            payloads=payloads,
            marks_replayed=marks_replayed,
        )

    def flush(self, timeout_seconds: float = 10) -> bool:
        """Send what has gathered.

        Blocks: in async code, call it in a thread.

        Args:
            timeout_seconds: How long to wait for the receivers.

        Returns:
            Whether all of it was handed over in time.
        """
        return _done_within(timeout_seconds, self._flushes)

    def shutdown(self, timeout_seconds: float = 10) -> bool:
        """Send what has gathered, and observe nothing more; called again, it does nothing.

        Blocks: in async code, call it in a thread. It is also called when the process ends.

        Args:
            timeout_seconds: How long to wait for the receivers.

        Returns:
            Whether all of it was handed over in time.
        """
        if self._is_shut_down:
            return True
        self._is_shut_down = True
        atexit.unregister(self.shutdown)
        held = settings()
        ended = tuple(filter(None, (self.tracer_provider, self.meter_provider)))
        change(
            instruments=tuple(it for it in held.instruments if it not in self._instruments),
            payloads=None,
            marks_replayed=False,
            retired=(*held.retired, *ended),
        )
        return _done_within(timeout_seconds, self._endings)


def _done_within(seconds: float, calls: Sequence[Callable[[], object]]) -> bool:
    """Make calls at the same time, and wait for them no longer than that."""
    failed: list[Callable[[], object]] = []

    def make(call: Callable[[], object]) -> None:
        try:
            if call() is False:
                failed.append(call)
        except Exception:
            _logger.warning("telemetry was lost at %r", call, exc_info=True)
            failed.append(call)

    until = time.monotonic() + seconds
    # A daemon, so that a receiver that does not answer cannot keep the process from ending.
    threads = [
        threading.Thread(target=make, args=(call,), daemon=True, name="plait-telemetry")
        for call in calls
    ]
    for thread, call in zip(threads, calls, strict=True):
        try:
            thread.start()
        except RuntimeError:
            # While the interpreter ends, Python 3.12 and later start no thread.
            make(call)
    for thread in filter(threading.Thread.is_alive, threads):
        thread.join(max(0, until - time.monotonic()))
    return not failed and not any(thread.is_alive() for thread in threads)
