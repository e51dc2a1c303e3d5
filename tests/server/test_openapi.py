"""The OpenAPI document, and whether the endpoints are as it says."""

import os
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import schemathesis
import shop
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from plait import MapPrimitive, ParallelPrimitive, WorkflowPrimitive, step
from plait.durable import DurableRunner, MemoryJournal
from plait.durable._types import input_type
from plait.server import app

SECRET = "a secret of the sender"


@pytest.mark.anyio
async def test_it_says_what_each_workflow_takes_and_returns(serving, tokens):
    async with serving(tokens=tokens, title="Tea shop") as site:
        document = (await site.client.get("/api/openapi.json")).json()
        assert (document["openapi"], document["info"]["title"]) == ("3.1.0", "Tea shop")
        start = document["paths"]["/api/workflows/orders/runs"]["post"]
        body = start["requestBody"]["content"]["application/json"]["schema"]
        order = document["components"]["schemas"][body["$ref"].rpartition("/")[2]]
        assert order["required"] == ["item", "total"]
        assert start["security"] == [{"token": []}]
        review = document["paths"]["/api/workflows/review/runs"]["post"]
        result = review["responses"]["200"]["content"]["application/json"]["schema"]
        assert result["allOf"][1]["properties"]["result"]["anyOf"][0] == {"type": "string"}
        assert "/webhooks/{webhook}" not in document["paths"]
        assert "security" not in document["paths"]["/health"]["get"]


@pytest.mark.anyio
async def test_it_is_mounted_in_another_application():
    runner = DurableRunner(MemoryJournal(), workflows=[shop.double])
    mounted = app(runner)

    @asynccontextmanager
    async def lifespan(_):
        async with runner:
            yield

    outer = FastAPI(lifespan=lifespan)
    outer.mount("/plait", mounted)
    transport = httpx.ASGITransport(outer)
    async with (
        runner,
        httpx.AsyncClient(transport=transport, base_url="http://localhost/plait") as client,
    ):
        done = await client.post(
            "/api/workflows/double/runs",
            json=2,
            headers={"Prefer": "wait=5", "Idempotency-Key": "a"},
        )
        assert (done.json()["result"], done.headers["Location"]) == (4, "/plait/api/runs/a")
        await runner.run(shop.double, 1, run_id="x/y")
        assert (await client.get("/api/runs/x%2Fy")).json()["run_id"] == "x/y"
        page = await client.get("/")
        assert 'href="/plait/static/style.css"' in page.text
        assert "path=/plait" in page.headers["Set-Cookie"].lower()
        assert (await client.get("/static/style.css")).status_code == 200
        document = (await client.get("/api/openapi.json")).json()
        assert document["servers"] == [{"url": "/plait"}]
        async with mounted.router.lifespan_context(mounted):
            assert not mounted.site.is_draining


@pytest.mark.anyio
async def test_served_by_itself_it_enters_its_runner():
    runner = DurableRunner(MemoryJournal(), workflows=[shop.double])
    alone = app(runner)
    async with alone.router.lifespan_context(alone):
        assert await runner.run(shop.double, 1) == 2
    assert alone.site.is_draining


def test_types_are_found_as_far_as_they_are_said():
    class Own(WorkflowPrimitive[int, str]):
        async def execute(self, input_data: int, context: object) -> str:
            return str(input_data)

    @step
    async def nothing() -> int:
        return 1

    assert input_type(MapPrimitive(shop.double)) == list[int]
    assert input_type(ParallelPrimitive((shop.double, shop.flaky))) is int
    assert input_type(nothing) is type(None)
    assert input_type(Own()) is int
    assert str(input_type(step(len))) == "typing.Any"


@pytest.mark.anyio
async def test_a_type_that_has_no_schema_takes_any_json(tmp_path):
    class Odd:
        pass

    @step
    async def odd(thing: Odd) -> Odd:
        return thing

    runner = DurableRunner(MemoryJournal(), workflows=[odd])
    async with runner:
        transport = httpx.ASGITransport(app(runner))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            document = (await client.get("/api/openapi.json")).json()
            schema = document["paths"]["/api/workflows/odd/runs"]["post"]["requestBody"]
            assert schema["content"]["application/json"]["schema"] == {}


@pytest.fixture(scope="module")
def address():
    """A server for schemathesis; its address."""
    here = Path(__file__).parent
    process = subprocess.Popen(
        [sys.executable, str(here / "described.py")],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process.stdout.readline().strip()
        process.terminate()
        assert process.wait(timeout=60) == 0


CASES = int(os.environ.get("PLAIT_SCHEMA_CASES", "10"))


def test_every_endpoint_is_as_described(address):
    document = httpx.get(f"{address}/api/openapi.json").json()
    # A stream answers until its run has ended, and no schema says what is in it.
    document["paths"].pop("/api/runs/{run_id}/stream")
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=address)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == len(shop.WORKFLOWS) + 13
    for operation in operations:
        # What a signal, an event or a message may bring depends on who takes it.
        takes_any = any(part in operation.path for part in ("/events", "/webhooks", "/signals"))
        excluded = [positive_data_acceptance] if takes_any else []
        _hold(operation, excluded)


def _hold(operation, excluded):
    """Hold an endpoint's answers against what is documented of it."""

    @settings(
        max_examples=CASES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def every_answer_is_documented(case):
        case.call_and_validate(excluded_checks=excluded)

    every_answer_is_documented()
