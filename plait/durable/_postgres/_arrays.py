"""Whole columns as one parameter each, in PostgreSQL's own form.

A batch is one statement with an array for each column. Packed here, a row costs a microsecond;
value by value it costs the driver ten.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from psycopg.adapt import Dumper
from psycopg.pq import Format

if TYPE_CHECKING:
    from psycopg import AsyncConnection

_HEAD = struct.Struct("!5i")
_LENGTH = struct.Struct("!i")
_BIGINT = struct.Struct("!iq")
_FLOAT = struct.Struct("!id")
_NULL = _LENGTH.pack(-1)


class Column:
    """The values of one column.

    Args:
        values: Each already encoded, its length first.
    """

    element: ClassVar[int]
    oid: ClassVar[int]

    def __init__(self, values: Sequence[bytes]) -> None:
        head = _HEAD.pack(1, 1, self.element, len(values), 1)
        self.data = head + b"".join(values)


class Bigints(Column):
    """A `bigint[]`."""

    element, oid = 20, 1016

    def __init__(self, values: Iterable[int | None]) -> None:
        pack = _BIGINT.pack
        try:
            super().__init__([_NULL if v is None else pack(8, v) for v in values])
        except struct.error as error:
            msg = "a number is too large for the journal, which keeps 64 bits"
            raise ValueError(msg) from error


class Floats(Column):
    """A `float8[]`."""

    element, oid = 701, 1022

    def __init__(self, values: Iterable[float | None]) -> None:
        pack = _FLOAT.pack
        super().__init__([_NULL if v is None else pack(8, v) for v in values])


class Blobs(Column):
    """A `bytea[]`."""

    element, oid = 17, 1001

    def __init__(self, values: Iterable[bytes | None]) -> None:
        pack = _LENGTH.pack
        super().__init__([_NULL if v is None else pack(len(v)) + v for v in values])


class Texts(Column):
    """A `text[]`."""

    element, oid = 25, 1009

    def __init__(self, values: Iterable[str | None]) -> None:
        pack, encoded = _LENGTH.pack, [None if v is None else v.encode() for v in values]
        super().__init__([_NULL if v is None else pack(len(v)) + v for v in encoded])


class _ColumnDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Column) -> bytes:
        return obj.data


def register(connection: AsyncConnection) -> None:
    """Have a connection take columns as parameters."""
    for kind in (Bigints, Floats, Blobs, Texts):
        dumper = type(f"{kind.__name__}Dumper", (_ColumnDumper,), {"oid": kind.oid})
        connection.adapters.register_dumper(kind, dumper)
