"""Runs are started, listed and looked at over HTTP."""

from urllib.parse import quote

import anyio
import httpx
import pytest
import shop

from plait.durable import DurableRunner, JsonCodec, MemoryJournal, StepInterruptedError
from plait.server import app

pytestmark = pytest.mark.anyio


async def test_a_run_is_started_and_its_result_waited_for(serving):
    async with serving() as site:
        answer = await site.start("double", 21, run_id="run-1", wait=10)
        assert answer.status_code == 200
        assert answer.headers["Preference-Applied"] == "wait=10"
        assert answer.headers["Location"] == "/api/runs/run-1"
        assert (answer.json()["status"], answer.json()["result"]) == ("completed", 42)
        assert (await site.client.get("/api/runs/run-1/result")).json() == 42
        assert (await site.client.get("/api/runs/run-1")).json() == answer.json()


async def test_a_run_is_started_and_polled(serving):
    async with serving() as site:
        answer = await site.start("orders", {"item": "tea", "total": 42}, run_id="order-42")
        assert answer.status_code == 202
        address = answer.headers["Location"]
        going_on = await site.client.get(f"{address}/result")
        assert (going_on.status_code, going_on.headers["Retry-After"]) == (202, "1")
        await site.client.post(f"{address}/signals/approved", json=True)
        done = await site.client.get(f"{address}/result", headers={"Prefer": "wait=10"})
        assert (done.status_code, done.json()) == (200, "42 approved")


async def test_waiting_ends_after_the_time_that_was_asked_for(serving):
    async with serving() as site:
        answer = await site.start("orders", {"item": "tea", "total": 1}, wait=1)
        assert answer.status_code == 202
        run_id = answer.json()["run_id"]
        found = await site.client.get(f"/api/runs/{run_id}", headers={"Prefer": 'x, wait="1"; y'})
        assert found.json()["waits"][0]["signal"] == "approved"
        odd = await site.client.get(f"/api/runs/{run_id}", headers={"Prefer": "wait=long"})
        assert odd.json()["status"] == "waiting"


async def test_an_idempotency_key_is_the_id_of_one_run(serving):
    async with serving() as site:
        first = await site.start("double", 1, run_id='"key-1"', wait=5)
        again = await site.start("double", 1, run_id="key-1", wait=5)
        assert first.json() == again.json()
        other = await site.start("double", 2, run_id="key-1")
        assert (other.status_code, other.json()["type"]) == (409, "urn:plait:problem:run-conflict")
        elsewhere = await site.start("counting", 1, run_id="key-1")
        assert elsewhere.status_code == 409
        assert len((await site.client.get("/api/runs")).json()["runs"]) == 1


@pytest.mark.parametrize("key", ["..", ".", "a/b", "a b", "", "x" * 201, '""', "é"])
async def test_a_key_that_no_address_can_hold_is_refused(serving, key):
    async with serving() as site:
        headers = [(b"Idempotency-Key", key.encode())]
        answer = await site.client.post("/api/workflows/double/runs", json=1, headers=headers)
        assert answer.status_code == 400


async def test_a_failed_run_says_why(serving):
    shop.is_down[0] = True
    async with serving() as site:
        failed = (await site.start("counting", 1, run_id="c", wait=5)).json()
        assert (failed["status"], failed["error"]["type"]) == ("failed", "ConnectionError")
        assert "counting/2:flaky" in failed["error"]["notes"][0]
        answer = await site.client.get("/api/runs/c/result")
        assert (answer.status_code, answer.json()["error"]["message"]) == (409, "it is down")
        assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"item": "tea", "total": "42"}', 422),
        ('{"item": "tea"}', 422),
        ("3", 422),
        ("", 422),
        ("{", 400),
        ('{"item": "tea", "total": NaN}', 400),
        ('"\\ud800"', 400),
        ("[" * 5000, 400),
        (b"\xff\xfe", 400),
        (b"\x00", 400),
    ],
)
async def test_an_input_of_another_form_is_refused(serving, body, status):
    async with serving() as site:
        headers = {"Content-Type": "application/json"}
        answer = await site.client.post("/api/workflows/orders/runs", content=body, headers=headers)
        assert answer.status_code == status
        assert answer.json()["status"] == status
        assert await site.runner.list() == []


async def test_a_body_that_a_page_of_another_site_could_send_is_refused(serving):
    async with serving() as site:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            answer = await site.client.post(
                "/api/workflows/double/runs", content="1", headers={"Content-Type": kind}
            )
            assert answer.status_code == 415
        answer = await site.client.post("/api/workflows/double/runs", content="1")
        assert answer.status_code == 415


