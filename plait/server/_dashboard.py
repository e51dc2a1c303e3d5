"""The dashboard's routes, and what all of its pages share."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from plait.primitives import PlaitError
from plait.server import _sessions
from plait.server._limits import body_of
from plait.server._problems import Problem, problem_of
from plait.server._security import (
    ANYBODY,
    Identity,
    client_of,
    refuse_cross_site,
    refuse_strangers,
    require,
)
from plait.server._sessions import Session
from plait.server._site import Call, link

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from plait.server._security import Scope
    from plait.server._site import Site

_FOLDER = Path(__file__).parent / "dashboard"
_MOST_SHOWN = 20_000

Handler = Callable[["Page"], Awaitable[Response]]


class Page(Call):
    """A request for a page, with the session that it belongs to.

    Attributes:
        session: Who looks at it.
        form: What the form says that was sent, where one was.
    """

    def __init__(
        self, site: Site, request: Request, session: Session, form: dict[str, str]
    ) -> None:
        super().__init__(site, request, session.identity)
        self.session = session
        self.form = form
        # The dashboard hides it from everybody.
        self.redaction = site.redaction

    def may(self, scope: Scope) -> bool:
        """Whether the one who looks has a scope."""
        return scope in self.identity.scopes

    def render(self, template: str, status: int = 200, **values: Any) -> Response:
        """A page."""
        return render(self.site, self.request, template, status, page=self, **values)

    def redirect(self, *segments: str, done: str = "") -> Response:
        """Go on to another page, after a form."""
        address = link(self.request, *segments)
        return RedirectResponse(f"{address}?done={done}" if done else address, 303)

    @property
    def form_key(self) -> str:
        """What its forms carry."""
        return self.session.form_key(self.site)


def routes(site: Site) -> list[BaseRoute]:
    """The dashboard's pages."""
    from plait.server import _forms, _pages

    def page(path: str, handler: Handler, scope: Scope = "read", method: str = "GET") -> Route:
        return Route(path, _guarded(site, handler, scope), methods=[method])

    return [
        page("/", _pages.runs),
        page("/runs/{run_id}", _pages.run),
        page("/workflows", _pages.workflows),
        page("/workflows/{workflow}/start", _forms.start, "run", "POST"),
        page("/runs/{run_id}/signal", _forms.signal, "operate", "POST"),
        page("/runs/{run_id}/cancel", _forms.cancel, "operate", "POST"),
        page("/runs/{run_id}/resume", _forms.resume, "operate", "POST"),
        page("/runs/{run_id}/fork", _forms.fork, "operate", "POST"),
        page("/logout", _forms.log_out, "read", "POST"),
        Route("/login", _login(site), methods=["GET", "POST"]),
        Mount("/static", StaticFiles(directory=_FOLDER / "static")),
    ]


def render(
    site: Site, request: Request, template: str, status: int = 200, **values: Any
) -> Response:
    """A page of the dashboard."""

    def to(*segments: str) -> str:
        return link(request, *(segments or ("",)))

    page = _templates().get_template(template)
    html = page.render(site=site, link=to, now=datetime.now(UTC), **{"page": None, **values})
    return HTMLResponse(html, status)


def refusal(site: Site, request: Request, problem: Problem, page: Page | None = None) -> Response:
    """A page that says what could not be done."""
    response = render(site, request, "problem.html", problem.status, page=page, problem=problem)
    response.headers.update(problem.headers)
    return response


def _guarded(
    site: Site, handler: Handler, scope: Scope
) -> Callable[[Request], Awaitable[Response]]:
    """A page for those who have logged in, and may see or do what it is for."""

    async def endpoint(request: Request) -> Response:
        page: Page | None = None
        try:
            if site.guard.is_open:
                refuse_strangers(request)
            session = _sessions.session_of(site, request)
            if request.method == "POST":
                refuse_cross_site(request)
            if session is None:
                if not site.guard.is_open:
                    return RedirectResponse(link(request, "login"), 303)
                session = _sessions.begin(site, ANYBODY)
            form = await _form(site, request)
            page = Page(site, request, session, form)
            if request.method == "POST":
                _sessions.check_form(site, session, form.get("form_key", ""))
            require(session.identity, [scope])
            response = await handler(page)
        except (Problem, PlaitError) as error:
            problem = problem_of(error)
            assert problem is not None
            return refusal(site, request, problem, page)
        if site.guard.is_open and session.value != request.cookies.get(_sessions.COOKIE):
            _sessions.keep(session, request, response)
        return response

    return endpoint


def _login(site: Site) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        if site.guard.is_open:
            return RedirectResponse(link(request, ""), 303)
        if request.method != "POST":
            return render(site, request, "login.html", problem=None)
        try:
            refuse_cross_site(request)
            secret = (await _form(site, request)).get("token", "")
            token = site.guard.admit(secret.strip(), client_of(request))
        except Problem as problem:
            response = render(site, request, "login.html", problem.status, problem=problem)
            response.headers.update(problem.headers)
            return response
        session = _sessions.begin(site, Identity(token.name, token.scopes))
        entered = RedirectResponse(link(request, ""), 303)
        _sessions.keep(session, request, entered)
        return entered

    return endpoint


async def _form(site: Site, request: Request) -> dict[str, str]:
    if request.method != "POST":
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Problem(415, "a form is application/x-www-form-urlencoded", kind="media-type")
    body = await body_of(request, site.limits)
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=50))
    except ValueError:
        raise Problem(400, "the form is malformed", kind="malformed") from None


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = environment.filters
    filters.update(json=_json, line=_line, ago=_ago, moment=_moment)
    tests: dict[str, Any] = environment.tests
    tests.update(time=lambda value: isinstance(value, datetime))
    return environment


def _json(value: Any) -> str:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    left = len(text) - _MOST_SHOWN
    return text if left <= 0 else f"{text[:_MOST_SHOWN]}\n… and {left:,} characters more"


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _moment(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC")


def _ago(time: datetime, now: datetime) -> str:
    seconds = (now - time).total_seconds()
    size, suffix = (seconds, "ago") if seconds >= 0 else (-seconds, "from now")
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if size >= length:
            return f"{size / length:.0f} {unit} {suffix}"
    return f"{size:.0f} s {suffix}"
