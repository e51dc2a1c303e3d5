"""Starts runs on a Restate server, and asks and tells it of them."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar
from urllib.parse import quote

import anyio
import httpx

from plait.durable._codec import JsonCodec
from plait.durable._errors import JournalError, RunEndedError, RunNotFoundError
from plait.durable.restate._connections import Connections
from plait.durable.restate._frames import Frame
from plait.durable.restate._handlers import CONFLICT, ERROR, LOCATE, TIMED_OUT
from plait.primitives import RecordedError, StepTimeoutError, WorkflowContext
from plait.primitives._decorators import as_primitive

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from plait.durable._codec import Codec
    from plait.primitives import WorkflowPrimitive

In = TypeVar("In")
Out = TypeVar("Out")

_NOT_FOUND, _NOT_READY = 404, 470
_AGAIN_SECONDS = 0.2
"""How long to wait before a server is asked again that did not answer."""


class RestateClient:
    """Starts runs of workflows on a Restate server, and finds them again.

    Used as `async with`, on any event loop.

    Args:
        ingress_url: Where the server takes calls, such as `"http://localhost:8080"`.
        codec: How values are encoded: as the application that executes the runs does.
        headers: What is sent with each request, such as an authorization.
        patience_seconds: How long to ask a server again that does not answer.

    Example:
        >>> from plait import step
        >>> from plait.durable.restate import RestateClient
        >>> @step
        ... async def orders(order: int) -> str:
        ...     return f"charged {order}"
        >>> async def main() -> str:
        ...     async with RestateClient("http://localhost:8080") as client:
        ...         run = await client.start(orders, 42, run_id="order-42")
        ...         return await run.result()
    """

    def __init__(
        self,
        ingress_url: str,
        *,
        codec: Codec | None = None,
        headers: Mapping[str, str] | None = None,
        patience_seconds: float = 30,
    ) -> None:
        self._codec = codec or JsonCodec()
        self._patience = patience_seconds
        self._connections = Connections(ingress_url, headers or {})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._connections.close()

    async def start(
        self,
        workflow: WorkflowPrimitive[In, Out],
        input_data: In,
        *,
        run_id: str | None = None,
        data: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        correlation_id: str | None = None,
    ) -> RestateRun[Out]:
        """Start a run, or attach to the one that has the id already.

        Args:
            workflow: What to execute.
            input_data: Its input. A run that is there already keeps its own.
            run_id: The run's id, which makes starting it twice the same as once; new where none is
                given.
            data: What the run's `context.data` starts with.
            metadata: Facts about the run for spans and logs.
            correlation_id: Ties the run to a request or message of the application's own.

        Raises:
            SerializationError: The input, `data` or `metadata` has no encoded form.
            JournalError: The server does not answer, or does not know the workflow.
        """
        run: RestateRun[Out] = self.get(as_primitive(workflow), run_id or uuid.uuid4().hex)
        start = self._start(input_data, data, metadata, correlation_id)
        self._expect_ok(await self._post(run, "run/send", start))
        return run

    async def run(
        self,
        workflow: WorkflowPrimitive[In, Out],
        input_data: In,
        *,
        run_id: str | None = None,
        data: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        correlation_id: str | None = None,
    ) -> Out:
        """Start a run, or attach to it, and wait for its result: `start`, then `result`."""
        run: RestateRun[Out] = self.get(as_primitive(workflow), run_id or uuid.uuid4().hex)
        start = self._start(input_data, data, metadata, correlation_id)
        answer = await self._post(run, "run", start)
        if answer.status_code == CONFLICT and self._recorded_error(answer) is None:
            return await run.result()
        return run._result_in(answer)

    def get(self, workflow: WorkflowPrimitive[Any, Out], run_id: str) -> RestateRun[Out]:
        """A run of a workflow, by its id; whether it is there, asking it tells."""
        return RestateRun(self, workflow, run_id)

    def _start(
        self,
        input_data: object,
        data: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
        correlation_id: str | None,
    ) -> bytes:
        runtime = WorkflowContext()._runtime
        shared = {
            "data": dict(data or {}),
            "metadata": dict(metadata or {}),
            "correlation_id": correlation_id,
            "origin": {} if runtime is None else runtime.carrier(),
        }
        given = {name: value for name, value in shared.items() if value}
        return Frame(
            {"kind": "start", "at": time.time()},
            self._codec.encode(input_data),
            self._codec.encode(given) if given else None,
        ).encoded()

    async def _post(
        self, run: RestateRun[Any], handler: str, body: bytes, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Call a handler; one that is called again after an answer was lost does nothing twice."""
        address = f"/{quote(run._workflow.name)}/{quote(run.run_id, safe='')}/{handler}"
        headers = {"content-type": "application/json", **(headers or {})}
        return await self._ask("POST", address, content=body, headers=headers)

    async def _get(self, run: RestateRun[Any], what: str) -> httpx.Response:
        name, run_id = quote(run._workflow.name), quote(run.run_id, safe="")
        return await self._ask("GET", f"/restate/workflow/{name}/{run_id}/{what}")

    async def _ask(self, method: str, address: str, **options: Any) -> httpx.Response:
        until = anyio.current_time() + self._patience
        while True:
            try:
                return await self._connections.request(method, address, **options)
            except httpx.TransportError as error:
                if anyio.current_time() > until:
                    msg = f"no answer from the Restate server at {self._connections.url}: {error!r}"
                    raise JournalError(msg) from error
                await anyio.sleep(_AGAIN_SECONDS)

    def _expect_ok(self, answer: httpx.Response) -> bytes:
        """What was answered; raises the error that it tells of."""
        if answer.is_success:
            return answer.content
        recorded = self._recorded_error(answer)
        if recorded is not None:
            raise recorded
        message = _told(answer)["message"]
        if answer.headers.get("x-restate-error-source") == "invocation":
            raise RecordedError("restate:TerminalError", message)
        msg = f"the Restate server answers {answer.status_code}: {message}"
        raise JournalError(msg)

    def _recorded_error(self, answer: httpx.Response) -> Exception | None:
        """What the workflow raised, where the answer tells of that."""
        recorded = _told(answer).get("metadata", {}).get(ERROR)
        if recorded is None:
            return None
        error: Exception = self._codec.decode(recorded.encode())
        return error


