"""The row of a run, alike in every journal that is a database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from plait.durable._stored import NewRun, StoredRun

if TYPE_CHECKING:
    from collections.abc import Iterable

    from plait.durable._stored import Wait

COLUMNS = (
    "key, status, updated, outcome, failures, runner, is_cancelled, progress, run_id, workflow,"
    " digest, input, context, created, metadata, due, queue, priority, parent"
)


def stored_run(row: tuple[Any, ...], waits: Iterable[Wait], runner: int) -> StoredRun:
    """What is known of the run that a row is about.

    Args:
        row: The values of `COLUMNS`.
        waits: What the run waits for.
        runner: Who asks.
    """
    key, status, updated, outcome, failures, owner, is_cancelled, progress, *start = row
    return StoredRun(
        key,
        NewRun(*start),
        status,
        updated,
        outcome,
        () if failures == "[]" else tuple(json.loads(failures)),
        is_claimed=owner == runner,
        is_cancelled=bool(is_cancelled),
        waits=tuple(waits),
        progress=progress,
    )
