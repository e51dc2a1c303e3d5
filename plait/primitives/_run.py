"""What all the nodes of one run share."""

from __future__ import annotations

from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import anyio

from plait.primitives._outside import Outside

if TYPE_CHECKING:
    from collections.abc import Mapping

_NO_METADATA: Mapping[str, Any] = MappingProxyType({})


class Run:
    """What all the contexts of one run share."""

    __slots__ = (
        "_outside",
        "correlation_id",
        "data",
        "metadata",
        "parent_span",
        "randoms",
        "run_id",
        "workflow_id",
    )

    def __init__(
        self,
        correlation_id: str | None,
        workflow_id: str | None,
        data: dict[str, Any] | None,
        metadata: Mapping[str, Any] | None,
        parent_span: object,
    ) -> None:
        self.correlation_id = correlation_id
        self.workflow_id = workflow_id
        self.data = {} if data is None else data
        self.metadata = MappingProxyType(dict(metadata)) if metadata else _NO_METADATA
        self.parent_span = parent_span
        self.run_id: str | None = None
        self.randoms: dict[str, Random] = {}
        self._outside: Outside | None = None

    @property
    def outside(self) -> Outside:
        """Its signals, events and entities where no durable runner keeps them."""
        if self._outside is None:
            self._outside = Outside(anyio.Event)
        return self._outside
