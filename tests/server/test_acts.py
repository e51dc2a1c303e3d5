"""Runs are signalled, cancelled, resumed and forked over HTTP."""

import anyio
import pytest
import shop

from plait.durable import DurableRunner

pytestmark = pytest.mark.anyio

ORDER = {"item": "tea", "total": 42}


async def test_a_signal_is_sent_once_for_a_key(serving):
    async with serving() as site:
        await site.start("review", "paper", run_id="r")
        for _ in range(2):
            answer = await site.client.post(
                "/api/runs/r/signals/reviewed",
                json={"approved": True, "by": "ada"},
                headers={"Idempotency-Key": "s1"},
            )
            assert answer.status_code in (204, 409)
        found = await site.client.get("/api/runs/r/result", headers={"Prefer": "wait=5"})
        assert found.json() == "paper approved by ada"


async def test_a_signal_that_does_not_fit_is_refused(serving):
    async with serving() as site:
        await site.start("orders", ORDER, run_id="o")
        await site.until("o", "waiting")
        unknown = await site.client.post("/api/runs/o/signals/sent", json=True)
        assert (unknown.status_code, "approved" in unknown.json()["detail"]) == (422, True)
        wrong = await site.client.post("/api/runs/o/signals/approved", json={"yes": 1})
        assert wrong.status_code == 422
        missing = await site.client.post("/api/runs/x/signals/approved", json=True)
        assert missing.status_code == 404
        await site.client.post("/api/runs/o/signals/approved", json=False)
        await site.until("o", "completed")
        late = await site.client.post("/api/runs/o/signals/approved", json=True)
        assert (late.status_code, late.json()["type"]) == (409, "urn:plait:problem:run-ended")


async def test_a_run_is_cancelled(serving):
    async with serving() as site:
        await site.start("orders", ORDER, run_id="o")
        asked = await site.client.post("/api/runs/o/cancel")
        assert (asked.status_code, asked.json()["was_under_way"]) == (202, True)
        await site.until("o", "cancelled")
        again = await site.client.post("/api/runs/o/cancel")
        assert again.json() == {"run_id": "o", "was_under_way": False}
        assert (await site.client.post("/api/runs/x/cancel")).status_code == 404
        result = await site.client.get("/api/runs/o/result")
        assert result.json()["error"]["type"] == "RunCancelledError"


async def test_a_failed_run_is_resumed(serving):
    shop.is_down[0] = True
    async with serving() as site:
        await site.start("counting", 1, run_id="c", wait=5)
        shop.is_down[0] = False
        assert (await site.client.post("/api/runs/c/resume")).status_code == 202
        found = await site.client.get("/api/runs/c/result", headers={"Prefer": "wait=5"})
        assert found.json() == 3
        assert (await site.client.post("/api/runs/x/resume")).status_code == 404


async def test_a_run_is_forked(serving):
    async with serving() as site:
        await site.start("counting", 1, run_id="c", wait=5)
        answer = await site.client.post(
            "/api/runs/c/fork", json={"before": "counting/2:flaky", "run_id": "d"}
        )
        assert (answer.status_code, answer.headers["Location"]) == (202, "/api/runs/d")
        found = await site.client.get("/api/runs/d/result", headers={"Prefer": "wait=5"})
        assert found.json() == 3
        anew = await site.client.post("/api/runs/c/fork")
        assert anew.json()["run_id"] not in ("c", "d")
        taken = await site.client.post("/api/runs/c/fork", json={"run_id": "d"})
        assert taken.status_code == 409
        nowhere = await site.client.post("/api/runs/c/fork", json={"before": "counting/7:x"})
        assert nowhere.status_code == 409
        assert (await site.client.post("/api/runs/x/fork")).status_code == 404


@pytest.mark.parametrize("body", [{"befor": "x"}, {"run_id": ".."}, [1], {"before": 3}])
async def test_a_malformed_fork_is_refused(serving, body):
    async with serving() as site:
        await site.start("counting", 1, run_id="c", wait=5)
        assert (await site.client.post("/api/runs/c/fork", json=body)).status_code == 422


