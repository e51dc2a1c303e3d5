"""What is known of a workflow before it runs: its name, and the signals that it waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plait.primitives import SignalPayloadError, SignalPrimitive, Step, Workflow
from plait.primitives._outside import checked_payload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from plait.primitives import WorkflowPrimitive


def known_as(workflow: WorkflowPrimitive[Any, Any]) -> str:
    """The name by which a run finds its workflow again."""
    version = workflow.version if isinstance(workflow, Workflow) else None
    return workflow.name if version is None else f"{workflow.name}@{version}"


def check_signal(
    workflow: WorkflowPrimitive[Any, Any],
    name: str,
    payload: object,
    awaited: Mapping[str, Sequence[Any]],
) -> None:
    """Refuse a signal that a workflow cannot be waiting for, as far as that is known.

    Args:
        workflow: The workflow.
        name: The signal's name.
        payload: What it brings.
        awaited: For which payload types runs of it have waited, by the names of the signals.

    Raises:
        ValueError: Nothing in it waits for a signal of that name.
        SignalPayloadError: What it waits for is of another type.
    """
    known = {name: list(types) for name, types in awaited.items()}
    is_known_whole = _collect(workflow, known)
    if name not in known:
        if is_known_whole:
            names = ", ".join(map(repr, sorted(known))) or "none"
            msg = f"{workflow.name!r} waits for no signal {name!r}; those it waits for are {names}"
            raise ValueError(msg)
        return
    refused: SignalPayloadError | None = None
    for payload_type in known[name]:
        try:
            checked_payload(name, payload, payload_type)
        except SignalPayloadError as error:
            refused = error
        else:
            return
    assert refused is not None
    raise refused


def _collect(primitive: WorkflowPrimitive[Any, Any], known: dict[str, list[Any]]) -> bool:
    """Note the signals of a tree; whether code that is not looked into can wait for no other."""
    if isinstance(primitive, SignalPrimitive):
        known.setdefault(primitive.signal, []).append(primitive.payload_type)
        return True
    if isinstance(primitive, Step):
        return primitive._shape.context is None and not primitive._numbers_children
    # One of ours that numbers its calls, an agent say, executes code that is not looked into.
    is_known = type(primitive).__module__.split(".")[0] == "plait" and (
        not primitive._numbers_children
    )
    return all([is_known, *[_collect(child, known) for child in primitive.children]])
