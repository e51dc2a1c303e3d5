"""Who is let in, and what is refused."""

from datetime import UTC, datetime, timedelta

import anyio
import httpx
import pytest
import shop

from plait.server import Limits, Redaction, Token
from plait.server._security import Failures, is_loopback, tokens_in

pytestmark = pytest.mark.anyio

ORDER = {"item": "tea", "total": 42}
ACTS = [
    ("read", "GET", "/api/runs"),
    ("read", "GET", "/api/runs/r"),
    ("read", "GET", "/api/runs/r/result"),
    ("read", "GET", "/api/runs/r/nodes"),
    ("read", "GET", "/api/runs/r/stream"),
    ("run", "POST", "/api/workflows/double/runs"),
    ("run", "POST", "/api/events/made"),
    ("operate", "POST", "/api/runs/r/signals/approved"),
    ("operate", "POST", "/api/runs/r/cancel"),
    ("operate", "POST", "/api/runs/r/resume"),
    ("operate", "POST", "/api/runs/r/fork"),
]


@pytest.mark.parametrize(("scope", "method", "path"), ACTS)
async def test_every_endpoint_wants_a_token_with_its_scope(
    serving, tokens, bearer, scope, method, path
):
    async with serving(tokens=tokens, peer="203.0.113.9", base="https://runs.example") as site:
        await site.runner.run(shop.double, 1, run_id="r")
        ask = site.client.request

        bare = await ask(method, path)
        assert (bare.status_code, bare.headers["WWW-Authenticate"]) == (401, 'Bearer realm="plait"')
        for header in ("Bearer wrong-wrong-wrong-wrong", "Bearer ", "Basic cnVuOnJ1bg==", "é"):
            wrong = await ask(method, path, headers=[(b"Authorization", header.encode())])
            assert wrong.status_code == 401, header
        lesser = {"run": "reader", "operate": "runner"}.get(scope)
        if lesser:
            refused = await ask(method, path, headers=bearer(lesser))
            assert refused.status_code == 403
            assert f'scope="{scope}"' in refused.headers["WWW-Authenticate"]
        allowed = await ask(method, path, headers=bearer("operator"))
        assert allowed.status_code not in (401, 403)


async def test_a_token_that_is_over_is_refused(serving):
    past = datetime.now(UTC) - timedelta(seconds=1)
    tokens = [
        Token.of("old", "old-secret-of-sixteen", expires_at=past),
        Token.of("new", "new-secret-of-sixteen", expires_at=past + timedelta(days=1)),
    ]
    async with serving(tokens=tokens) as site:
        for name, status in (("old", 401), ("new", 200)):
            headers = {"Authorization": f"Bearer {name}-secret-of-sixteen"}
            assert (await site.client.get("/api/runs", headers=headers)).status_code == status


async def test_whoever_tries_wrong_tokens_has_to_wait(serving, tokens, bearer):
    async with serving(tokens=tokens) as site:
        wrong = {"Authorization": "Bearer wrong"}
        answers = [await site.client.get("/api/runs", headers=wrong) for _ in range(25)]
        assert {answer.status_code for answer in answers[:20]} == {401}
        assert {answer.status_code for answer in answers[20:]} == {429}
        assert 0 < int(answers[-1].headers["Retry-After"]) <= 61
        right = await site.client.get("/api/runs", headers=bearer("reader"))
        assert right.status_code == 429
        page = await site.client.post("/login", data={"token": "wrong"})
        assert (page.status_code, "Too many wrong tokens" in page.text) == (429, True)


def test_only_so_many_addresses_are_remembered(monkeypatch):
    monkeypatch.setattr(Failures, "_ADDRESSES", 2)
    failures = Failures(limit=1)
    for client in "abc":
        failures.add(client)
    assert [bool(failures.wait(client)) for client in "abc"] == [False, True, True]


@pytest.mark.parametrize(
    ("peer", "base"),
    [
        ("203.0.113.9", "http://localhost"),
        ("127.0.0.1", "http://rebound.example"),
        ("127.0.0.1", "http://192.168.0.7"),
        ("::ffff:203.0.113.9", "http://localhost"),
    ],
)
async def test_without_tokens_only_this_machine_is_let_in(serving, peer, base):
    async with serving(peer=peer, base=base) as site:
        for path in ("/api/runs", "/api/openapi.json", "/", "/workflows"):
            assert (await site.client.get(path)).status_code == 403, path
        assert (await site.start("double", 1)).status_code == 403
        assert (await site.client.get("/health")).status_code == 200
        assert await site.runner.list() == []


