"""Asking a journal, which others may use meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import anyio

from plait.cli._loading import client_at
from plait.durable._opened import opened

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from plait.durable._client import RunClient

T = TypeVar("T")


def ask(
    question: Callable[[RunClient], Awaitable[T]],
    journal: str,
    application: Sequence[str] | None = None,
) -> T:
    """Open a journal that is there for one question.

    Args:
        question: Is given what looks at its runs.
        journal: The journal's address.
        application: Workflows, or a runner, whose journal it then is.

    Raises:
        CommandError: There is none.
    """
    client = client_at(journal, application or ())

    async def main() -> T:
        async with opened(client._journal):
            return await question(client)

    return anyio.run(main)
