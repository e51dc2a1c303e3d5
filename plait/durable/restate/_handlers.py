"""What a Restate server calls of a workflow."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from restate import TerminalError, select
from restate import WorkflowContext as RestateContext
from restate import WorkflowSharedContext as SharedContext

from plait.durable._codec import encode_error
from plait.durable._errors import RunCancelledError
from plait.durable._types import input_adapter
from plait.durable.restate._driver import Driver
from plait.durable.restate._frames import Frame
from plait.durable.restate._messages import BYTES, event_name, signal_name
from plait.durable.restate._once import Once
from plait.durable.restate._runtime import RestateRuntime
from plait.primitives import SerializationError, WorkflowContext
from plait.primitives._errors import Abort

if TYPE_CHECKING:
    from plait.durable._codec import Codec
    from plait.primitives import WorkflowPrimitive

LOCATE = "locate"
"""The kind of a call that starts nothing, as its answer tells which invocation the run is."""
ERROR = "plait-error"
"""Where a failure, which Restate knows in words, has the error itself."""
CONFLICT, TIMED_OUT, _REFUSED, _FAILED = 409, 408, 400, 500


class Handlers:
    """The handlers of one workflow's service.

    Args:
        workflow: The workflow.
        codec: How values are encoded.
    """

    def __init__(self, workflow: WorkflowPrimitive[Any, Any], codec: Codec) -> None:
        self._workflow = workflow
        self._codec = codec
        self._once = Once()
        self._input = input_adapter(workflow)

    async def run(self, restate: RestateContext, body: bytes) -> bytes:
        """Execute a run, from its beginning each time that Restate carries it on."""
        start = Frame.of(body) or await self._plain_start(restate, body)
        if start.head["kind"] == LOCATE:
            msg = f"there is no run {restate.key()!r}"
            raise TerminalError(msg, _REFUSED)
        shared = {} if start.data is None else self._codec.decode(start.data)
        origin = shared.pop("origin", None)
        context = WorkflowContext(workflow_id=self._workflow.name, parent_span=origin, **shared)
        driver = Driver()
        context._run.run_id = restate.key()
        context._runtime = RestateRuntime(
            restate,
            driver,
            self._codec,
            self._once,
            started=start.head["at"],
            data=context.data,
            inner=context._runtime,
        )
        input_data = self._codec.decode(start.payload)
        error: BaseException | None
        try:
            result, error = await driver.run(self._workflow.execute(input_data, context))
        except Abort as abort:
            error = abort
            result = None
        if error is None:
            return self._result(result)
        if isinstance(error, asyncio.CancelledError):
            raise self._failure(RunCancelledError(restate.key()), CONFLICT) from None
        if isinstance(error, Exception):
            raise self._failure(error, _FAILED) from error
        # The run is left as it is: what is wrong may be mended.
        raise error.error if isinstance(error, Abort) else error

    async def signal(self, restate: SharedContext, body: bytes) -> bytes:
        """Keep a signal for the run: in the first promise of its name that holds none."""
        sent = Frame.of(body) or self._plain_signal(body)
        name, number = sent.head["name"], 0
        message = Frame({"at": await restate.time()}, sent.payload).encoded()
        while True:
            promise = restate.promise(signal_name(name, number), BYTES)
            if await promise.peek() is None:
                try:
                    await promise.resolve(message)
                    return b""
                except TerminalError as error:
                    # Another one came first. Anything else is how this call ends.
                    if error.status_code != CONFLICT or error.message == "cancelled":
                        raise
            number += 1

    async def event(self, restate: SharedContext, body: bytes) -> bytes:
        """Wait for an event that the run sets, and return its value."""
        wanted = json.loads(body)
        name, timeout = event_name(wanted["name"]), wanted.get("timeout")
        value: bytes | None = await restate.get(name, BYTES)
        if value is not None:
            return value
        promised = restate.promise(name, BYTES).value()
        if timeout is None:
            return bytes(await promised)
        what, told = await select(event=promised, over=restate.sleep(timedelta(seconds=timeout)))
        if what == "over":
            msg = f"run {restate.key()!r} set no event {wanted['name']!r} within {timeout:g} s"
            raise TerminalError(msg, TIMED_OUT)
        return bytes(told)

    async def cancel(self, restate: SharedContext, body: bytes) -> bytes:
        """Cancel the invocation that the run is."""
        restate.cancel_invocation(json.loads(body))
        return b""

    def _result(self, result: Any) -> bytes:
        try:
            return self._codec.encode(result, self._workflow)
        except SerializationError as error:
            raise self._failure(error, _FAILED) from error

    def _failure(self, error: Exception, code: int) -> TerminalError:
        notes: list[str] = getattr(error, "__notes__", [])
        message = "\n".join([f"{type(error).__name__}: {error}", *notes])
        recorded = encode_error(self._codec, error).decode()
        return TerminalError(message, code, metadata={ERROR: recorded})

    async def _plain_start(self, restate: RestateContext, body: bytes) -> Frame:
        """A start by somebody who knows nothing of frames: the input as JSON."""
        try:
            input_data = self._input.validate_json(body or b"null")
        except ValidationError as error:
            msg = f"the input does not fit {self._workflow.name!r}: {error}"
            raise TerminalError(msg, _REFUSED) from None
        head = {"kind": "start", "at": await restate.time()}
        return Frame(head, self._codec.encode(input_data))

    def _plain_signal(self, body: bytes) -> Frame:
        """A signal as JSON: `{"name": ..., "payload": ...}`."""
        try:
            sent = json.loads(body)
            return Frame({"name": str(sent["name"])}, self._codec.encode(sent.get("payload")))
        except (ValueError, TypeError, LookupError):
            msg = 'a signal is an object such as {"name": "approved", "payload": true}'
            raise TerminalError(msg, _REFUSED) from None
