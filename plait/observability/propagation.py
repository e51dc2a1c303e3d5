"""Traces and baggage in and out of this process: over HTTP, in messages, in environments.

The formats are W3C's Trace Context and Baggage, or what `OTEL_PROPAGATORS` names. A carrier is a
dict of headers, or a list of pairs as ASGI servers and Kafka clients have them, of str or bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Generator

    from opentelemetry.context import Context

__all__ = ["attached", "extract", "inject"]

Text: TypeAlias = str | bytes
Incoming: TypeAlias = Mapping[str, str] | Mapping[str, bytes] | Sequence[tuple[Text, Text]]
Outgoing: TypeAlias = (
    MutableMapping[str, str]
    | MutableSequence[tuple[str, bytes]]
    | MutableSequence[tuple[bytes, bytes]]
)


def inject(carrier: Outgoing, *, as_bytes: bool = False) -> None:
    """Put the current trace and baggage into what is sent.

    Args:
        carrier: The headers: a dict of strings, or a list that `(name, value)` is appended to,
            the value in bytes, as in the headers of Kafka's messages.
        as_bytes: Whether names in a list are bytes too, as in ASGI.

    Raises:
        TypeError: The carrier is neither a dict nor a list.

    Example:
        >>> from opentelemetry import baggage, context
        >>> from plait.observability import propagation
        >>> headers = {"accept": "*/*"}
        >>> token = context.attach(baggage.set_baggage("tenant", "acme"))
        >>> propagation.inject(headers)
        >>> context.detach(token)
        >>> headers
        {'accept': '*/*', 'baggage': 'tenant=acme'}
    """
    from opentelemetry import propagate

    found: dict[str, str] = {}
    propagate.inject(found)
    if isinstance(carrier, MutableMapping):
        carrier.update(found)
    elif isinstance(carrier, MutableSequence):
        pairs: Any = carrier
        for name, value in found.items():
            pairs.append((name.encode() if as_bytes else name, value.encode()))
    else:
        msg = f"carrier={carrier!r} must be a dict of headers, or a list of pairs"
        raise TypeError(msg)


def extract(carrier: Incoming) -> Context:
    """The trace and baggage that came with what was received, for `parent_span=` of a context.

    They hold in the context's run where traces are set up; `attached` needs no setup.

    Args:
        carrier: The headers: a dict, or pairs of name and value, each str or bytes. Names are
            compared without regard to case.

    Returns:
        The current context of OpenTelemetry with them in it. What is not well-formed is left out.

    Example:
        >>> from plait import WorkflowContext, step
        >>> from plait.observability import propagation
        >>> headers = [(b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
        >>> context = WorkflowContext(parent_span=propagation.extract(headers))
        >>> step(len).run_sync("plait", context)
        5
    """
    from opentelemetry import propagate

    pairs: Any = carrier.items() if isinstance(carrier, Mapping) else carrier
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        # Headers may come several times, and mean one list: RFC 9110, section 5.3.
        found.setdefault(_text(name).lower(), []).append(_text(value))
    return propagate.extract({name: ",".join(values) for name, values in found.items()})


@contextmanager
def attached(carrier: Incoming) -> Generator[None]:
    """Make the trace and baggage that came with what was received the current ones.

    Args:
        carrier: As in `extract`.

    Example:
        >>> from opentelemetry import baggage
        >>> from plait.observability import propagation
        >>> with propagation.attached({"baggage": "tenant=acme"}):
        ...     baggage.get_baggage("tenant")
        'acme'
    """
    from opentelemetry.context import attach, detach

    token = attach(extract(carrier))
    try:
        yield
    finally:
        detach(token)


def _text(value: Text) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
