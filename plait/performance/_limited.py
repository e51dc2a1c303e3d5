"""What limits have in common: the key whose limit a call is under, and how long it waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from plait.performance._keys import check_key
from plait.primitives._base import In, Out
from plait.primitives._wrapper import Wrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from plait.primitives._base import Operand


class Limited(Wrapper[In, Out]):
    """Executes a primitive once a limit lets it.

    Args:
        primitive: What is executed.
        max_wait: How many seconds a call waits; None for as long as it takes.
        key: Makes a key of the input; None where all calls are under one limit.

    Raises:
        ValueError: The longest wait is negative.
        TypeError: The primitive cannot be composed, or the key is no function.
    """

    _inside: ClassVar[str] = "/limited"
    # A replay is not to wait, or to use anything up, for what it only reads.
    _is_leaf: ClassVar[bool] = True
    _stays_in_memory: ClassVar[bool] = True

    def __init__(
        self,
        primitive: Operand[In, Out],
        max_wait: float | None,
        key: Callable[[Any], Hashable] | None,
    ) -> None:
        super().__init__(primitive)
        if max_wait is not None and not max_wait >= 0:
            msg = f"max_wait={max_wait!r} must not be negative, or None for as long as it takes"
            raise ValueError(msg)
        self._max_wait = max_wait
        self._key = check_key(key)
