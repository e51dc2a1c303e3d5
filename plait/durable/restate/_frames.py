"""The form in which things are handed to Restate: JSON that says of itself what it is.

`{"$plait":{"kind":"value","at":1700000000.5,"size":4},"data":null,"payload":42}` has two payloads
of a codec's, of which the head gives the length of the first. With a codec that encrypts, they are
text that is not JSON.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

_HEAD, _DATA, _PAYLOAD, _END = b'{"$plait":', b',"data":', b',"payload":', b"}"
_NOTHING = b"null"
_json = json.JSONEncoder(separators=(",", ":")).encode


class Frame(NamedTuple):
    """Something that is handed to Restate.

    Attributes:
        head: What it is.
        payload: Its payload, as a codec encoded it.
        data: What goes with it, as a codec encoded it; None where nothing does.
    """

    head: dict[str, Any]
    payload: bytes
    data: bytes | None = None

    def encoded(self) -> bytes:
        """The frame as bytes."""
        data = _NOTHING if self.data is None else self.data
        head = _json({**self.head, "size": len(data)}).encode()
        return b"".join((_HEAD, head, _DATA, data, _PAYLOAD, self.payload, _END))

    @classmethod
    def of(cls, body: bytes) -> Frame | None:
        """The frame that was encoded; None where something else was.

        Raises:
            ValueError: It is damaged.
        """
        if not body.startswith(_HEAD):
            return None
        # A quote in a string of JSON is escaped: there is none like this one in the head.
        end = body.index(_DATA)
        head = json.loads(body[len(_HEAD) : end])
        start = end + len(_DATA)
        middle = start + head.pop("size")
        data = body[start:middle]
        payload = body[middle + len(_PAYLOAD) : -len(_END)]
        return cls(head, payload, None if data == _NOTHING else data)
