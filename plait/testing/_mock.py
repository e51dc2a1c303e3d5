"""A primitive that does what a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from plait.primitives._base import WorkflowPrimitive
from plait.primitives._decorators import make_step

if TYPE_CHECKING:
    import typing_extensions

    from plait.primitives._context import WorkflowContext
    from plait.testing._contract import Contract

    # Nothing that a mock is made with says what it takes and returns: Any, where nobody else does.
    In = typing_extensions.TypeVar("In", contravariant=True, default=Any)
    Out = typing_extensions.TypeVar("Out", covariant=True, default=Any)
else:
    from plait.primitives._base import In, Out

A = TypeVar("A")
T = TypeVar("T")

Effect: TypeAlias = BaseException | type[BaseException] | Callable[..., Any]


@dataclass(frozen=True, slots=True)
class MockCall:
    """One call of a mock.

    Attributes:
        input: Its input.
        path: The node's path.
        attempt: Which attempt of the nearest enclosing retry it was, from 1.
        correlation_id: The run's, where it had one by then.
        time: When it was made, in seconds on `context.time()`'s clock.
    """

    input: Any
    path: str
    attempt: int
    correlation_id: str | None
    time: float

    def __str__(self) -> str:
        return f"{self.input!r} at {self.path}"


class MockPrimitive(WorkflowPrimitive[In, Out]):
    """Stands in for a primitive in a test, and remembers how it was called.

    Args:
        name: Its name, for paths and messages.
        return_value: What it returns where there is no side effect.
        side_effect: An exception to raise, a function, sync or async, of the input, or of the input
            and the context, whose result is returned, or a sequence of these and of plain values:
            one for each call.
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
        >>> [call.path for call in charge.history]
        ['charge/attempt 1', 'charge/attempt 2']
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
        # A class of exceptions may be iterable, as an enumeration is; an effect it is first.
        if isinstance(side_effect, Iterable) and not isinstance(side_effect, type):
            self._effects = iter(side_effect)
        elif side_effect is None or callable(side_effect) or is_error(side_effect):
            self._effect = side_effect
        else:
            msg = (
                f"side_effect={side_effect!r} must be an exception, a function or a sequence; for "
                f"what is always returned: return_value={side_effect!r}"
            )
            raise TypeError(msg)
        self._delay = delay
        self._contract: Contract | None = None
        self.history: list[MockCall] = []
        """Each call, in order."""

    @classmethod
    def of(
        cls,
        primitive: WorkflowPrimitive[A, T],
        return_value: Any = None,
        side_effect: Effect | Iterable[Any] | None = None,
        delay: float = 0,
    ) -> MockPrimitive[A, T]:
        """Stand in for this primitive, and hold what goes in and out against its annotations.

        Args:
            primitive: The primitive; its name is the mock's.
            return_value: What the mock returns where there is no side effect.
            side_effect: As for `MockPrimitive`.
            delay: How long each call takes, in seconds.

        Raises:
            TypeError: The primitive does not return values like `return_value`, or is none.

        Example:
            >>> from plait import MockPrimitive, step
            >>> @step
            ... async def charge(total: int) -> str:
            ...     return f"receipt {total}"
            >>> MockPrimitive.of(charge, return_value="paid").run_sync("42")
            Traceback (most recent call last):
            ...
            AssertionError: charge takes total: int, and its mock was called with '42' (str)
            in step 'charge' (charge)
        """
        from plait.testing._contract import Contract

        if not isinstance(primitive, WorkflowPrimitive):
            msg = f"MockPrimitive.of takes the primitive to stand in for, got {primitive!r}"
            raise TypeError(msg)
        made: MockPrimitive[A, T] = MockPrimitive(primitive.name, return_value, side_effect, delay)
        made._contract = Contract(primitive)
        if side_effect is None:
            wrong = made._contract.wrong_result(return_value)
            if wrong is not None:
                raise TypeError(wrong)
        return made

    @property
    def call_count(self) -> int:
        """How often it was called."""
        return len(self.history)

    @property
    def calls(self) -> list[Any]:
        """The input of each call, in order."""
        return [call.input for call in self.history]

    @property
    def last_input(self) -> Any:
        """The input of the last call.

        Raises:
            AssertionError: It was never called.
        """
        self.assert_called()
        return self.history[-1].input

    def assert_called(self) -> None:
        """Demand that it was called.

        Raises:
            AssertionError: It was not.
        """
        if not self.history:
            msg = f"{self.name} was never called"
            raise AssertionError(msg)

    def assert_not_called(self) -> None:
        """Demand that it was not called.

        Raises:
            AssertionError: It was; the message shows each call.
        """
        self._demand(not self.history, "was not to be called")

    def assert_called_once(self) -> None:
        """Demand that it was called once.

        Raises:
            AssertionError: It was called otherwise; the message shows each call.
        """
        self._demand(len(self.history) == 1, "was to be called once")

    def assert_called_once_with(self, input_data: Any) -> None:
        """Demand that it was called once, with this input.

        Raises:
            AssertionError: It was called otherwise; the message shows each call.
        """
        self._demand(self.calls == [input_data], f"was to be called once with {input_data!r}")

    def assert_called_with(self, input_data: Any) -> None:
        """Demand that its last call had this input.

        Raises:
            AssertionError: It had another, or there was none; the message shows each call.
        """
        is_last = self.calls[-1:] == [input_data]
        self._demand(is_last, f"was last to be called with {input_data!r}")

    def assert_any_call(self, input_data: Any) -> None:
        """Demand that one of its calls had this input.

        Raises:
            AssertionError: None had; the message shows each call.
        """
        self._demand(input_data in self.calls, f"was to be called with {input_data!r} at some time")

    def assert_calls(self, *inputs: Any) -> None:
        """Demand that its calls had these inputs, in this order, and that there were no others.

        Raises:
            AssertionError: They had not; the message shows each call.
        """
        wanted = ", ".join(map(repr, inputs))
        self._demand(self.calls == list(inputs), f"was to be called with {wanted}")

    def reset(self) -> None:
        """Forget the calls; a sequence of side effects goes on where it is."""
        self.history.clear()

    async def execute(self, input_data: In, context: WorkflowContext) -> Out:
        """Remember the call, wait for the delay, then do what the test said."""
        # As it is: asking the context for it would make one.
        run = context._run.correlation_id
        call = MockCall(input_data, context.path, context.attempt, run, context.time())
        self.history.append(call)
        if self._contract is not None:
            self._refuse(self._contract.wrong_input(input_data))
        if self._delay:
            await context.sleep(self._delay)
        result = await self._outcome(input_data, context)
        if self._contract is not None:
            self._refuse(self._contract.wrong_result(result))
        output: Out = result
        return output

    async def _outcome(self, input_data: In, context: WorkflowContext) -> Any:
        effect: Any = self._effect
        if self._effects is not None:
            try:
                effect = next(self._effects)
            except StopIteration:
                msg = f"{self.name} has no side effect for call {self.call_count}"
                raise AssertionError(msg) from None
        if is_error(effect):
            raise effect
        if callable(effect):
            return await make_step(effect, pair=True).call(input_data, context)
        return self._return_value if self._effects is None else effect

    def _demand(self, holds: bool, demand: str) -> None:
        if not holds:
            raise AssertionError(f"{self.name} {demand}; {_told(self.history)}")

    def _refuse(self, wrong: str | None) -> None:
        if wrong is not None:
            raise AssertionError(wrong)


def is_error(effect: object) -> bool:
    """Whether that can be raised."""
    return isinstance(effect, BaseException) or (
        isinstance(effect, type) and issubclass(effect, BaseException)
    )


def _told(calls: list[MockCall]) -> str:
    if not calls:
        return "it was never called"
    if len(calls) == 1:
        return f"it was called with {calls[0]}"
    lines = (f"  {number}. {call}" for number, call in enumerate(calls, 1))
    return "\n".join((f"it was called {len(calls)} times, with", *lines))
