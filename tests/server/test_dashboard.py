"""The dashboard's pages, as a browser without scripts gets them."""

import re
import time
from datetime import UTC, datetime, timedelta

import anyio
import pytest
import shop

from plait.durable import DurableRunner
from plait.server import Redaction, Token, _dashboard, _sessions

pytestmark = pytest.mark.anyio

ORDER = {"item": "tea", "total": 42}


def form_key(page):
    return re.search(r'name="form_key" value="([^"]+)"', page.text)[1]


async def send(site, path, **fields):
    """Send a form of a page that was loaded before."""
    page = await site.client.get("/workflows")
    fields = {"form_key": form_key(page), **fields}
    return await site.client.post(path, data=fields, headers={"Sec-Fetch-Site": "same-origin"})


async def test_runs_are_listed_filtered_and_found(serving):
    async with serving() as site:
        empty = await site.client.get("/")
        assert "start one" in empty.text
        await site.start("double", 1, run_id="number-1", wait=5)
        await site.start("orders", ORDER, run_id="order-42")
        await site.until("order-42", "waiting")
        await site.start("review", "paper", run_id="review-1")
        await site.runner.run(shop.double, 2, run_id="number-2", metadata={"user": "ada"})

        async def found(query):
            page = await site.client.get(f"/?{query}")
            return re.findall(r'class="id" href="/runs/([^"]+)"', page.text)

        assert await found("") == ["number-2", "review-1", "order-42", "number-1"]
        assert await found("status=waiting&workflow=orders") == ["order-42"]
        assert await found("q=order-42") == ["order-42"]
        assert await found("q=number") == ["number-2", "number-1"]
        assert await found("q=user=ada") == ["number-2"]
        assert await found("q=nothing&status=odd") == []
        page = await site.client.get("/")
        assert "for approved" in page.text


async def test_a_long_list_has_pages(serving):
    async with serving() as site:
        for number in range(26):
            await site.runner.run(shop.double, number, run_id=f"n-{number:02}")
        first = await site.client.get("/?workflow=double")
        assert "n-25" in first.text
        assert "n-00" not in first.text
        older = re.search(r'href="(\?[^"]+)" rel="next"', first.text)[1].replace("&amp;", "&")
        second = await site.client.get(f"/{older}")
        assert "n-00" in second.text
        assert ">Newest<" in second.text
        assert (await site.client.get("/?before=missing")).status_code == 404


async def test_a_run_is_shown_with_what_it_did(serving):
    async with serving() as site:
        await site.runner.run(
            shop.accounts, "ada", run_id="a", metadata={"user": "ada", "api_key": "k-1"}
        )
        page = (await site.client.get("/runs/a")).text
        for text in ("attempt 2", "no bank for ada", "fallback 1", "handled", ">ada<", "Result"):
            assert text in page, text
        assert "hunter2" not in page
        assert "k-1" not in page
        assert (await site.client.get("/runs/missing")).status_code == 404


async def test_a_run_shows_its_progress_and_what_it_waits_for(serving):
    async with serving() as site:
        await site.start("review", "paper", run_id="r")
        await site.until("r", "waiting")
        page = (await site.client.get("/runs/r")).text
        assert "reading paper" in page
        assert "&#34;approved&#34;: true" in page
        listed = (await site.client.get("/")).text
        assert "for reviewed" in listed


async def test_a_form_is_filled_in_as_far_as_the_types_tell(serving):
    async with serving() as site:
        page = (await site.client.get("/workflows")).text
        for text in ('"to": ""', '"size": "small"', '"stamps": []', '"is_fragile": false'):
            assert text.replace('"', "&#34;") in page
        document = (await site.client.get("/api/openapi.json")).json()
        start = document["paths"]["/api/workflows/send_later/runs"]["post"]
        assert start["description"] == "Send a parcel in an hour."


