"""A FastAPI service: a route that answers from a workflow, and others that steer durable runs.

    uv run examples/fastapi_service.py
    uv run uvicorn --app-dir examples fastapi_service:service

The first command asks the service in its own process and prints what it says. The second serves it:
see http://127.0.0.1:8000/docs, and http://127.0.0.1:8000/runs/ for the dashboard.

What to look at:

- `lifespan` enters the runner, and with it carries on what an earlier process left. The routes
  find it in `service.state`.
- `quote` is awaited in its route as any function is: no runner, no journal. What it raises becomes
  a status: too many at once is 429, with `Retry-After`.
- `place_order` answers 202 as soon as the run is in the journal. The id of the order is the id of
  the run, so that a client may send the same order twice.
- `approve` sends the signal that the run waits for, days later if need be. FastAPI has checked it.
- `plait.server` is mounted beside all that, with its own API and dashboard.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

import anyio
import httpx
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from plait import (
    CachePrimitive,
    ConcurrencyLimitPrimitive,
    RejectedError,
    RetryPrimitive,
    TimeoutPrimitive,
    WorkflowContext,
    step,
    workflow,
)
from plait.durable import DurableRunner, RunConflictError, RunNotFoundError
from plait.server import app

journal = "sqlite:///service.db"


class Order(BaseModel):
    item: str
    count: Annotated[int, Field(gt=0)]


class Decision(BaseModel):
    approved: bool
    by: str


@step
async def look_up_price(item: str) -> int:
    await anyio.sleep(0.05)  # a catalogue that is far away
    return 14 * len(item)


@step
async def charge(total: int, context: WorkflowContext) -> str:
    return f"charged {total} under {context.idempotency_key}"


quote = CachePrimitive(
    ConcurrencyLimitPrimitive(TimeoutPrimitive(look_up_price, 2), 1, max_queue=0), ttl_seconds=60
)
patient_charge = RetryPrimitive(charge)


@workflow
async def order(wanted: Order, context: WorkflowContext) -> str:
    total = wanted.count * await look_up_price(wanted.item)
    await context.set_event("total", total)
    decision = await context.wait_for("decision", Decision, timeout=7 * 24 * 3600)
    if not decision.approved:
        return f"{decision.by} refused {total}"
    return await patient_charge(total)


@asynccontextmanager
async def lifespan(service: FastAPI) -> AsyncGenerator[None]:
    runner = DurableRunner(journal, workflows=[order], suspend_after=0.1)
    async with runner:
        service.state.runner = runner
        service.mount("/runs", app(runner))
        yield


service = FastAPI(title="Shop", lifespan=lifespan)


def runner_of(request: Request) -> DurableRunner:
    runner = request.app.state.runner
    assert isinstance(runner, DurableRunner)
    return runner


@service.exception_handler(RejectedError)
async def tell_to_wait(_: Request, error: Exception) -> Response:
    assert isinstance(error, RejectedError)
    seconds = max(1, round(error.retry_after or 0))
    return JSONResponse({"detail": str(error)}, 429, {"Retry-After": str(seconds)})


@service.exception_handler(RunNotFoundError)
async def tell_that_there_is_none(_: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 404)


@service.get("/prices/{item}")
async def price_of(item: str) -> int:
    return await quote(item)


@service.put("/orders/{order_id}", status_code=202)
async def place_order(order_id: str, wanted: Order, request: Request) -> dict[str, int]:
    try:
        run = await runner_of(request).start(order, wanted, run_id=order_id)
    except RunConflictError as error:
        raise HTTPException(409, f"{order_id} is another order") from error
    total = await run.event("total")
    assert isinstance(total, int)
    return {"total": total}


@service.get("/orders/{order_id}")
async def state_of(order_id: str, request: Request) -> dict[str, str]:
    run = await runner_of(request).get(order_id)
    with anyio.move_on_after(5):  # hold the answer back a little, rather than be asked again
        return {"status": "completed", "result": await run.result()}
    return {"status": (await run.info()).status, "result": ""}


@service.post("/orders/{order_id}/decision", status_code=204)
async def approve(order_id: str, decision: Decision, request: Request) -> None:
    await runner_of(request).signal(order_id, "decision", decision)


async def main() -> None:
    transport = httpx.ASGITransport(service)
    async with (
        service.router.lifespan_context(service),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        print("price:", (await client.get("/prices/lamp")).json())
        crowd: list[int] = []

        async def ask(item: str) -> None:
            crowd.append((await client.get(f"/prices/{item}")).status_code)

        async with anyio.create_task_group() as tasks:
            for item in ("tea", "book"):
                tasks.start_soon(ask, item)
        print("two at once:", *sorted(crowd))

        lamps = {"item": "lamp", "count": 2}
        print("order:", (await client.put("/orders/o-1", json=lamps)).json())
        print("again:", (await client.put("/orders/o-1", json=lamps)).status_code)
        other = await client.put("/orders/o-1", json=lamps | {"count": 3})
        print("another one of that id:", other.status_code)
        print("none at all:", (await client.put("/orders/o-2", json={"item": "lamp"})).status_code)
        print("there is no o-9:", (await client.get("/orders/o-9")).status_code)

        await client.post("/orders/o-1/decision", json={"approved": True, "by": "ada"})
        print("order:", (await client.get("/orders/o-1")).json()["result"])
        (seen,) = (await client.get("/runs/api/runs")).json()["runs"]
        print("the mounted server knows it:", seen["run_id"], seen["status"])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        journal = f"sqlite:///{folder}/service.db"
        anyio.run(main)
