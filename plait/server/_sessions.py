"""The dashboard's sessions: signed cookies, and what forms carry against forgery."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plait.server._problems import Problem
from plait.server._security import ANYBODY, Identity

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from plait.server._site import Site

COOKIE = "plait_session"
_SECONDS = 12 * 3600


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who has logged in to the dashboard.

    Attributes:
        value: The cookie.
        identity: Who they are.
    """

    value: str
    identity: Identity

    def form_key(self, site: Site) -> str:
        """What each form of this session has to bring, which other sites cannot know."""
        return _sign(site, f"form:{self.value}")


def session_of(site: Site, request: Request) -> Session | None:
    """The session that a request has; None where it has none, or its token is gone."""
    value = request.cookies.get(COOKIE, "")
    content, _, signature = value.rpartition(".")
    if not hmac.compare_digest(_sign(site, content).encode(), signature.encode()):
        return None
    name, until, _ = content.split(".")
    if int(until) < time.time():
        return None
    if site.guard.is_open:
        return Session(value, ANYBODY)
    token = site.guard.named(_name(name))
    return None if token is None else Session(value, Identity(token.name, token.scopes))


def begin(site: Site, identity: Identity) -> Session:
    """A new session."""
    name = base64.urlsafe_b64encode((identity.name or "").encode()).decode().rstrip("=")
    content = f"{name}.{int(time.time()) + _SECONDS}.{secrets.token_urlsafe(16)}"
    return Session(f"{content}.{_sign(site, content)}", identity)


def keep(session: Session, request: Request, response: Response) -> None:
    """Have the browser keep a session. Its pages cannot read it, nor other sites send it."""
    response.set_cookie(
        COOKIE,
        session.value,
        max_age=_SECONDS,
        path=request.scope.get("plait.root") or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def end(request: Request, response: Response) -> None:
    """Have the browser forget its session."""
    response.delete_cookie(COOKIE, path=request.scope.get("plait.root") or "/")


def check_form(site: Site, session: Session, given: str) -> None:
    """Refuse a form that does not come from a page of this session.

    Raises:
        Problem: It does not.
    """
    if not hmac.compare_digest(session.form_key(site).encode(), given.encode()):
        msg = "the form is not from a page of this session; load the page again"
        raise Problem(403, msg, kind="forged-form")


def _sign(site: Site, content: str) -> str:
    signature = hmac.digest(site.session_key, content.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(signature).decode().rstrip("=")


def _name(encoded: str) -> str:
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