@pytest.mark.parametrize(
    "base", ["http://127.0.0.1:8000", "http://[::1]:8000", "http://a.localhost"]
)
async def test_this_machine_has_several_names(serving, base):
    async with serving(base=base, peer="::1") as site:
        assert (await site.client.get("/api/runs")).status_code == 200


def test_other_names_are_not_this_machine():
    assert not is_loopback("localhost.example")
    assert not is_loopback("0.0.0.0")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://localhost:9999"},
    ],
)
async def test_what_a_page_of_another_site_sends_is_refused(serving, tokens, bearer, headers):
    async with serving() as site:
        refused = await site.client.post("/api/workflows/double/runs", json=1, headers=headers)
        assert (refused.status_code, refused.json()["type"]) == (
            403,
            "urn:plait:problem:cross-site",
        )
        for path in ("/workflows/double/start", "/runs/x/cancel", "/logout"):
            page = await site.client.post(path, data={"form_key": "x"}, headers=headers)
            assert (page.status_code, "another site" in page.text) == (403, True)
        assert await site.runner.list() == []
    async with serving(tokens=tokens) as site:
        # A browser that is logged in elsewhere sends no token by itself.
        shown = await site.client.post(
            "/api/workflows/double/runs", json=1, headers={**headers, **bearer("runner")}
        )
        assert shown.status_code == 202
        login = await site.client.post("/login", data={"token": "x"}, headers=headers)
        assert login.status_code == 403


async def test_a_session_alone_starts_nothing_through_the_api(serving, tokens):
    async with serving(tokens=tokens) as site:
        await site.client.post("/login", data={"token": "operator-" * 4})
        assert (await site.client.get("/api/runs")).status_code == 200
        assert (await site.start("double", 1)).status_code == 401


@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")
async def test_a_long_body_is_refused(serving):
    async with serving(limits=Limits(body_bytes=100)) as site:
        for content in (b"1" * 101, _chunks(b"1" * 60, b"1" * 60)):
            answer = await site.client.post(
                "/api/workflows/double/runs",
                content=content,
                headers={"Content-Type": "application/json"},
            )
            assert (answer.status_code, answer.json()["status"]) == (413, 413)
        form = await site.client.post("/runs/x/cancel", data={"form_key": "x" * 200})
        assert form.status_code == 413


@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")
async def test_a_slow_body_is_refused(serving):
    async def slow():
        yield b"1"
        await anyio.sleep(10)
        yield b"1"

    async with serving(limits=Limits(body_seconds=0.05)) as site:
        answer = await site.client.post(
            "/api/workflows/double/runs",
            content=slow(),
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 408


async def test_a_body_that_is_cut_short_is_no_failure_of_the_server(serving):
    async with serving() as site:
        sent = []

        async def receive():
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/api/workflows/double/runs",
            "query_string": b"",
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
            "client": None,
            "server": ("localhost", 80),
            "scheme": "http",
            "root_path": "",
        }
        await site.application(scope, receive, send)
        assert sent[0]["status"] == 400


async def test_long_headers_are_refused(serving):
    async with serving(limits=Limits(header_bytes=1000)) as site:
        assert (await site.client.get("/api/runs")).status_code == 200
        answer = await site.client.get("/api/runs", headers={"X-Long": "x" * 1000})
        assert (answer.status_code, answer.json()["title"]) == (
            431,
            "Request Header Fields Too Large",
        )
        assert (await site.client.get(f"/api/runs?workflow={'x' * 1000}")).status_code == 431


async def test_too_many_requests_are_refused(serving):
    async with serving(limits=Limits(rate=5, burst=3)) as site:
        answers = [await site.client.get("/health") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[-1].headers["Retry-After"] == "1"
        await anyio.sleep(0.25)
        assert (await site.client.get("/health")).status_code == 200


async def test_each_client_has_requests_of_its_own(serving, monkeypatch):
    from plait.server._limits import Buckets

    monkeypatch.setattr(Buckets, "_CLIENTS", 2)
    buckets = Buckets(rate=0.001, burst=1)
    assert [bool(buckets.take(client)) for client in "aabbcc"] == [False, True] * 3
    # Whoever was not heard of for longest is forgotten.
    assert not buckets.take("a")
    async with serving(limits=Limits(rate=None)) as site:
        assert (await site.client.get("/health")).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api/runs/..%2f..%2fetc%2fpasswd",
        "/api/runs/%2e%2e",
        "/api/runs/a%00b",
        "/api/runs/a%0d%0aSet-Cookie:%20x=1",
        "/api/runs/%ff",
        "/api/runs/a%2Fresult",
        "/api/runs//result",
        "/runs/%00",
        "/runs/..%2f..%2f",
        "/static/..%2f..%2f_app.py",
        "/static/../_app.py",
        "/static/%2e%2e/%2e%2e/_app.py",
        "/static//etc/passwd",
    ],
)
async def test_tricks_with_paths_find_nothing(serving, path):
    async with serving() as site:
        url = httpx.URL("http://localhost").copy_with(raw_path=path.encode())
        answer = await site.client.get(url)
        assert answer.status_code in (403, 404)
        assert "set-cookie" not in answer.headers or "x=1" not in answer.headers["set-cookie"]
        assert "import" not in answer.text


