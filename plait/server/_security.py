"""Who may do what: bearer tokens with scopes, and what cross-site requests are refused by."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from plait.server._problems import Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from starlette.requests import Request

Scope: TypeAlias = Literal["read", "run", "operate"]
"""Read: look at runs, with what is to be hidden hidden. Run: start runs, publish events, and be
told results whole. Operate: signal, cancel, resume and fork."""

SCOPES: tuple[Scope, ...] = get_args(Scope)
_SHORTEST_SECRET = 16
_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
_CHALLENGE = 'Bearer realm="plait"'


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token: what a client shows to be let in. Only the hash of its secret is kept.

    Args:
        name: Whose it is, for logs and the dashboard.
        digest: The SHA-256 of its secret, in hexadecimal digits.
        scopes: What it is good for.
        expires_at: When it ends; None for never.

    Raises:
        ValueError: The digest or a scope is none, or there is no scope.

    Example:
        >>> from plait.server import Token
        >>> token = Token.of("ci", "correct-horse-battery", scopes=["read", "run"])
        >>> sorted(token.scopes)
        ['read', 'run']
    """

    name: str
    digest: str = field(repr=False)
    scopes: frozenset[Scope]
    expires_at: datetime | None = None

    def __post_init__(self) -> None:
        if unknown := set(self.scopes).difference(SCOPES):
            msg = f"scopes of token {self.name!r}: {sorted(unknown)} are none of {list(SCOPES)}"
            raise ValueError(msg)
        if not self.scopes:
            msg = f"token {self.name!r} has no scope; it may have {list(SCOPES)}"
            raise ValueError(msg)
        if len(self.digest) != 64 or not set(self.digest) <= set("0123456789abcdef"):
            msg = f"the digest of token {self.name!r} must be a SHA-256 in 64 hexadecimal digits"
            raise ValueError(msg)

    @classmethod
    def of(
        cls,
        name: str,
        secret: str,
        *,
        scopes: Iterable[Scope] = SCOPES,
        expires_at: datetime | None = None,
    ) -> Token:
        """A token by its secret.

        Args:
            name: Whose it is.
            secret: What clients send, of at least 16 characters; nothing that can be guessed.
            scopes: What it is good for; everything by default.
            expires_at: When it ends; None for never.

        Raises:
            ValueError: The secret is too short, or a scope is none.
        """
        if len(secret) < _SHORTEST_SECRET:
            msg = f"the secret of token {name!r} must have at least {_SHORTEST_SECRET} characters"
            raise ValueError(msg)
        return cls(name, digest_of(secret), frozenset(scopes), expires_at)

    def is_over(self) -> bool:
        """Whether it has expired."""
        return self.expires_at is not None and self.expires_at <= datetime.now(UTC)