async def test_a_run_that_sleeps_says_until_when(serving):
    async with serving() as site:
        given = {"to": "ada", "size": "small", "stamps": [1]}
        await site.start("send_later", given, run_id="p")
        await site.until("p", "waiting")
        page = (await site.client.get("/runs/p")).text
        assert "Waits at <code>send_later/#sleep</code> until" in page


async def test_a_run_that_is_due_later_in_a_queue_says_so(serving):
    async with serving() as site:
        await site.runner.start(shop.double, 1, run_id="d", delay=3600, queue="mail")
        page = (await site.client.get("/runs/d")).text
        assert "mail, priority 0" in page
        assert "from now" in page


async def test_a_run_is_approved_by_a_button(serving):
    async with serving() as site:
        await site.start("orders", ORDER, run_id="o")
        await site.until("o", "waiting")
        assert 'value="true">Approve<' in (await site.client.get("/runs/o")).text
        answer = await send(site, "/runs/o/signal", signal="approved", payload="true")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/runs/o?done=signalled")
        await site.until("o", "completed")
        page = await site.client.get("/runs/o?done=signalled")
        assert "The signal was sent." in page.text
        assert "42 approved" in page.text
        late = await send(site, "/runs/o/signal", signal="approved", payload="true")
        assert (late.status_code, "has completed" in late.text) == (409, True)
        assert "<script>" not in (await site.client.get("/runs/o?done=<script>")).text


async def test_a_signal_that_does_not_fit_is_said_so_on_the_page(serving):
    async with serving() as site:
        await site.start("orders", ORDER, run_id="o")
        await site.until("o", "waiting")
        broken = await send(site, "/runs/o/signal", signal="approved", payload="{")
        assert (broken.status_code, "not JSON" in broken.text) == (400, True)
        other = await send(site, "/runs/o/signal", signal="sent", payload="1")
        assert (other.status_code, "waits for no signal" in other.text) == (422, True)


async def test_a_run_is_started_by_a_form(serving):
    async with serving() as site:
        answer = await send(site, "/workflows/double/start", input="21")
        assert answer.status_code == 303
        page = await site.client.get(answer.headers["Location"])
        assert "The run was started." in page.text
        wrong = await send(site, "/workflows/orders/start", input='{"item": 3}')
        assert wrong.status_code == 422
        assert "item: Input should be a valid string" in wrong.text
        assert "{&#34;item&#34;: 3}" in wrong.text
        assert (await send(site, "/workflows/orders/start", input="{")).status_code == 422
        assert (await send(site, "/workflows/missing/start", input="1")).status_code == 404


async def test_a_run_is_cancelled_resumed_and_forked_by_buttons(serving, tmp_path):
    shop.is_down[0] = True
    async with serving() as site:
        await site.start("counting", 1, run_id="c", wait=5)
        shop.is_down[0] = False
        assert (await send(site, "/runs/c/resume")).headers["Location"] == "/runs/c?done=resumed"
        await site.until("c", "completed")
        forked = await send(site, "/runs/c/fork", before="counting/2:flaky")
        assert forked.headers["Location"].endswith("?done=forked")
        wrong = await send(site, "/runs/c/fork", before="counting/7:x")
        assert (wrong.status_code, "nothing is recorded" in wrong.text) == (409, True)
        await site.start("orders", ORDER, run_id="o")
        assert (await send(site, "/runs/o/cancel")).headers["Location"] == "/runs/o?done=cancelled"
        await site.until("o", "cancelled")
        async with DurableRunner(f"sqlite:///{tmp_path}/runs.db") as other:
            await other.run(shop.flaky, 1, run_id="f")
        elsewhere = await send(site, "/runs/f/resume")
        assert (elsewhere.status_code, "does not have" in elsewhere.text) == (409, True)
        assert "Shape" not in (await site.client.get("/runs/f")).text


