"""Errors as problem details (RFC 9457)."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from plait.durable import JournalError, RunConflictError, RunEndedError, RunNotFoundError
from plait.primitives import PlaitError, SerializationError, StepTimeoutError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request


class Problem(Exception):  # noqa: N818 - RFC 9457 calls it that
    """What a request is answered that cannot be done.

    Args:
        status: The HTTP status.
        detail: What was wrong with this request, and what to do.
        kind: The problem's type, the last part of its URN; "about:blank" where none is given.
        headers: What else the answer says.
        extra: Further members of the answer.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind
        self.headers = dict(headers or {})
        self.extra = extra

    def response(self) -> Response:
        """The answer."""
        body = {
            "type": "about:blank" if self.kind is None else f"urn:plait:problem:{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.extra,
        }
        return Response(
            json.dumps(body), self.status, self.headers, media_type="application/problem+json"
        )


def problem_of(error: Exception) -> Problem | None:
    """What a caller is told of an error of the runner; None where it is not the caller's."""
    match error:
        case Problem():
            return error
        case RunNotFoundError():
            return Problem(404, str(error), kind="run-not-found")
        case RunConflictError():
            return Problem(409, str(error), kind="run-conflict")
        case RunEndedError():
            return Problem(409, str(error), kind="run-ended")
        case SerializationError():
            return Problem(422, str(error), kind="invalid-payload")
        case StepTimeoutError():
            return Problem(404, str(error), kind="event-not-set")
        case JournalError():
            return Problem(
                503, "the journal cannot be used now", kind="journal", headers={"Retry-After": "1"}
            )
        case PlaitError():
            return Problem(409, str(error), kind="refused")
        case HTTPException():
            return Problem(error.status_code, error.detail, headers=error.headers)
        case _:
            return None


async def answer(request: Request, error: Exception) -> Response:
    """The answer to a request that raised an error."""
    problem = problem_of(error)
    if problem is None:
        # Said to the server's own log by whoever serves it; a stranger learns nothing of it.
        problem = Problem(500, "the server failed; its log says why")
    return problem.response()
