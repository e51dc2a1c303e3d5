"""Signed messages from elsewhere."""

import base64
import hashlib
import hmac
import json
import time

import pytest
import shop

from plait.server import Webhook

pytestmark = pytest.mark.anyio

SECRET = "whsec_" + base64.b64encode(b"a secret of the sender's").decode()
OTHER = "another secret of the sender"


def signed(body, *, secret=SECRET, message_id="msg_1", at=None, version="v1"):
    """A message's headers, as https://www.standardwebhooks.com has them."""
    key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
    stamp = str(int(time.time() if at is None else at))
    mac = hmac.digest(key, f"{message_id}.{stamp}.".encode() + body, hashlib.sha256)
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": f"{version},{base64.b64encode(mac).decode()}",
    }


async def post(site, name, content, **options):
    body = json.dumps(content).encode()
    return await site.client.post(
        f"/webhooks/{name}", content=body, headers=signed(body, **options)
    )


async def test_a_message_starts_one_run_however_often_it_comes(serving, tokens):
    hook = Webhook("numbers", [SECRET, OTHER], start=shop.double, payload=lambda it: it["n"])
    async with serving(webhooks=[hook], tokens=tokens, peer="203.0.113.9") as site:
        for secret in (SECRET, SECRET, OTHER):
            answer = await post(site, "numbers", {"n": 21}, secret=secret)
            assert (answer.status_code, answer.json()) == (
                202,
                {"run_ids": ["webhook:numbers:msg_1"]},
            )
        assert len(await site.runner.list()) == 1
        changed = await post(site, "numbers", {"n": 22})
        assert changed.status_code == 409


async def test_a_message_becomes_a_signal_once(serving):
    hook = Webhook(
        "approvals",
        [SECRET],
        signal="approved",
        run_id=lambda it: it["order"],
        payload=lambda it: it["ok"],
    )
    async with serving(webhooks=[hook]) as site:
        await site.start("orders", {"item": "tea", "total": 42}, run_id="o")
        await site.until("o", "waiting")
        assert (await post(site, "approvals", {"order": "o", "ok": "x"})).status_code == 422
        assert (await post(site, "approvals", {"order": "x", "ok": True})).status_code == 404
        assert (await post(site, "approvals", {"ok": True})).status_code == 422
        answer = await post(site, "approvals", {"order": "o", "ok": True}, message_id="msg_2")
        assert answer.json() == {"run_ids": ["o"]}
        await site.until("o", "completed")


async def test_a_message_becomes_an_event_once(serving):
    hook = Webhook("users", [SECRET], event="user.created")
    listeners = {"user.created": [shop.double]}
    async with serving(webhooks=[hook], listeners=listeners) as site:
        for _ in range(2):
            answer = await post(site, "users", 4)
            assert answer.json() == {"run_ids": ["user.created:users:msg_1:double"]}
        assert len(await site.runner.list()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"secret": "another secret that is not known"},
        {"version": "v2"},
        {"at": 0},
        {"at": time.time() + 3600},
        {"message_id": ""},
        {"message_id": "../x"},
    ],
)
async def test_a_message_that_is_not_signed_lately_is_refused(serving, change):
    hook = Webhook("numbers", [SECRET], start=shop.double)
    async with serving(webhooks=[hook]) as site:
        assert (await post(site, "numbers", 1, **change)).status_code == 401
        assert await site.runner.list() == []


async def test_a_message_that_was_changed_is_refused(serving):
    hook = Webhook("numbers", [SECRET], start=shop.double)
    async with serving(webhooks=[hook]) as site:
        headers = signed(b"1")
        for name, value in (
            ("webhook-id", "msg_2"),
            ("webhook-timestamp", str(int(time.time()) + 1)),
            ("webhook-timestamp", "now"),
            ("webhook-signature", ""),
            ("webhook-signature", "v1,é"),
            ("webhook-signature", "v1,AAAA"),
        ):
            changed = {**headers, name: value}
            encoded = [(n.encode(), v.encode()) for n, v in changed.items()]
            answer = await site.client.post("/webhooks/numbers", content=b"1", headers=encoded)
            assert answer.status_code == 401, name
        changed = await site.client.post("/webhooks/numbers", content=b"2", headers=headers)
        assert changed.status_code == 401
        bare = await site.client.post("/webhooks/numbers", json=1)
        assert bare.status_code == 401
        assert await site.runner.list() == []


async def test_a_message_of_another_form_starts_nothing(serving):
    hook = Webhook("numbers", [SECRET], start=shop.double)
    async with serving(webhooks=[hook]) as site:
        assert (await post(site, "numbers", "x")).status_code == 422
        assert (await post(site, "other", 1)).status_code == 404
        assert await site.runner.list() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs one of"),
        ({"start": shop.double, "event": "x"}, "needs one of"),
        ({"signal": "x"}, "run_id="),
        ({"event": "x", "run_id": str}, "run_id="),
        ({"event": "x", "secrets": []}, "secrets of at least"),
        ({"event": "x", "secrets": ["short"]}, "secrets of at least"),
        ({"event": "x", "secrets": ["whsec_???"]}, "base64"),
    ],
)
def test_a_webhook_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Webhook("hook", **{"secrets": [SECRET], **options})


def test_a_webhook_does_not_show_its_secrets():
    assert SECRET not in repr(Webhook("hook", [SECRET], event="x"))


async def test_two_of_one_name_are_refused(serving):
    hook = Webhook("hook", [SECRET], event="x")
    with pytest.raises(ValueError, match="two webhooks have one name"):
        async with serving(webhooks=[hook, hook]):
            pass
