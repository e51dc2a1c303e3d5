"""Whether the server lives, and whether it can do its work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait.durable import JournalError
from plait.server._models import Health
from plait.server._site import reply

if TYPE_CHECKING:
    from starlette.responses import Response

    from plait.server._site import Call


async def health(call: Call) -> Response:
    """Whether the process answers at all."""
    return reply(Health(status="ok"))


async def ready(call: Call) -> Response:
    """Whether runs can be started: the journal is there, and the server is not about to end."""
    if call.site.is_draining:
        return reply(Health(status="draining"), 503)
    try:
        await call.runner.list(limit=1)
    except JournalError:
        return reply(Health(status="unavailable", detail="the journal cannot be used"), 503)
    return reply(Health(status="ok"))
