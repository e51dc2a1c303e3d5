"""The exceptions of the algebra, and the note that says where a failure happened.

    PlaitError
     ├── PermanentError              a failure that trying again cannot mend
     │    ├── SerializationError     a value has no form that gives it back
     │    ├── SignalPayloadError     also a ValueError: a signal brought another type of payload
     │    └── UnknownRouteError      also a LookupError: a router named a route it does not have
     ├── RejectedError               a limit has no room, and did not wait for it
     ├── RecordedError               a journal kept a failure whose class cannot be built again
     └── StepTimeoutError            also a TimeoutError: a Timeout's own deadline passed

The durable runner's exceptions hang below the same root, in `plait.durable`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from plait.primitives._context import WorkflowContext

T = TypeVar("T")

_PATH, _RUN, _NOTE = "__plait_path__", "__plait_run__", "__plait_note__"
OF_THIS_PROCESS = (_RUN,)
"""The attributes of a noted error that mean nothing to another process."""


class PlaitError(Exception):
    """The root of every exception that plait itself raises."""


class PermanentError(PlaitError):
    """Raise it, or a subclass, where trying again cannot help: no retry will.

    Example:
        >>> from plait import PermanentError, RetryPrimitive
        >>> def charge(card: str) -> str:
        ...     raise PermanentError(f"card {card} is closed")
        >>> RetryPrimitive(charge).run_sync("42")
        Traceback (most recent call last):
        ...
        plait.PermanentError: card 42 is closed
        in step 'charge' (charge, attempt 1 of 4)
    """


class RecordedError(PlaitError):
    """A failure that a journal kept, of a class that cannot be built again.

    Args:
        type_name: The class that it was, as `module:qualified.name`.
        message: What it said.
    """

    def __init__(self, type_name: str, message: str) -> None:
        super().__init__(type_name, message)
        self.type_name = type_name
        self.message = message

    def __str__(self) -> str:
        return f"{self.type_name.partition(':')[2]}: {self.message}"


class RejectedError(PlaitError):
    """A limit on the rate or on the concurrency had no room in the time that a call would wait.

    Args:
        message: What was rejected.
        limit: The limit's name.
        retry_after: After how many seconds there may be room, where that is known; a retry waits
            as long.
    """

    def __init__(self, message: str, limit: str, retry_after: float | None = None) -> None:
        super().__init__(message, limit, retry_after)
        self.limit = limit
        self.retry_after = retry_after

    def __str__(self) -> str:
        return str(self.args[0])


class SerializationError(PermanentError):
    """A value, or a part of one, has no form as JSON that gives it back.

    Args:
        kind: The class of the part, or its name.
        where: The way to it from the value, such as `.items[3]`.
        reason: Why not.
    """

    def __init__(self, kind: type | str, where: str, reason: str) -> None:
        # The part itself is not kept: an error has to have a form that gives it back.
        self.kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
        self.where = where
        self.reason = reason
        super().__init__(self.kind, where, reason)

    def __str__(self) -> str:
        place = f" at {self.where}" if self.where else ""
        return f"cannot encode {self.kind}{place}: {self.reason}"


class Abort(BaseException):
    """Ends a run from inside of it: no primitive handles it, and nothing more is recorded.

    Args:
        error: What the run's caller is told.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class StepTimeoutError(PlaitError, TimeoutError):
    """The deadline of a `TimeoutPrimitive` passed.

    Args:
        message: What was not finished.
        seconds: The deadline that passed, in seconds.
    """

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message, seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return str(self.args[0])


class UnknownRouteError(PermanentError, LookupError):
    """A router's function named a route that the router does not have.

    Args:
        router: The router's name.
        route: What the function returned.
        routes: The routes there are.
    """

    def __init__(self, router: str, route: object, routes: Iterable[str]) -> None:
        self.router = router
        self.route = route
        self.routes = tuple(routes)
        super().__init__(router, route, self.routes)

    def __str__(self) -> str:
        known = ", ".join(repr(route) for route in self.routes)
        return f"{self.router!r} was sent to route {self.route!r}; its routes are {known}"


def failed_path(error: BaseException) -> str | None:
    """The path of the node in which an error was raised, or None when no node saw it.

    Args:
        error: An exception that came out of a workflow.
    """
    path: str | None = vars(error).get(_PATH)
    return path


async def noting(call: Awaitable[T], context: WorkflowContext) -> T:
    """Await a call, and note on its failure where that happened."""
    try:
        return await call
    except Exception as error:
        note_failure(error, context)
        raise


def note_failure(error: Exception, context: WorkflowContext) -> bool:
    """Note on an error the node it was raised in, once: the deepest node that sees it.

    A node's parents see the same error pass by, so an error that names a node below this one is
    left as it is. An error object that is raised again elsewhere, or in another run, gets the new
    place; of another run's, only the last is kept.

    Returns:
        Whether this is where it was raised.
    """
    path, run = context.path, id(context._run)
    # Written past `__setattr__`, which classes such as frozen dataclasses refuse.
    state = vars(error)
    is_same_run = state.get(_RUN) == run
    if is_same_run and _is_within(state[_PATH], path):
        return False
    notes: list[str] = state.setdefault("__notes__", [])
    if not is_same_run and state.get(_NOTE) in notes:
        notes.remove(state[_NOTE])
    state[_PATH], state[_RUN] = path, run
    state[_NOTE] = f"in step {context.label!r} ({context.place})"
    notes.append(state[_NOTE])
    return True


def _is_within(path: str, above: str) -> bool:
    return path == above or path.startswith((f"{above}/", f"{above}["))