async def test_what_is_not_there_is_404(serving):
    async with serving() as site:
        for path in ("runs/x", "runs/x/result", "runs/x/nodes", "runs/x/stream", "runs/x/events/e"):
            answer = await site.client.get(f"/api/{path}")
            assert (answer.status_code, answer.json()["status"]) == (404, 404), path
        answer = await site.start("missing", 1)
        assert (answer.status_code, "double" in answer.json()["detail"]) == (404, True)
        assert (await site.client.get("/nowhere")).json()["status"] == 404
        answer = await site.client.delete("/api/runs/x")
        assert (answer.status_code, answer.json()["title"]) == (405, "Method Not Allowed")


async def test_runs_are_listed_a_page_at_a_time(serving):
    async with serving() as site:
        for number in range(5):
            await site.start("double", number, run_id=f"run-{number}", wait=5)
        first = (await site.client.get("/api/runs?limit=2")).json()
        assert [run["run_id"] for run in first["runs"]] == ["run-4", "run-3"]
        rest = (await site.client.get(f"/api/runs?limit=3&before={first['next']}")).json()
        assert [run["run_id"] for run in rest["runs"]] == ["run-2", "run-1", "run-0"]
        last = (await site.client.get(f"/api/runs?limit=3&before={rest['next']}")).json()
        assert last == {"runs": [], "next": None}


async def test_runs_are_filtered(serving):
    async with serving() as site:
        await site.start("double", 1, run_id="a", wait=5)
        await site.start("orders", {"item": "tea", "total": 42}, run_id="b")
        await site.runner.run(shop.double, 2, run_id="c", metadata={"user": "ada"})

        async def found(query):
            answer = await site.client.get(f"/api/runs?{query}")
            return [run["run_id"] for run in answer.json()["runs"]]

        assert await found("workflow=orders") == ["b"]
        assert await found("status=completed") == ["c", "a"]
        assert await found("metadata.user=ada") == ["c"]
        assert await found("created_after=2000-01-01T00:00:00Z&status=failed") == []
        assert await found("parent=x") == await found("queue=x") == []
        assert await found("created_before=2000-01-01T00:00:00Z") == []


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=x", "limit=501", "status=odd", "colour=red"),
        *("created_after=then", "created_after=0001-01-01T00:00:00"),
    ],
)
async def test_a_malformed_filter_is_refused(serving, query):
    async with serving() as site:
        answer = await site.client.get(f"/api/runs?{query}")
        assert (answer.status_code, answer.json()["title"]) == (400, "Bad Request")


@pytest.mark.parametrize(
    "query",
    [
        "created_after=0001-01-01T00:00:00%2B14:00&created_before=0001-01-01T00:00:00-14:00",
        "created_after=9999-12-31T23:59:59-14:00",
        "workflow=%ED%A0%80&queue=%FF&parent=%00&metadata.%FF=%ED%A0%80",
        "workflow=\xe9",
    ],
)
async def test_a_filter_that_nothing_can_fit_finds_nothing(serving, query):
    async with serving() as site:
        await site.start("double", 1, run_id="a", wait=5)
        answer = await site.client.get(f"/api/runs?{query}")
        assert (answer.status_code, answer.json()["runs"]) == (200, [])


async def test_a_page_after_a_run_that_is_not_there_is_404(serving):
    async with serving() as site:
        assert (await site.client.get("/api/runs?before=x")).status_code == 404


async def test_nodes_are_a_tree(serving):
    async with serving() as site:
        await site.start("accounts", "ada", run_id="a", wait=5)
        root = (await site.client.get("/api/runs/a/nodes")).json()
        assert (root["path"], root["state"]) == ("accounts", "done")
        primary, fallback = root["children"]
        assert (primary["state"], fallback["state"]) == ("handled", "done")
        assert fallback["result"] == {"told": "ada", "password": "hunter2"}
        attempts = [node["label"] for node in primary["children"]]
        assert attempts == ["attempt 1", "attempt 2"]
        assert primary["children"][0]["error"]["message"] == "no bank for ada"


