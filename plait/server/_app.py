"""The application: routes, and what every request passes through."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from plait.durable import DurableRunner
from plait.primitives import PlaitError
from plait.server import _dashboard, _sessions
from plait.server._limits import Limits, check_headers
from plait.server._openapi import document
from plait.server._operations import OPERATIONS
from plait.server._problems import Problem, answer
from plait.server._security import (
    ANYBODY,
    Guard,
    Identity,
    client_of,
    refuse_cross_site,
    refuse_strangers,
    require,
    unauthorized,
)
from plait.server._site import Call, Site
from plait.server._values import Redaction

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from starlette.responses import Response
    from starlette.types import Message, Receive, Scope, Send

    from plait.server._operations import Operation
    from plait.server._security import Token
    from plait.server._webhooks import Webhook

_SAFE = ("GET", "HEAD")
_ALWAYS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Server(Starlette):
    """The HTTP endpoints and the dashboard of a runner, as an ASGI application.

    It may be served by itself, where it enters the runner, or mounted in another application,
    which then enters the runner in its own lifespan.

    Attributes:
        site: What it is made of.
        failure: Why the runner could not be entered, where it could not.
    """

    failure: BaseException | None = None

    def __init__(self, site: Site) -> None:
        self.site = site
        routes = [Route(o.path, _endpoint(site, o), methods=[o.method]) for o in OPERATIONS]
        routes.append(Route("/api/openapi.json", _openapi(site)))
        handlers: Any = {Problem: answer, PlaitError: answer, HTTPException: answer}
        super().__init__(
            routes=[*routes, *_dashboard.routes(site)],
            exception_handlers={**handlers, Exception: answer},
            lifespan=_entered,
        )

    def drain(self) -> None:
        """Answer what is held back, end streams, and refuse new runs: the server is to end."""
        self.site.drain()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        scope = _undecoded(scope)
        send = _with_headers(send)
        try:
            self._check(Request(scope))
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        await super().__call__(scope, receive, send)

    def _check(self, request: Request) -> None:
        check_headers(request, self.site.limits.header_bytes)
        buckets = self.site.buckets
        wait = 0 if buckets is None else buckets.take(client_of(request))
        if wait:
            seconds = str(int(wait) + 1)
            msg = f"more than {self.site.limits.rate:g} requests a second; go on in {seconds} s"
            raise Problem(429, msg, kind="rate-limited", headers={"Retry-After": seconds})


def app(
    runner: DurableRunner,
    *,
    tokens: Sequence[Token] = (),
    limits: Limits | None = None,
    redaction: Redaction | None = None,
    webhooks: Sequence[Webhook] = (),
    title: str = "plait",
    session_key: bytes | None = None,
) -> Server:
    """An ASGI application that starts runs, tells of them, and shows them in a dashboard.

    The endpoints are below `/api`, described by `/api/openapi.json`; the dashboard is at `/`.

    Args:
        runner: Executes the runs. Its workflows are what can be started. The application enters
            it where nobody has yet.
        tokens: Who is let in. With none, only requests from this machine are answered.
        limits: What a request may bring.
        redaction: What is hidden in the dashboard, and from tokens that may only read.
        webhooks: What takes signed messages, at `/webhooks/NAME`.
        title: What the dashboard calls itself.
        session_key: Signs the dashboard's sessions, which otherwise end with the process.

    Raises:
        ValueError: Two tokens, or two webhooks, have one name.

    Example:
        >>> from plait import step
        >>> from plait.durable import DurableRunner, MemoryJournal
        >>> from plait.server import Token, app
        >>> @step
        ... async def greet(name: str) -> str:
        ...     return f"good day, {name}"
        >>> runner = DurableRunner(MemoryJournal(), workflows=[greet])
        >>> application = app(runner, tokens=[Token.of("ci", "correct-horse-battery")])
    """
    for what, names in (
        ("tokens", [t.name for t in tokens]),
        ("webhooks", [w.name for w in webhooks]),
    ):
        if len(set(names)) < len(names):
            msg = f"two {what} have one name, among {sorted(names)}"
            raise ValueError(msg)
    for webhook in webhooks:
        if webhook.start is not None:
            runner._register(webhook.start)
    site = Site(
        runner=runner,
        guard=Guard(tokens),
        limits=limits or Limits(),
        redaction=redaction or Redaction(),
        webhooks={webhook.name: webhook for webhook in webhooks},
        title=title,
        **({} if session_key is None else {"session_key": session_key}),
    )
    return Server(site)


@asynccontextmanager
async def _entered(application: Server) -> AsyncGenerator[None, None]:
    runner = application.site.runner
    if runner._task_group is not None:
        yield
        return
    try:
        await runner.__aenter__()
    except BaseException as error:
        # Whoever serves this learns only that it failed.
        application.failure = error
        raise
    try:
        yield
        application.drain()
    finally:
        await runner.__aexit__(None, None, None)


def _endpoint(site: Site, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await operation.handle(Call(site, request, _admitted(site, request, operation)))

    return endpoint


def _admitted(site: Site, request: Request, operation: Operation) -> Identity:
    """Who makes a request, if they may.

    Raises:
        Problem: They may not.
    """
    if operation.scope is None:
        return Identity(None, frozenset())
    if site.guard.is_open:
        refuse_strangers(request)
    identity = site.guard.identify(request)
    if identity is None:
        if request.method not in _SAFE:
            refuse_cross_site(request)
        if site.guard.is_open:
            identity = ANYBODY
        elif request.method in _SAFE:
            # The dashboard's own pages look at streams with the session that they have.
            session = _sessions.session_of(site, request)
            identity = None if session is None else session.identity
    if identity is None:
        msg = "this needs a token: Authorization: Bearer TOKEN"
        raise unauthorized(msg)
    require(identity, [operation.scope])
    return identity


def _openapi(site: Site) -> Callable[[Request], Awaitable[Response]]:
    async def openapi(request: Request) -> Response:
        if site.guard.is_open:
            refuse_strangers(request)
        return JSONResponse(document(site, request.scope.get("plait.root", "")))

    return openapi


def _undecoded(scope: Scope) -> Scope:
    """A request with its path as it was sent: a name may have an encoded slash in it."""
    raw: bytes | None = scope.get("raw_path")
    path = quote(scope["path"], safe="/%@:+~=,;!$&'()*") if raw is None else raw.decode("latin-1")
    root = quote(scope.get("root_path", ""))
    return {**scope, "path": path.partition("?")[0], "root_path": root, "plait.root": root}


def _with_headers(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _ALWAYS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return with_headers