async def test_every_answer_has_the_headers_that_keep_browsers_safe(serving):
    async with serving() as site:
        for path in ("/", "/api/runs", "/nowhere", "/static/style.css"):
            headers = (await site.client.get(path)).headers
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert "script-src 'self'" in headers["Content-Security-Policy"]
            assert "unsafe" not in headers["Content-Security-Policy"]
            assert headers["X-Frame-Options"] == "DENY"


async def test_what_is_hidden_is_hidden_from_who_may_only_read(serving, tokens, bearer):
    async with serving(tokens=tokens) as site:
        await site.runner.run(shop.accounts, "ada", run_id="a", metadata={"api_key": "k-1"})
        for path in (
            "/api/runs/a",
            "/api/runs/a/result",
            "/api/runs/a/nodes",
            "/api/runs/a/stream",
        ):
            seen = (await site.client.get(path, headers=bearer("reader"))).text
            assert "hunter2" not in seen
            assert "k-1" not in seen
            whole = (await site.client.get(path, headers=bearer("runner"))).text
            assert "hunter2" in whole
        listed = await site.client.get("/api/runs", headers=bearer("reader"))
        assert listed.json()["runs"][0]["metadata"] == {"api_key": "[hidden]"}


async def test_no_payload_is_shown_where_none_is_to_be(serving, tokens, bearer):
    async with serving(tokens=tokens, redaction=Redaction(payloads=False)) as site:
        await site.runner.run(shop.accounts, "grace", run_id="a")
        for path in ("/api/runs/a", "/api/runs/a/nodes"):
            seen = (await site.client.get(path, headers=bearer("reader"))).text
            assert "grace" not in seen
        await site.client.post("/login", data={"token": "operator-" * 4})
        page = (await site.client.get("/runs/a")).text
        assert "grace" not in page
        assert "[hidden]" in page


async def test_an_error_of_the_server_tells_strangers_nothing(serving, monkeypatch):
    async with serving() as site:

        async def breaks(**_):
            raise RuntimeError("the password is hunter2")

        monkeypatch.setattr(site.runner, "list", breaks)
        transport = httpx.ASGITransport(site.application, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for path in ("/api/runs", "/"):
                answer = await client.get(path)
                assert answer.status_code == 500
                assert "hunter2" not in answer.text
                assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Token.of("t", "short"), "at least 16"),
        (lambda: Token.of("t", "x" * 16, scopes=[]), "has no scope"),
        (lambda: Token.of("t", "x" * 16, scopes=["all"]), "none of"),
        (lambda: Token("t", "x" * 64, frozenset(["read"])), "SHA-256"),
        (lambda: Limits(burst=0), "burst=0"),
    ],
)
def test_what_makes_no_sense_is_refused_when_it_is_configured(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_token_does_not_show_its_secret():
    token = Token.of("ci", "correct-horse-battery")
    assert "correct" not in repr(token)
    assert token.digest not in repr(token)


def test_tokens_are_read_from_a_file(tmp_path):
    file = tmp_path / "tokens.json"
    digest = Token.of("x", "correct-horse-battery").digest
    file.write_text(
        f'[{{"name": "a", "sha256": "{digest}", "scopes": ["read"]}},'
        f'{{"name": "b", "sha256": "{digest}", "scopes": ["run"], "expires_at": "2020-01-01"}}]'
    )
    first, second = tokens_in(file)
    assert (first.name, first.is_over(), second.is_over()) == ("a", False, True)
    for content in (
        "{",
        '[{"name": "a"}]',
        "3",
        '[{"name": "a", "sha256": "x", "scopes": ["read"]}]',
    ):
        file.write_text(content)
        with pytest.raises(ValueError, match="no list of tokens"):
            tokens_in(file)


async def _chunks(*parts):
    for part in parts:
        yield part
