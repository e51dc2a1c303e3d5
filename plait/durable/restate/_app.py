"""Workflows as an application that a Restate server calls."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import restate

from plait.durable._codec import JsonCodec
from plait.durable.restate._handlers import Handlers
from plait.durable.restate._messages import BYTES
from plait.durable.restate._support import check_all
from plait.primitives._decorators import as_primitive

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from plait.durable._codec import Codec
    from plait.primitives import WorkflowPrimitive

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_.-]*")


def app(
    workflows: Sequence[WorkflowPrimitive[Any, Any]],
    *,
    codec: Codec | None = None,
    retention: timedelta | None = None,
    inactivity_timeout: timedelta | None = None,
    identity_keys: Sequence[str] | None = None,
) -> Any:
    """An ASGI application that executes workflows for a Restate server.

    Each workflow is a service of Restate's under its own name, and each run the workflow of
    Restate's with the run's id as its key. Served with HTTP/2 (`plait serve --engine restate`), and
    registered with the server under an address of its own for each version of the code: runs that
    began with a version go on with it.

    Args:
        workflows: The workflows.
        codec: How values are encoded; as JSON by default. Clients use the same.
        retention: How long Restate keeps a run that has ended; a day, by Restate's default.
        inactivity_timeout: After which time a run that only waits leaves memory; a minute, by
            Restate's default.
        identity_keys: The public keys of the server that requests are signed with, as
            `publickeyv1_...`; without them, whoever reaches the application may call it.

    Raises:
        UnsupportedOnRestateError: Something in a workflow is none of what Restate can carry.
        ValueError: Two workflows have one name, or one has a name that no service can have.

    Example:
        >>> from plait import step
        >>> from plait.durable.restate import app
        >>> @step
        ... async def charge(order: int) -> str:
        ...     return f"charged {order}"
        >>> application = app([(charge >> str.title).named("orders")])
    """
    services: dict[str, restate.Workflow] = {}
    for workflow in map(as_primitive, workflows):
        name = workflow.name
        if not _NAME.fullmatch(name):
            msg = (
                f"the workflow {name!r} cannot be a service of Restate's: a name begins with a "
                "letter, and goes on with letters, digits, and any of `_.-`; use .named(...)"
            )
            raise ValueError(msg)
        if name in services:
            msg = (
                f"two workflows are named {name!r}; serve versions of a workflow apart, each at an "
                "address of its own"
            )
            raise ValueError(msg)
        check_all(workflow)
        services[name] = _service(
            workflow,
            Handlers(workflow, codec or JsonCodec()),
            retention=retention,
            inactivity_timeout=inactivity_timeout,
        )
    keys = None if identity_keys is None else list(identity_keys)
    return restate.app(services.values(), identity_keys=keys)


def _service(
    workflow: WorkflowPrimitive[Any, Any],
    handlers: Handlers,
    *,
    retention: timedelta | None,
    inactivity_timeout: timedelta | None,
) -> restate.Workflow:
    service = restate.Workflow(workflow.name, inactivity_timeout=inactivity_timeout)
    as_bytes: Any = {"accept": "*/*", "input_serde": BYTES, "output_serde": BYTES}
    service.main(name="run", workflow_retention=retention, **as_bytes)(handlers.run)
    for handler in (handlers.signal, handlers.event, handlers.cancel):
        service.handler(name=handler.__name__, **as_bytes)(handler)
    return service
