"""A primitive that does what a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from plait.primitives._base import In, Out, WorkflowPrimitive

if TYPE_CHECKING:
    from plait.primitives._context import WorkflowContext


Effect: TypeAlias = BaseException | type[BaseException] | Callable[[Any], Any]


class MockPrimitive(WorkflowPrimitive[In, Out]):
    """Stands in for a primitive in a test, and remembers how it was called.

    Args:
        name: Its name, for paths and messages.
        return_value: What it returns where there is no side effect.
        side_effect: An exception to raise, a function of the input, sync or async, whose result is
            returned, or a sequence of these and of plain values: one for each call.
        delay: How long each call takes, in seconds.

    Raises:
        ValueError: The delay is negative.

    Example:
        >>> from plait import MockPrimitive, RetryPrimitive
        >>> from plait.recovery import constant
        >>> charge = MockPrimitive("charge", side_effect=[ConnectionError(), "paid"])
        >>> RetryPrimitive(charge, backoff=constant(0)).run_sync({"total": 42})
        'paid'
        >>> charge.call_count, charge.last_input
        (2, {'total': 42})
    """

    def __init__(
        self,
        name: str | None = None,
        return_value: Any = None,
        side_effect: Effect | Iterable[Any] | None = None,
        delay: float = 0,
    ) -> None:
        if delay < 0:
            msg = f"delay={delay!r} must not be negative"
            raise ValueError(msg)
        self._name = name
        self._return_value = return_value
        self._effect: Effect | None = None
        self._effects: Iterator[Any] | None = None
        if isinstance(side_effect, Iterable):
            self._effects = iter(side_effect)
        else:
            self._effect = side_effect
        self._delay = delay
        self.calls: list[Any] = []
        """The input of each call, in order."""

    @property
    def call_count(self) -> int:
        """How often it was called."""
        return len(self.calls)

    @property
    def last_input(self) -> Any:
        """The input of the last call.

        Raises:
            AssertionError: It was never called.
        """
        if not self.calls:
            msg = f"{self.name} was never called"
            raise AssertionError(msg)
        return self.calls[-1]

    def assert_called_once_with(self, input_data: Any) -> None:
        """Demand that it was called once, with this input.

        Raises:
            AssertionError: It was called otherwise; the message shows each call.
        """
        if self.calls != [input_data]:
            seen = ", ".join(map(repr, self.calls)) or "nothing"
            msg = (
                f"{self.name} was to be called once with {input_data!r}; it was called with {seen}"
            )
            raise AssertionError(msg)

    async def execute(self, input_data: In, context: WorkflowContext) -> Out:
        """Remember the call, wait for the delay, then do what the test said."""
        self.calls.append(input_data)
        if self._delay:
            await context.sleep(self._delay)
        effect: Any = self._effect
        if self._effects is not None:
            try:
                effect = next(self._effects)
            except StopIteration:
                msg = f"{self.name} has no side effect for call {self.call_count}"
                raise AssertionError(msg) from None
        result: Any = self._return_value if self._effects is None else effect
        if isinstance(effect, BaseException) or (
            isinstance(effect, type) and issubclass(effect, BaseException)
        ):
            raise effect
        if callable(effect):
            result = effect(input_data)
            if hasattr(result, "__await__"):
                result = await result
        output: Out = result
        return output
