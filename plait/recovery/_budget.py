"""How many retries are in order while much fails."""

from __future__ import annotations

import threading


class RetryBudget:
    """Turns retries off while too much fails, so that they don't hammer what is failing already.

    Retry throttling as in gRPC (gRFC A6): there are `max_tokens` tokens; each failed attempt takes
    one, and each success gives `token_ratio` of one back. Nothing is retried while no more than
    half of them are left. One budget given to several `RetryPrimitive`s is one for all of them; it
    may be used from several threads.

    Args:
        max_tokens: How many tokens there are. Half as many attempts may fail in a row.
        token_ratio: What a success gives back: with 0.1 about one retry for ten successes.

    Raises:
        ValueError: One of them is not positive.

    Example:
        >>> from plait.recovery import RetryBudget
        >>> budget = RetryBudget(max_tokens=4)
        >>> budget.fail(), budget.fail(), budget.allows_retries
        (None, None, False)
    """

    def __init__(self, max_tokens: float = 100, token_ratio: float = 0.1) -> None:
        for option, number in (("max_tokens", max_tokens), ("token_ratio", token_ratio)):
            if not number > 0:
                msg = f"{option}={number!r} of a RetryBudget must be positive"
                raise ValueError(msg)
        self._max_tokens = max_tokens
        self._token_ratio = token_ratio
        self._tokens = max_tokens
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<RetryBudget {self._tokens:g} of {self._max_tokens:g}>"

    def __reduce__(self) -> tuple[object, ...]:
        # In another process it starts anew.
        return RetryBudget, (self._max_tokens, self._token_ratio)

    @property
    def tokens(self) -> float:
        """How many tokens are left."""
        return self._tokens

    @property
    def allows_retries(self) -> bool:
        """Whether more than half of the tokens are left."""
        return self._tokens > self._max_tokens / 2

    def succeed(self) -> None:
        """Count a success."""
        with self._lock:
            self._tokens = min(self._tokens + self._token_ratio, self._max_tokens)

    def fail(self) -> None:
        """Count a failed attempt."""
        with self._lock:
            self._tokens = max(self._tokens - 1, 0)
