"""Faults put into a workflow's nodes by name, path or pattern."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from plait.primitives import PlaitError, WorkflowPrimitive
from plait.testing._front import Around, Fronted, FrontRuntime
from plait.testing._mock import is_error
from plait.testing._selection import Selection, Sightings, check

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from plait.primitives import Runtime, WorkflowContext
    from plait.testing._front import Execute

A = TypeVar("A")
T = TypeVar("T")
In = TypeVar("In")
Out = TypeVar("Out")


class InjectedError(PlaitError):
    """A failure that `fail` put there."""


class UnusedFaultError(PlaitError, AssertionError):
    """A run came to its end and never to the node of a fault: the test has shown nothing."""


class InjectedCancelError(PlaitError):
    """The run was cancelled at the node that `cancel` names, and has ended."""


@dataclass(frozen=True)
class Fault(ABC):
    """What is to go wrong at some nodes: made by `fail`, `latency`, `hang` and `cancel`.

    Attributes:
        node: The name, path or pattern of the nodes.
        times: How many executions it happens to, from the first; None for all.
    """

    node: str
    times: int | None

    def __post_init__(self) -> None:
        Selection(self.node)
        if self.times is not None and self.times < 1:
            msg = f"times={self.times!r} must be at least 1, or None for always"
            raise ValueError(msg)

    @abstractmethod
    async def happen(self, execution: Coroutine[Any, Any, T], cancel: Callable[[], None]) -> T:
        """Execute the node with the fault.

        Args:
            execution: The node's own execution.
            cancel: Cancels the run.
        """
        ...


@dataclass(frozen=True)
class _Fail(Fault):
    error: BaseException | type[BaseException] | None
    is_answer_lost: bool

    async def happen(self, execution: Coroutine[Any, Any, T], cancel: Callable[[], None]) -> T:
        if self.is_answer_lost:
            await execution
        else:
            execution.close()
        raise self.error or InjectedError(f"fail({self.node!r})")


@dataclass(frozen=True)
class _Latency(Fault):
    seconds: float

    async def happen(self, execution: Coroutine[Any, Any, T], cancel: Callable[[], None]) -> T:
        try:
            await anyio.sleep(self.seconds)
        except BaseException:
            execution.close()
            raise
        return await execution


@dataclass(frozen=True)
class _Hang(Fault):
    async def happen(self, execution: Coroutine[Any, Any, T], cancel: Callable[[], None]) -> T:
        execution.close()
        while True:
            await anyio.sleep_forever()


@dataclass(frozen=True)
class _Cancel(Fault):
    async def happen(self, execution: Coroutine[Any, Any, T], cancel: Callable[[], None]) -> T:
        execution.close()
        cancel()
        while True:
            await anyio.sleep_forever()


def fail(
    node: str,
    error: BaseException | type[BaseException] | None = None,
    *,
    times: int | None = 1,
    answer_lost: bool = False,
) -> Fault:
    """A node that fails.

    Args:
        node: Its name, path, or a pattern of either.
        error: What it raises; an `InjectedError` where nothing is given.
        times: How many of its executions fail, from the first; None for all.
        answer_lost: Whether it is executed and fails then: it did its work, and nobody was told.

    Raises:
        TypeError: `error` is no exception.
        ValueError: `times` is less than 1, or the name is empty.

    Example:
        >>> from plait import RetryPrimitive, step
        >>> from plait.recovery import constant
        >>> from plait.testing import fail, with_faults
        >>> @step
        ... async def charge(total: int) -> str:
        ...     return f"paid {total}"
        >>> orders = RetryPrimitive(charge, backoff=constant(0))
        >>> with_faults(orders, fail("charge", times=3)).run_sync(42)
        'paid 42'
        >>> with_faults(orders, fail("charge", times=4)).run_sync(42)
        Traceback (most recent call last):
        ...
        plait.testing.InjectedError: fail('charge')
        ...
    """
    if error is not None and not is_error(error):
        msg = f"the error of fail({node!r}) is {error!r}, which is no exception"
        raise TypeError(msg)
    return _Fail(node, times, error, answer_lost)


def latency(node: str, seconds: float, *, times: int | None = None) -> Fault:
    """A node that begins only after a while.

    Args:
        node: Its name, path, or a pattern of either.
        seconds: How long it takes longer.
        times: How many of its executions do, from the first; None for all.

    Raises:
        ValueError: A number is out of its range, or the name is empty.
    """
    if seconds < 0:
        msg = f"seconds={seconds!r} must not be negative"
        raise ValueError(msg)
    return _Latency(node, times, seconds)


def hang(node: str, *, times: int | None = 1) -> Fault:
    """A node that never ends: a timeout around it has to do something about that.

    Args:
        node: Its name, path, or a pattern of either.
        times: How many of its executions hang, from the first; None for all.

    Raises:
        ValueError: `times` is less than 1, or the name is empty.
    """
    return _Hang(node, times)


def cancel(node: str) -> Fault:
    """Cancel the run when it comes to a node; what called it gets an `InjectedCancelError`.

    Args:
        node: Its name, path, or a pattern of either.

    Raises:
        ValueError: The name is empty.
    """
    return _Cancel(node, None)


def with_faults(workflow: WorkflowPrimitive[In, Out], *faults: Fault) -> WorkflowPrimitive[In, Out]:
    """The same workflow with faults in it, counted anew in each run.

    Args:
        workflow: The workflow.
        faults: What goes wrong. The first that fits a node, and is not used up, happens to it.

    Raises:
        UnknownNodeError: There is no such node. Of an imperative workflow only a whole run tells.
        UnusedFaultError: When it is run: the run succeeded, and never came to the node of a fault.
        ValueError: A fault is behind one that happens to all executions of the same node.
    """
    return faulty(workflow, faults, lambda: Tally(faults))


def faulty(
    workflow: WorkflowPrimitive[In, Out],
    faults: Sequence[Fault],
    tally: Callable[[], Tally],
    *,
    may_be_unused: bool = False,
) -> WorkflowPrimitive[In, Out]:
    """The same workflow with faults in it.

    Args:
        workflow: The workflow.
        faults: What goes wrong.
        tally: Counts them; asked for at the start of a run.
        may_be_unused: Whether a run need not come to the node of each.
    """
    _refuse_hidden(faults)
    chosen = [(Selection(fault.node), fault) for fault in faults]
    check([selection for selection, _ in chosen], workflow)

    def front(inner: Runtime | None) -> FrontRuntime:
        return _Faulty(workflow, chosen, tally(), may_be_unused, inner)

    return Fronted(workflow, front)


class Tally:
    """Counts how often faults still happen, and which of their nodes were come to.

    Args:
        faults: The faults.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = faults
        self.left = [fault.times for fault in faults]
        self.reached: set[int] = set()

    def check(self, workflow: str) -> None:
        """Refuse faults that nothing came to.

        Args:
            workflow: The workflow's name.

        Raises:
            UnusedFaultError: There is one.
        """
        for index, fault in enumerate(self._faults):
            if index not in self.reached:
                msg = (
                    f"{workflow!r} never came to {fault.node!r}, so that its fault did not happen: "
                    "choose an input that leads there, or leave the fault out"
                )
                raise UnusedFaultError(msg)