def tokens_in(file: str | Path) -> list[Token]:
    """The tokens of a JSON file: a list of `{"name", "sha256", "scopes", "expires_at"}`.

    Raises:
        ValueError: It is no such file.
        OSError: It cannot be read.
    """
    try:
        entries: Any = json.loads(Path(file).read_text())
        return [
            Token(
                name=entry["name"],
                digest=entry["sha256"],
                scopes=frozenset(entry["scopes"]),
                expires_at=_time(entry.get("expires_at")),
            )
            for entry in entries
        ]
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{file} is no list of tokens: {type(error).__name__}: {error}"
        raise ValueError(msg) from error


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who makes a request.

    Attributes:
        name: The token's name; None where no tokens are configured.
        scopes: What they may do.
    """

    name: str | None
    scopes: frozenset[Scope]


ANYBODY = Identity(None, frozenset(SCOPES))
"""Whoever reaches a server that has no tokens, which is this machine alone."""


class Guard:
    """Lets requests in, or refuses them.

    Args:
        tokens: The tokens there are; with none, only this machine is let in.
    """

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tuple(tokens)
        self._failures = Failures()

    @property
    def is_open(self) -> bool:
        """Whether no token is needed."""
        return not self.tokens

    def find(self, secret: str) -> Token | None:
        """The token of a secret."""
        given, found = digest_of(secret), None
        for token in self.tokens:
            # All of them, so that the time says nothing of which one it was, or nearly was.
            if hmac.compare_digest(given, token.digest):
                found = token
        return found

    def admit(self, secret: str, client: str) -> Token:
        """The token of a secret that somebody shows.

        Raises:
            Problem: There is none, it has expired, or they have tried too often.
        """
        wait = self._failures.wait(client)
        if wait:
            msg = f"too many wrong tokens; try again in {wait} s"
            raise Problem(429, msg, kind="too-many-attempts", headers={"Retry-After": str(wait)})
        token = self.find(secret)
        if token is None or token.is_over():
            self._failures.add(client)
            what = "is not known" if token is None else "has expired"
            raise unauthorized(f"the token {what}", "invalid_token")
        return token

    def named(self, name: str) -> Token | None:
        """The token of a name, where it has not expired."""
        return next((t for t in self.tokens if t.name == name and not t.is_over()), None)

    def identify(self, request: Request) -> Identity | None:
        """Who shows a bearer token; None where none is shown.

        Raises:
            Problem: The header is malformed, or the token is refused.
        """
        header = request.headers.get("authorization")
        if header is None:
            return None
        kind, _, secret = header.partition(" ")
        if kind.lower() != "bearer" or not secret.strip():
            raise unauthorized("use Authorization: Bearer TOKEN", "invalid_request")
        if self.is_open:
            return ANYBODY
        token = self.admit(secret.strip(), client_of(request))
        return Identity(token.name, token.scopes)


class Failures:
    """Wrong tokens, counted for each address.

    Args:
        limit: How many are let pass within a minute.
    """

    _SECONDS = 60
    _ADDRESSES = 10_000

    def __init__(self, limit: int = 20) -> None:
        self._limit = limit
        self._seen: dict[str, list[float]] = {}

    def add(self, client: str) -> None:
        """Note a failure."""
        while len(self._seen) >= self._ADDRESSES:
            del self._seen[next(iter(self._seen))]
        self._seen.setdefault(client, []).append(time.monotonic())

    def wait(self, client: str) -> int:
        """In how many seconds to try again; 0 for now."""
        now = time.monotonic()
        recent = [at for at in self._seen.pop(client, []) if now - at < self._SECONDS]
        if not recent:
            return 0
        self._seen[client] = recent
        return int(recent[0] + self._SECONDS - now) + 1 if len(recent) >= self._limit else 0


def require(identity: Identity, scopes: Collection[Scope]) -> None:
    """Refuse whoever has not all of these scopes.

    Raises:
        Problem: They have not.
    """
    missing = sorted(set(scopes).difference(identity.scopes))
    if missing:
        needed = " ".join(missing)
        raise Problem(
            403,
            f"this needs the scope {needed!r}, which token {identity.name!r} has not",
            kind="insufficient-scope",
            headers={
                "WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope", scope="{needed}"'
            },
        )


def unauthorized(detail: str, error: str | None = None) -> Problem:
    """What is answered to whoever has not shown who they are (RFC 6750)."""
    challenge = _CHALLENGE if error is None else f'{_CHALLENGE}, error="{error}"'
    headers = {"WWW-Authenticate": challenge}
    return Problem(401, detail, kind="unauthorized", headers=headers)


def refuse_strangers(request: Request) -> None:
    """Refuse what does not come from this machine, or was addressed to another name.

    A page of any site may have its own name resolve to 127.0.0.1, and then read what it asks for:
    the `Host` header tells (DNS rebinding).

    Raises:
        Problem: It does not, or was.
    """
    # A proxy on this machine lets others in: what it forwards does not come from here.
    is_forwarded = any(name in request.headers for name in _FORWARDED)
    is_far = request.client is not None and not is_loopback(request.client.host)
    if is_far or is_forwarded:
        msg = "without tokens, only this machine is let in; configure tokens"
        raise Problem(403, msg, kind="loopback-only")
    host = request.headers.get("host", "").lower()
    name = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    if not is_loopback(name):
        msg = f"without tokens, only localhost is answered for, not {name!r}"
        raise Problem(403, msg, kind="loopback-only")


def refuse_cross_site(request: Request) -> None:
    """Refuse what a page of another site had a browser send.

    Raises:
        Problem: It is such a request.
    """
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    # A proxy that ends TLS may not say so: the name is compared, and not the scheme.
    is_own = origin is None or origin.partition("://")[2] == request.headers.get("host", "")
    if site not in ("same-origin", "none") or not is_own:
        raise Problem(403, "this was sent by a page of another site", kind="cross-site")


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own alone."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def client_of(request: Request) -> str:
    """The address that a request comes from."""
    return "unknown" if request.client is None else request.client.host


def digest_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()
