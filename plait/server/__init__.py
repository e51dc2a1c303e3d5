"""Runs over HTTP, and a dashboard to watch them: `pip install "plait[server]"`."""

from plait.primitives._public import publish as _publish
from plait.server._app import Server, app
from plait.server._limits import Limits
from plait.server._security import Token
from plait.server._serving import serve
from plait.server._values import Redaction
from plait.server._webhooks import Webhook

__all__ = ["Limits", "Redaction", "Server", "Token", "Webhook", "app", "serve"]

_publish(globals())
