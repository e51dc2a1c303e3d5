"""Metrics of a journal, where the application has set up OpenTelemetry's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait.primitives._providers import meter_provider

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)


class CommitMetrics:
    """Measures the commits of one journal."""

    def __init__(self) -> None:
        self._provider: MeterProvider | None = None

    def committed(self, records: int, seconds: float) -> None:
        """Count a commit.

        Args:
            records: How much was written together.
            seconds: How long it took.
        """
        provider = meter_provider()
        if provider is None:
            return
        if provider is not self._provider:
            self._provider = provider
            meter = provider.get_meter("plait")
            self._commits = meter.create_counter(
                "plait_journal_commits", description="Transactions that a journal committed"
            )
            self._records = meter.create_histogram(
                "plait_journal_commit_records",
                description="Records that were committed together",
                explicit_bucket_boundaries_advisory=SIZES,
            )
            self._seconds = meter.create_histogram(
                "plait_journal_commit_duration",
                unit="s",
                description="How long a commit took",
                explicit_bucket_boundaries_advisory=SECONDS,
            )
        self._commits.add(1)
        self._records.record(records)
        self._seconds.record(seconds)