class RestateRun(Generic[Out]):
    """A run on a Restate server.

    Attributes:
        run_id: Its id.
    """

    def __init__(
        self, client: RestateClient, workflow: WorkflowPrimitive[Any, Out], run_id: str
    ) -> None:
        self.run_id = run_id
        self._client = client
        self._workflow = workflow

    def __repr__(self) -> str:
        return f"<RestateRun {self._workflow.name}/{self.run_id!r}>"

    async def result(self) -> Out:
        """Wait until the run has ended, and return what its workflow returned.

        Raises:
            RunNotFoundError: There is no such run, or it is not kept any more.
            RunCancelledError: The run was cancelled.
            JournalError: The server does not answer.
            Exception: What the workflow raised, as its own type where that can be built again,
                else a `RecordedError`.
        """
        answer = await self._client._get(self, "attach")
        self._refuse_unknown(answer)
        return self._result_in(answer)

    async def signal(
        self, name: str, payload: object = None, *, signal_id: str | None = None
    ) -> None:
        """Send the run a signal, which is kept until it waits for it.

        Args:
            name: The signal's name.
            payload: What it brings.
            signal_id: Makes sending it twice the same as once.

        Raises:
            RunNotFoundError: There is no such run.
            RunEndedError: It has ended.
            SerializationError: The payload has no encoded form.
            JournalError: The server does not answer.
        """
        sent = Frame({"name": name}, self._client._codec.encode(payload))
        if await self._has_ended():
            msg = f"run {self.run_id!r} has ended, and takes no signal {name!r} any more"
            raise RunEndedError(msg)
        # Where the answer is lost, it is sent again, and must not arrive twice.
        headers = {"idempotency-key": f"signal {signal_id or uuid.uuid4().hex}"}
        answer = await self._client._post(self, "signal", sent.encoded(), headers)
        self._client._expect_ok(answer)

    async def event(self, name: str, *, timeout: float | None = None) -> Any:
        """Wait for an event that the run sets, and return its value.

        Args:
            name: The event's name.
            timeout: How long to wait, in seconds.

        Raises:
            StepTimeoutError: It was not set in time.
            RunNotFoundError: There is no such run.
            JournalError: The server does not answer.
        """
        await self._has_ended()
        wanted = json.dumps({"name": name, "timeout": timeout}).encode()
        answer = await self._client._post(self, "event", wanted)
        if answer.status_code == TIMED_OUT and timeout is not None:
            raise StepTimeoutError(answer.json()["message"], timeout)
        return self._client._codec.decode(self._client._expect_ok(answer))

    async def cancel(self) -> bool:
        """Ask the run to stop: its steps are cancelled, and its compensations run.

        Returns:
            Whether it had not ended yet.

        Raises:
            RunNotFoundError: There is no such run.
            JournalError: The server does not answer.
        """
        if await self._has_ended():
            return False
        locate = Frame({"kind": LOCATE}, b"null").encoded()
        found = self._client._expect_ok(await self._client._post(self, "run/send", locate))
        invocation = json.dumps(json.loads(found)["invocationId"]).encode()
        self._client._expect_ok(await self._client._post(self, "cancel", invocation))
        return True

    def _result_in(self, answer: httpx.Response) -> Out:
        payload = self._client._expect_ok(answer)
        result: Out = self._client._codec.decode(payload, self._workflow)
        return result

    async def _has_ended(self) -> bool:
        answer = await self._client._get(self, "output")
        self._refuse_unknown(answer)
        return answer.status_code != _NOT_READY

    def _refuse_unknown(self, answer: httpx.Response) -> None:
        if answer.status_code == _NOT_FOUND:
            msg = f"there is no run {self.run_id!r} of {self._workflow.name!r}"
            raise RunNotFoundError(msg)


def _told(answer: httpx.Response) -> dict[str, Any]:
    """What Restate says of a failure; what is between it and here may say anything."""
    try:
        told = answer.json()
    except ValueError:
        told = None
    return told if isinstance(told, dict) and "message" in told else {"message": answer.text}
