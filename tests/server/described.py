"""Serves what schemathesis asks."""

import shop

from plait.durable import DurableRunner, MemoryJournal
from plait.server import Limits, Webhook, app, serve

hook = Webhook("numbers", ["a secret of the sender"], start=shop.double)
runner = DurableRunner(
    MemoryJournal(),
    workflows=shop.WORKFLOWS,
    listeners={"made": [shop.double]},
    suspend_after=0.05,
    grace_seconds=0,
)
limits = Limits(rate=None, wait_seconds=0.2)
serve(app(runner, limits=limits, webhooks=[hook]), port=0, announce=print)