def _refuse_hidden(faults: Sequence[Fault]) -> None:
    always: set[str] = set()
    for fault in faults:
        if fault.node in always:
            msg = (
                f"a fault of {fault.node!r} is behind one that happens to all of its executions, "
                "and would never happen itself: put it before, or give the other times="
            )
            raise ValueError(msg)
        if fault.times is None:
            always.add(fault.node)


class _Faulty(FrontRuntime):
    """Has faults happen to some nodes."""

    def __init__(
        self,
        workflow: WorkflowPrimitive[Any, Any],
        faults: Sequence[tuple[Selection, Fault]],
        tally: Tally,
        may_be_unused: bool,
        inner: Runtime | None,
    ) -> None:
        super().__init__(inner)
        self._faults = faults
        self._tally = tally
        self._may_be_unused = may_be_unused
        self._workflow = workflow
        self._sightings = Sightings([selection for selection, _ in faults], workflow)
        self._scope = anyio.CancelScope()

    def perform(
        self,
        primitive: WorkflowPrimitive[A, T],
        execute: Callable[[Any, A, WorkflowContext], Coroutine[Any, Any, T]],
        input_data: A,
        context: WorkflowContext,
    ) -> Coroutine[Any, Any, T]:
        """Execute a node, with its fault where it has one."""
        path = context.path
        self._sightings.see(primitive, path)
        takers = [
            index
            for index, (selection, _) in enumerate(self._faults)
            if selection.takes(primitive, path)
        ]
        self._tally.reached.update(takers)

        # What goes wrong does so in the node's own execution: a journal records it as the node's,
        # and a replay does not have it happen again.
        def with_fault(
            execute: Execute,
            primitive: WorkflowPrimitive[A, T],
            input_data: A,
            context: WorkflowContext,
        ) -> Coroutine[Any, Any, T]:
            execution = execute(primitive, input_data, context)
            fault = self._next(takers)
            return execution if fault is None else fault.happen(execution, self._scope.cancel)

        around = Around(primitive, execute, with_fault)
        return super().perform(primitive, around, input_data, context)

    async def whole(self, call: Coroutine[Any, Any, T], context: WorkflowContext) -> T:
        """Refuse faults of what there was not in a whole run; say that it was cancelled."""
        with self._scope:
            result = await call
            self._sightings.check(self)
            if not self._may_be_unused and self._sightings.is_whole(self):
                self._tally.check(self._workflow.name)
            return result
        msg = f"the run was cancelled: {context!r}"
        raise InjectedCancelError(msg)

    def _next(self, takers: Sequence[int]) -> Fault | None:
        for index in takers:
            left = self._tally.left[index]
            if left != 0:
                self._tally.left[index] = None if left is None else left - 1
                return self._faults[index][1]
        return None