async def test_a_run_of_a_workflow_that_is_not_here_is_left_alone(serving, tmp_path):
    async with serving() as site:
        async with DurableRunner(f"sqlite:///{tmp_path}/runs.db") as other:
            await other.run(shop.flaky, 1, run_id="f")
        for act in ("resume", "fork"):
            answer = await site.client.post(f"/api/runs/f/{act}")
            assert (answer.status_code, "flaky" in answer.json()["detail"]) == (409, True)


async def test_a_run_is_followed_as_a_stream_of_events(serving, eventually):
    async with serving() as site, anyio.create_task_group() as tasks:
        await site.start("orders", ORDER, run_id="o")
        await site.until("o", "waiting")
        streams = []

        async def follow():
            streams.append(await site.client.get("/api/runs/o/stream"))

        tasks.start_soon(follow)
        await anyio.sleep(0.3)
        await site.client.post("/api/runs/o/signals/approved", json=True)
        await site.until("o", "completed")
        await eventually(lambda: streams)
        assert streams[0].headers["Content-Type"].startswith("text/event-stream")
        events = streams[0].text.split("\n\n")
        assert events[0] == "retry: 2000"
        assert events[1].startswith('id: 1\nevent: node\ndata: {"path":"orders/1:price"')
        kinds = [event.partition("event: ")[2].partition("\n")[0] for event in events[1:-1]]
        assert kinds[:2] == ["node", "run"]
        assert kinds[-3:] == ["node", "run", "end"]
        assert '"result":"42 approved"' in streams[0].text


async def test_a_stream_goes_on_after_the_last_event_that_was_seen(serving):
    async with serving() as site:
        await site.start("counting", 1, run_id="c", wait=5)
        whole = (await site.client.get("/api/runs/c/stream")).text
        assert whole.count("event: node") == 2
        rest = await site.client.get("/api/runs/c/stream", headers={"Last-Event-ID": "1"})
        assert rest.text.count("event: node") == 1
        odd = await site.client.get("/api/runs/c/stream", headers={"Last-Event-ID": "x"})
        assert odd.text == whole


async def test_a_stream_ends_with_its_run_and_with_the_server(serving, eventually, monkeypatch):
    from plait.server import _stream

    monkeypatch.setattr(_stream, "_BEAT_SECONDS", 0.1)
    async with serving() as site, anyio.create_task_group() as tasks:
        await site.start("orders", ORDER, run_id="o")
        await site.until("o", "waiting")
        streams = []

        async def follow():
            streams.append(await site.client.get("/api/runs/o/stream"))

        tasks.start_soon(follow)
        await anyio.sleep(0.8)
        with anyio.fail_after(5):
            site.application.drain()
            await eventually(lambda: streams)
        assert ": still there\n\n" in streams[0].text
        assert "event: end" not in streams[0].text
        assert site.application.site.streams == 0


async def test_a_stream_of_a_run_that_is_removed_ends(serving, eventually):
    async with serving() as site, anyio.create_task_group() as tasks:
        await site.start("orders", ORDER, run_id="o")
        await site.until("o", "waiting")
        streams = []

        async def follow():
            streams.append(await site.client.get("/api/runs/o/stream"))

        tasks.start_soon(follow)
        await anyio.sleep(0.3)
        await site.runner.cancel("o")
        await site.until("o", "cancelled")
        await site.runner.prune(0)
        await eventually(lambda: streams)
        assert streams[0].text.endswith("event: end\ndata: {}\n\n")


async def test_there_are_only_so_many_streams(serving, eventually):
    from plait.server import Limits

    async with serving(limits=Limits(streams=1)) as site, anyio.create_task_group() as tasks:
        await site.start("orders", ORDER, run_id="o")
        tasks.start_soon(site.client.get, "/api/runs/o/stream")
        with anyio.fail_after(5):
            await eventually(lambda: site.application.site.streams)
        answer = await site.client.get("/api/runs/o/stream")
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "5")
        site.application.drain()