async def test_a_set_event_is_told(serving):
    async with serving() as site:
        await site.start("review", "paper", run_id="r")
        answer = await site.client.get("/api/runs/r/events/reader", headers={"Prefer": "wait=5"})
        assert answer.json() == {"name": "reader", "value": {"name": "ada", "token": "t"}}
        answer = await site.client.get("/api/runs/r/events/writer")
        assert (answer.status_code, answer.json()["type"]) == (
            404,
            "urn:plait:problem:event-not-set",
        )
        found = (await site.client.get("/api/runs/r")).json()
        assert found["progress"]["message"] == "reading paper"


async def test_an_event_starts_what_listens_to_it_once(serving):
    async with serving(listeners={"made": [shop.double, shop.counting]}) as site:
        for _ in range(2):
            answer = await site.client.post(
                "/api/events/made", json=4, headers={"Idempotency-Key": "e1"}
            )
            assert answer.json() == {"run_ids": ["made:e1:double", "made:e1:counting"]}
        assert len(await site.runner.list()) == 2
        assert (await site.client.post("/api/events/other", json=4)).status_code == 404
        assert (await site.client.post("/api/events/made", json="x")).status_code == 422


async def test_run_ids_with_any_character_have_an_address(serving):
    async with serving() as site:
        for run_id in ("a/b", "50% off", "x#y?z", "..", "ünï", "parent:p/1:c#start", "a+b@c"):
            await site.runner.run(shop.double, 1, run_id=run_id)
            encoded = quote(run_id, safe="").replace(".", "%2E")
            answer = await site.client.get(f"/api/runs/{encoded}")
            assert answer.json()["run_id"] == run_id


async def test_it_tells_whether_it_lives_and_is_ready(serving):
    async with serving() as site:
        assert (await site.client.get("/health")).json()["status"] == "ok"
        assert (await site.client.get("/ready")).json()["status"] == "ok"
        site.application.drain()
        draining = await site.client.get("/ready")
        assert (draining.status_code, draining.json()["status"]) == (503, "draining")
        assert (await site.client.get("/health")).status_code == 200
        refused = await site.start("double", 1)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        await site.runner.start(shop.orders, shop.Order("tea", 1), run_id="o")
        at_once = await site.client.get("/api/runs/o", headers={"Prefer": "wait=30"})
        assert at_once.json()["status"] in ("running", "waiting")


async def test_an_answer_that_is_held_back_is_given_when_the_server_drains(serving, eventually):
    async with serving() as site, anyio.create_task_group() as tasks:
        answers = []

        async def ask():
            answers.append(await site.start("orders", {"item": "tea", "total": 1}, wait=30))

        tasks.start_soon(ask)
        await eventually(lambda: site.application.site._held)
        with anyio.fail_after(5):
            site.application.drain()
            await eventually(lambda: answers)
        assert answers[0].status_code == 202


async def test_a_journal_that_cannot_be_used_is_503(serving):
    async with serving() as site:
        await site.runner._journal.close()
        answer = await site.client.get("/api/runs")
        assert answer.status_code == 503
        assert answer.json()["detail"] == "the journal cannot be used now"
        assert (await site.client.get("/ready")).status_code == 503
        await site.runner._journal.open()


async def test_a_run_whose_result_cannot_be_read_says_so(serving, tmp_path):
    async with serving() as site:
        async with DurableRunner(f"sqlite:///{tmp_path}/runs.db", workflows=[]) as other:
            await other.run(shop.price, shop.Order("tea", 1), run_id="p")
        found = (await site.client.get("/api/runs/p")).json()
        assert found["status"] == "completed"


async def test_what_is_too_long_for_the_journal_is_refused(tmp_path):
    runner = DurableRunner(
        MemoryJournal(), workflows=[shop.account], codec=JsonCodec(max_bytes=4096)
    )
    transport = httpx.ASGITransport(app(runner))
    async with (
        runner,
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        answer = await client.post("/api/workflows/account/runs", json="x" * 5000)
        assert (answer.status_code, "4,096" in answer.json()["detail"]) == (422, True)


async def test_other_errors_of_a_run_are_said(serving, monkeypatch):
    async with serving() as site:

        async def cancel(_):
            raise StepInterruptedError("it was interrupted")

        monkeypatch.setattr(site.runner, "cancel", cancel)
        answer = await site.client.post("/api/runs/x/cancel")
        assert (answer.status_code, answer.json()["detail"]) == (409, "it was interrupted")


async def test_a_token_that_nobody_asked_for_does_no_harm(serving):
    async with serving() as site:
        answer = await site.client.get("/api/runs", headers={"Authorization": "Bearer any"})
        assert answer.status_code == 200