async def test_a_form_without_its_key_is_refused(serving):
    async with serving() as site:
        await site.start("orders", ORDER, run_id="o")
        for path in ("/runs/o/cancel", "/runs/o/signal", "/runs/o/fork", "/workflows/double/start"):
            for fields in ({"signal": "x"}, {"form_key": "x"}, {"form_key": "é"}):
                answer = await site.client.post(path, data=fields)
                assert answer.status_code == 403
        assert (await site.runner.info("o")).is_cancelled is False
        answer = await site.client.post("/runs/o/cancel", json={})
        assert answer.status_code == 415
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        for content in (b"\xff", b"&".join([b"a=1"] * 60)):
            answer = await site.client.post("/runs/o/cancel", content=content, headers=headers)
            assert answer.status_code == 400


async def test_script_in_every_field_is_text(serving, tmp_path):
    shop_script = shop.SCRIPT
    evil = shop.double.named(f"evil{shop_script}")
    async with DurableRunner(f"sqlite:///{tmp_path}/runs.db", workflows=[evil]) as runner:
        await runner.run(evil, 1, run_id=f"id{shop_script}", metadata={shop_script: shop_script})
    async with serving() as site:
        site.runner._register(evil)
        await site.runner.start(shop.hostile, shop_script, run_id="h", queue=None)
        await site.until("h", "failed")
        await site.start("review", shop_script, run_id="r")
        await site.until("r", "waiting")
        pages = ["/", "/workflows", "/runs/h", "/runs/r", f"/?q={shop_script}", "/login"]
        pages += [f"/?workflow={shop_script}&status={shop_script}", "/runs/%3Cscript%3Ealert"]
        pages.append("/runs/id%3Cscript%3Ealert('x')%3C%2Fscript%3E%22'&")
        for path in pages:
            page = await site.client.get(path)
            assert "<script>alert" not in page.text, path
            assert "onerror" not in page.text
        assert "&lt;script&gt;" in (await site.client.get("/runs/h")).text
        assert "&lt;script&gt;" in (await site.client.get(pages[-1])).text
        broken = await send(site, "/workflows/double/start", input=shop_script)
        assert "<script>alert" not in broken.text


async def test_a_session_begins_with_a_token(serving, tokens):
    async with serving(tokens=tokens, base="https://runs.example", peer="203.0.113.9") as site:
        for path in ("/", "/runs/x", "/workflows"):
            answer = await site.client.get(path)
            assert (answer.status_code, answer.headers["Location"]) == (303, "/login")
        assert "Log in" in (await site.client.get("/login")).text
        wrong = await site.client.post("/login", data={"token": "wrong"})
        assert (wrong.status_code, "is not known" in wrong.text) == (401, True)
        entered = await site.client.post("/login", data={"token": "operator-" * 4})
        assert entered.status_code == 303
        cookie = entered.headers["Set-Cookie"]
        for part in ("HttpOnly", "SameSite=strict", "Secure", "Path=/"):
            assert part in cookie
        assert "operator-" not in cookie
        page = await site.client.get("/workflows")
        assert "operator" in page.text
        left = await site.client.post("/logout", data={"form_key": form_key(page)})
        assert left.headers["Location"] == "/login"
        assert (await site.client.get("/")).headers["Location"] == "/login"


async def test_a_session_may_do_what_its_token_may(serving, tokens):
    async with serving(tokens=tokens) as site:
        await site.runner.start(shop.orders, shop.Order("tea", 1), run_id="o")
        await site.until("o", "waiting")
        await site.client.post("/login", data={"token": "reader-" * 4})
        page = await site.client.get("/runs/o")
        assert "Approve" not in page.text
        assert "Start a run" not in (await site.client.get("/workflows")).text
        fields = {"form_key": form_key(page), "signal": "approved", "payload": "true"}
        refused = await site.client.post("/runs/o/signal", data=fields)
        assert (refused.status_code, "operate" in refused.text) == (403, True)
        assert (await site.client.get("/api/runs/o")).status_code == 200


