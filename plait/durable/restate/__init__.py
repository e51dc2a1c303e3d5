"""Runs on Restate: the same workflows, carried out by a server that several machines share."""

from plait.durable.restate._app import app
from plait.durable.restate._client import RestateClient, RestateRun
from plait.durable.restate._errors import UnsupportedOnRestateError
from plait.durable.restate._serving import serve
from plait.primitives._public import publish as _publish

__all__ = ["RestateClient", "RestateRun", "UnsupportedOnRestateError", "app", "serve"]

_publish(globals())
