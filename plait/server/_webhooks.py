"""Webhooks: signed messages from elsewhere that start runs, or become signals or events."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from plait.durable._known import known_as
from plait.server._models import KEY, Received
from plait.server._problems import Problem
from plait.server._site import reply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.responses import Response

    from plait.primitives import WorkflowPrimitive
    from plait.server._site import Call

_ID = re.compile(KEY)
_PREFIX = "whsec_"
_SHORTEST_SECRET = 16


@dataclass(frozen=True, slots=True)
class Webhook:
    """Takes signed messages at `/webhooks/NAME`, as Standard Webhooks describes them.

    A message has the headers `webhook-id`, `webhook-timestamp` and `webhook-signature`; the
    signature is an HMAC-SHA-256 of all three. One that is older than the tolerance is refused, and
    one that comes again does nothing a second time: its id is kept in the journal.

    Exactly one of `start`, `event` and `signal` says what becomes of it.

    Args:
        name: The last part of its address.
        secrets: What messages are signed with, `whsec_` and base64, or as it is; more than one
            while secrets are rotated.
        start: The workflow that each message starts, with the payload as its input.
        event: The event that it is published as; see `DurableRunner.publish`.
        signal: The signal that it is sent as.
        run_id: Which run the signal is sent to: a function of the message's body.
        payload: What the body becomes; itself by default.
        tolerance_seconds: How far the message's time may be from this machine's.

    Raises:
        ValueError: It has no secret, or a short one, or is to become none or several things.

    Example:
        >>> from plait import step
        >>> from plait.server import Webhook
        >>> @step
        ... async def ship(order: dict[str, int]) -> str: ...
        >>> hook = Webhook("orders", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], start=ship)
    """

    name: str
    secrets: Sequence[str] = field(repr=False)
    start: WorkflowPrimitive[Any, Any] | None = None
    event: str | None = None
    signal: str | None = None
    run_id: Callable[[Any], str] | None = None
    payload: Callable[[Any], Any] | None = None
    tolerance_seconds: float = 300

    def __post_init__(self) -> None:
        if sum(it is not None for it in (self.start, self.event, self.signal)) != 1:
            msg = f"webhook {self.name!r} needs one of start=, event= and signal="
            raise ValueError(msg)
        if (self.signal is None) != (self.run_id is None):
            msg = f"webhook {self.name!r} needs run_id= with signal=, and only then"
            raise ValueError(msg)
        if not self.secrets or any(len(_key(s)) < _SHORTEST_SECRET for s in self.secrets):
            msg = f"webhook {self.name!r} needs secrets of at least {_SHORTEST_SECRET} bytes"
            raise ValueError(msg)

    def check(self, message_id: str, timestamp: str, signatures: str, body: bytes) -> None:
        """Refuse a message that was not signed with one of the secrets, or not lately.

        Args:
            message_id: Its id.
            timestamp: When it was signed, in seconds since the epoch.
            signatures: One or more, separated by spaces, each as `v1,BASE64`.
            body: What it says.

        Raises:
            Problem: It was not.
        """
        refused = Problem(401, "the message's signature is not valid", kind="bad-signature")
        if not _ID.fullmatch(message_id) or not re.fullmatch(r"[0-9]{1,12}", timestamp):
            raise refused
        signed = b".".join((message_id.encode(), timestamp.encode(), body))
        wanted = [hmac.digest(_key(secret), signed, hashlib.sha256) for secret in self.secrets]
        given = [_signature(part) for part in signatures.split(" ")[:10]]
        matches = [hmac.compare_digest(it, other) for it in wanted for other in given]
        if not any(matches):
            raise refused
        if abs(time.time() - int(timestamp)) > self.tolerance_seconds:
            msg = f"the message was signed more than {self.tolerance_seconds:g} s ago, or hence"
            raise Problem(401, msg, kind="replayed")


async def receive(call: Call) -> Response:
    """Take a signed message."""
    name = call.path("webhook")
    webhook = call.site.webhooks.get(name)
    if webhook is None:
        raise Problem(404, f"there is no webhook {name!r}", kind="webhook-not-found")
    headers = call.request.headers
    body = await call.body()
    message_id = headers.get("webhook-id", "")
    webhook.check(
        message_id,
        headers.get("webhook-timestamp", ""),
        headers.get("webhook-signature", ""),
        body,
    )
    content = await _content(call, webhook, body)
    return reply(Received(run_ids=await _act(call, webhook, f"{name}:{message_id}", content)), 202)


async def _content(call: Call, webhook: Webhook, body: bytes) -> tuple[Any, Any]:
    """The message's payload, and the run that it is for."""
    from plait.server._site import parsed

    message = parsed(body)
    try:
        run_id = None if webhook.run_id is None else webhook.run_id(message)
        payload = message if webhook.payload is None else webhook.payload(message)
    except (LookupError, TypeError, ValueError) as error:
        msg = f"the message is not of the expected form: {type(error).__name__}: {error}"
        raise Problem(422, msg, kind="invalid-payload") from None
    return payload, run_id


async def _act(call: Call, webhook: Webhook, key: str, content: tuple[Any, Any]) -> list[str]:
    from pydantic_core import to_json

    from plait.server._runs import checked_input

    payload, run_id = content
    if webhook.signal is not None:
        try:
            await call.runner.signal(run_id, webhook.signal, payload, signal_id=f"webhook:{key}")
        except ValueError as error:
            raise Problem(422, str(error), kind="invalid-signal") from None
        return [run_id]
    if webhook.event is not None:
        runs = await call.runner.publish(webhook.event, payload, event_id=key)
        return [run.run_id for run in runs]
    assert webhook.start is not None
    given = checked_input(call, known_as(webhook.start), to_json(payload))
    run = await call.runner.start(webhook.start, given, run_id=f"webhook:{key}")
    return [run.run_id]


def _key(secret: str) -> bytes:
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        msg = f"a secret that starts with {_PREFIX!r} goes on in base64"
        raise ValueError(msg) from error


def _signature(text: str) -> bytes:
    version, _, encoded = text.partition(",")
    try:
        return base64.b64decode(encoded, validate=True) if version == "v1" else b""
    except (binascii.Error, ValueError):
        return b""
