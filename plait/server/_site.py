"""What every request is answered from, and a request as its handler sees it."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import anyio
from pydantic_core import from_json
from starlette.responses import Response

from plait.durable._types import input_adapter
from plait.server._limits import Buckets, Limits, body_of
from plait.server._problems import Problem
from plait.server._values import SHOW_ALL, Redaction

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from pydantic import BaseModel, TypeAdapter
    from starlette.requests import Request

    from plait.durable import DurableRunner
    from plait.primitives import WorkflowPrimitive
    from plait.server._security import Guard, Identity
    from plait.server._webhooks import Webhook


@dataclass(eq=False)
class Site:
    """What a server is made of.

    Attributes:
        runner: Executes the runs.
        guard: Who is let in.
        limits: What a request may bring.
        redaction: What is not shown.
        webhooks: By name.
        title: What the dashboard and the OpenAPI document call it.
        session_key: Signs the dashboard's sessions; those of one key end with it.
    """

    runner: DurableRunner
    guard: Guard
    limits: Limits
    redaction: Redaction
    webhooks: Mapping[str, Webhook]
    title: str = "plait"
    session_key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def __post_init__(self) -> None:
        self.is_draining = False
        self.streams = 0
        self._held: set[anyio.CancelScope] = set()
        self._adapters: dict[str, TypeAdapter[Any]] = {}
        rate = self.limits.rate
        self.buckets = None if rate is None else Buckets(rate, self.limits.burst)

    @property
    def workflows(self) -> Mapping[str, WorkflowPrimitive[Any, Any]]:
        """What can be started, by name."""
        return self.runner._workflows

    def input_of(self, workflow: str) -> TypeAdapter[Any]:
        """What reads the input of a workflow."""
        if workflow not in self._adapters:
            self._adapters[workflow] = input_adapter(self.workflows[workflow])
        return self._adapters[workflow]

    @contextmanager
    def held(self, seconds: float) -> Generator[anyio.CancelScope, None, None]:
        """Hold an answer back for a while, at most until the server is to end."""
        with anyio.move_on_after(seconds) as scope:
            self._held.add(scope)
            try:
                if self.is_draining:
                    scope.cancel()
                yield scope
            finally:
                self._held.discard(scope)

    def drain(self) -> None:
        """Have answers that are held back given now, and streams end: the server is to end."""
        self.is_draining = True
        for scope in self._held:
            scope.cancel()


@dataclass(eq=False)
class Call:
    """A request, with who makes it.

    Attributes:
        site: What it is answered from.
        request: The request itself.
        identity: Who makes it.
    """

    site: Site
    request: Request
    identity: Identity

    @property
    def runner(self) -> DurableRunner:
        """Executes the runs."""
        return self.site.runner

    @cached_property
    def redaction(self) -> Redaction:
        """What is hidden from whoever makes the request."""
        return SHOW_ALL if "run" in self.identity.scopes else self.site.redaction

    def path(self, name: str) -> str:
        """A parameter of the path.

        Raises:
            Problem: It is no text, or has a character that nothing is named with.
        """
        try:
            text = unquote(self.request.path_params[name], errors="strict")
        except UnicodeDecodeError:
            raise Problem(404, f"the {name} in the path is not UTF-8", kind="malformed") from None
        if not text.isprintable():
            raise Problem(404, f"there is no {name} {text!r}", kind="malformed")
        return text

    async def body(self) -> bytes:
        """The body, which is JSON; `null` where it is empty.

        Raises:
            Problem: It is not, or too long.
        """
        body = await body_of(self.request, self.site.limits)
        if not body:
            return b"null"
        kind = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        # Pages of other sites can send forms and text without asking first, but no JSON.
        if kind != "application/json" and not kind.endswith("+json"):
            msg = f"the body must be application/json, not {kind or 'of no type'}"
            raise Problem(415, msg, kind="media-type", headers={"Accept": "application/json"})
        parsed(body)
        return body

    async def json(self) -> Any:
        """What the body says.

        Raises:
            Problem: It is no JSON, or too long.
        """
        return parsed(await self.body())

    @cached_property
    def wait_seconds(self) -> float:
        """How long the caller would rather wait than be answered at once (RFC 7240)."""
        longest = self.site.limits.wait_seconds
        for line in self.request.headers.getlist("prefer"):
            for preference in line.replace(";", ",").split(","):
                name, _, value = preference.partition("=")
                if name.strip().lower() == "wait":
                    seconds = value.strip().strip('"')
                    if seconds.isascii() and seconds.isdecimal() and len(seconds) < 10:
                        return min(float(seconds), longest)
        return 0.0

    def link(self, *segments: str) -> str:
        """The address of something below the place that the server is mounted at."""
        return link(self.request, *segments)


def link(request: Request, *segments: str) -> str:
    """The path of an address below the place that the server is mounted at."""
    root: str = request.scope.get("plait.root", "")
    return root + "".join(f"/{quote(segment, safe='@:')}" for segment in segments)


def reply(
    model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer of JSON."""
    return Response(
        model.model_dump_json(), status, dict(headers or {}), media_type="application/json"
    )


def parsed(body: bytes) -> Any:
    """What JSON says.

    Raises:
        Problem: It is not JSON.
    """
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Problem(400, f"the body is not JSON: {error}", kind="malformed") from None