async def test_a_session_that_was_tampered_with_is_none(serving, tokens, monkeypatch):
    async with serving(tokens=tokens) as site:
        await site.client.post("/login", data={"token": "reader-" * 4})
        cookie = site.client.cookies[_sessions.COOKIE]
        name, until, nonce, signature = cookie.split(".")
        site.client.cookies.clear()
        for forged in (
            f"{name}.{int(until) + 1}.{nonce}.{signature}",
            f"b3BlcmF0b3I.{until}.{nonce}.{signature}",
            "x",
            "",
            f"{cookie}x",
        ):
            answer = await site.client.get("/", headers={"Cookie": f"{_sessions.COOKIE}={forged}"})
            assert answer.status_code == 303
        headers = {"Cookie": f"{_sessions.COOKIE}={cookie}"}
        assert (await site.client.get("/", headers=headers)).status_code == 200
        later = time.time() + 13 * 3600
        monkeypatch.setattr(_sessions.time, "time", lambda: later)
        assert (await site.client.get("/", headers=headers)).status_code == 303
        assert (await site.client.get("/api/runs", headers=headers)).status_code == 401


async def test_a_session_ends_with_its_token_and_lasts_with_its_key(serving):
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    token = Token.of("brief", "brief-secret-of-sixteen", expires_at=soon)
    lasting = Token.of("long", "other-secret-of-sixteen")
    async with serving(tokens=[token, lasting], session_key=b"k" * 32) as site:
        await site.client.post("/login", data={"token": "brief-secret-of-sixteen"})
        assert (await site.client.get("/")).status_code == 200
        await anyio.sleep_until(anyio.current_time() + 0.35)
        assert (await site.client.get("/")).status_code == 303
        site.client.cookies.clear()
        await site.client.post("/login", data={"token": "other-secret-of-sixteen"})
        headers = {"Cookie": f"{_sessions.COOKIE}={site.client.cookies[_sessions.COOKIE]}"}
    async with serving(tokens=[lasting], session_key=b"k" * 32) as site:
        assert (await site.client.get("/", headers=headers)).status_code == 200
    async with serving(tokens=[lasting]) as site:
        assert (await site.client.get("/", headers=headers)).status_code == 303


async def test_without_tokens_nobody_logs_in(serving):
    async with serving() as site:
        assert (await site.client.get("/login")).headers["Location"] == "/"
        page = await site.client.get("/")
        assert "this machine only" in page.text
        again = await site.client.get("/")
        assert "Set-Cookie" not in again.headers


async def test_what_a_program_hides_is_hidden(serving):
    def shorten(value):
        return "short" if isinstance(value, list) else value

    redaction = Redaction(fields="told", of=shorten)
    async with serving(redaction=redaction) as site:
        await site.runner.run(shop.accounts, "ada", run_id="a")
        page = (await site.client.get("/runs/a")).text
        assert "&#34;told&#34;: &#34;[hidden]&#34;" in page
        assert "hunter2" in page


async def test_an_input_that_cannot_be_read_says_so(serving, monkeypatch):
    async with serving() as site:
        await site.runner.run(shop.double, 1, run_id="d")

        def decode(payload, *_):
            raise ValueError("no key decrypts it")

        monkeypatch.setattr(site.runner._codec, "decode", decode, raising=False)
        page = (await site.client.get("/runs/d")).text
        assert "no key decrypts it" in page


def test_long_values_are_cut():
    assert "and 12 characters more" in _dashboard._json("x" * 20_010)


def test_times_are_told_from_now():
    now = datetime.now(UTC)
    told = [
        _dashboard._ago(now - timedelta(**{unit: 3}), now)
        for unit in ("seconds", "minutes", "hours", "days")
    ]
    assert told == ["3 s ago", "3 min ago", "3 h ago", "3 d ago"]
    assert _dashboard._ago(now + timedelta(hours=2), now) == "2 h from now"
