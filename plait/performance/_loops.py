"""What belongs to an event loop, and not to the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar
from weakref import WeakKeyDictionary

from plait.primitives._concurrency import backend

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class PerLoop(Generic[T]):
    """A value for each event loop, gone when the loop is. A copy has none."""

    def __init__(self) -> None:
        self._values: WeakKeyDictionary[Any, T] = WeakKeyDictionary()

    def get(self) -> T | None:
        """The value of the event loop that runs, if it has one."""
        return self._values.get(backend().current_loop())

    def get_or(self, make: Callable[[], T]) -> T:
        """The value of the event loop that runs, made where it has none yet."""
        loop = backend().current_loop()
        value = self._values.get(loop)
        if value is None:
            value = self._values[loop] = make()
        return value

    def set(self, value: T) -> None:
        """Give the event loop that runs a value."""
        self._values[backend().current_loop()] = value

    def pop(self) -> T | None:
        """Take the value of the event loop that runs away from it."""
        return self._values.pop(backend().current_loop(), None)

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()
