"""What became of one branch or item where a failure is a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

from plait.primitives._errors import Abort, failed_path, note_failure

if TYPE_CHECKING:
    from plait.primitives._concurrency import Call, Gathered
    from plait.primitives._context import WorkflowContext

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

OnError: TypeAlias = Literal["raise", "collect"]


@dataclass(frozen=True, slots=True)
class Success(Generic[T_co]):
    """A branch or item that finished.

    Attributes:
        value: Its result.
    """

    value: T_co


@dataclass(frozen=True, slots=True)
class Failure:
    """A branch or item that failed.

    Attributes:
        error: What it raised, with the note that says where.
    """

    error: Exception

    @property
    def path(self) -> str | None:
        """The path of the node that failed, such as `orders/2:ship[3]`."""
        return failed_path(self.error)


Outcome: TypeAlias = Success[T] | Failure
"""What came of a part whose failure is a value: `errors="collect"` gives these."""


def collecting(call: Call[T], context: WorkflowContext) -> Call[Outcome[T]]:
    """The same call, whose failure is a value."""

    async def collect() -> Outcome[T]:
        try:
            return Success(await call())
        except Exception as error:  # noqa: BLE001 - the caller asked for it as a value
            note_failure(error, context)
            return Failure(error)

    return collect


def results_of(gathered: Gathered[T]) -> list[T]:
    """The results of calls, or the failure that came first with a note for each after it."""
    if not gathered.failures:
        return gathered.results
    errors = [error for _, error in gathered.failures]
    # What ends the whole run is not to be taken for the failure of one call.
    first = next((error for error in errors if isinstance(error, Abort)), errors[0])
    for error in errors:
        if error is first:
            continue
        first.add_note(f"another failed too: {error!r}")
    raise first


def check_errors(errors: Any, owner: str) -> bool:
    """Whether failures are collected; refuses anything but "raise" and "collect"."""
    if errors not in ("raise", "collect"):
        msg = f'errors={errors!r} of {owner} must be "raise" or "collect"'
        raise ValueError(msg)
    return bool(errors == "collect")


def check_limit(limit: int | None, owner: str) -> int | None:
    """A limit on concurrency, refused unless it is positive."""
    if limit is not None and limit < 1:
        msg = f"max_concurrency={limit!r} of {owner} must be at least 1, or None for no limit"
        raise ValueError(msg)
    return limit
