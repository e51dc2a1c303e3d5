"""A run's progress as server-sent events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
from starlette.responses import Response, StreamingResponse

from plait.durable import RunNotFoundError
from plait.durable._stored import ENDED
from plait.durable._timeline import Node, tree_of
from plait.server._models import node_view
from plait.server._problems import Problem
from plait.server._runs import detail_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Message, Receive, Scope, Send

    from plait.server._site import Call

_SOONEST_SECONDS = 0.2
_LATEST_SECONDS = 2.0
_BEAT_SECONDS = 15.0


async def stream(call: Call) -> Response:
    """A run's progress: `run` events whenever it changes, a `node` event for each record.

    The stream ends with an `end` event once the run has. Its events' ids are the numbers of the
    records, so that a browser which connects again goes on where it was.
    """
    run_id = call.path("run_id")
    await call.runner.info(run_id)
    site = call.site
    if site.streams >= site.limits.streams:
        msg = f"{site.streams} streams are open, and no more are let in"
        raise Problem(429, msg, kind="too-many-streams", headers={"Retry-After": "5"})
    last = call.request.headers.get("last-event-id", "0")
    seen = int(last) if last.isascii() and last.isdecimal() and len(last) < 10 else 0
    # No proxy is to keep events until there are enough of them.
    headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    return _Events(
        _counted(call, run_id, seen),
        headers=headers,
        media_type="text/event-stream",
        unread_seconds=site.limits.unread_seconds,
    )


class _Events(StreamingResponse):
    """Ends where its client has stopped to read, and would keep its place for ever."""

    def __init__(
        self, content: AsyncGenerator[str, None], *, unread_seconds: float, **options: Any
    ) -> None:
        super().__init__(content, **options)
        self._unread_seconds = unread_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        with anyio.CancelScope() as sending:

            async def timely(message: Message) -> None:
                with anyio.move_on_after(self._unread_seconds) as waiting:
                    await send(message)
                if waiting.cancelled_caught:
                    sending.cancel()

            await super().__call__(scope, receive, timely)


async def _counted(call: Call, run_id: str, seen: int) -> AsyncGenerator[str, None]:
    call.site.streams += 1
    try:
        async for event in _events(call, run_id, seen):
            yield event
    finally:
        call.site.streams -= 1


async def _events(call: Call, run_id: str, seen: int) -> AsyncGenerator[str, None]:
    said, known = "", set[tuple[str, str]]()
    pause, silent, is_first = _SOONEST_SECONDS, 0.0, True
    yield "retry: 2000\n\n"
    while True:
        try:
            detail = await detail_of(call, run_id)
            root = await tree_of(call.runner, run_id)
        except RunNotFoundError:
            yield _event("end", "{}")
            return
        events: list[str] = []
        for node in root.recorded():
            key = (node.path, node.state)
            if key not in known:
                known.add(key)
                if not (is_first and _order(node) <= seen):
                    events.append(_node_event(call, node))
        text = detail.model_dump_json()
        if text != said:
            said = text
            events.append(_event("run", text))
        for event in events:
            yield event
        if detail.status in ENDED:
            yield _event("end", "{}")
            return
        is_first = False
        pause = _SOONEST_SECONDS if events else min(_LATEST_SECONDS, pause * 1.5)
        silent = 0.0 if events else silent + pause
        if silent >= _BEAT_SECONDS:
            # Whoever is in between is not to take the connection for dead.
            silent = 0.0
            yield ": still there\n\n"
        with call.site.held(pause):
            await anyio.sleep(pause)
        if call.site.is_draining:
            return


def _order(node: Node) -> int:
    return node.order or 0


def _node_event(call: Call, node: Node) -> str:
    view = node_view(node, call.redaction)
    return _event("node", view.model_dump_json(exclude={"children"}), _order(node))


def _event(name: str, data: str, number: int | None = None) -> str:
    identity = "" if number is None else f"id: {number}\n"
    return f"{identity}event: {name}\ndata: {data}\n\n"
