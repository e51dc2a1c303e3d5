"""Which failures of a request to a model pass by themselves."""

from __future__ import annotations

from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelAPIError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRequestRejectedError,
    OutputTokenLimitExceeded,
    UnexpectedModelBehavior,
)

_PASSING_STATUS = frozenset({408, 409, 425, 429})
_REFUSED = (ContentFilterError, OutputTokenLimitExceeded, ModelQuotaExceededError)
_PASSING = (ModelAPIError, UnexpectedModelBehavior, ConnectionError, TimeoutError)


def is_transient(error: Exception) -> bool:
    """Whether the same request to a model may succeed when it is sent again.

    That is so of timeouts and lost connections, of answers that cannot be read, and of the statuses
    408, 409, 425, 429 and 5xx. It is not of requests that were refused for what they say, nor where
    a quota is used up. For `retry_on=` of a retry around an agent's requests, which waits as long
    as `Retry-After` asks for.

    Args:
        error: What the request failed with.

    Example:
        >>> from pydantic_ai.exceptions import ModelHTTPError
        >>> from plait.agents import is_transient
        >>> is_transient(ModelHTTPError(503, "gpt-5")), is_transient(ModelHTTPError(401, "gpt-5"))
        (True, False)
    """
    if isinstance(error, _REFUSED):
        return False
    if isinstance(error, ModelHTTPError):
        return error.status_code in _PASSING_STATUS or error.status_code >= 500
    return isinstance(error, _PASSING) and not isinstance(error, ModelRequestRejectedError)
