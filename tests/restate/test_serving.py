"""What can be served to a Restate server, and the command that does it."""

import re
import subprocess
import sys
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from plait import ConcurrencyLimitPrimitive, RetryPrimitive, step, workflow
from plait.durable import EncryptedCodec, JsonCodec, TransactionStep
from plait.durable.restate import RestateClient, UnsupportedOnRestateError, app
from plait.recovery import RetryBudget

HERE = Path(__file__).parent
length = step(len)
KEY = "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA="


@workflow(name="two words")
async def two_words(text: str) -> int:
    return await length(text)


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (length >> TransactionStep(lambda n, connection: n, name="book"), "a journal of plait's"),
        (RetryPrimitive(length, budget=RetryBudget()), "a RetryBudget is this process's own"),
        (length >> step(needs="gpu")(str), "needs= is for plait's own workers"),
        (ConcurrencyLimitPrimitive(length >> str, 1), "more than one step here"),
        (ConcurrencyLimitPrimitive(step(at_most_once=True)(len), 1), "may run at most once"),
    ],
    ids=["transaction", "budget", "needs", "limit", "at most once"],
)
def test_workflow_that_restate_cannot_carry_is_refused(refused, reason):
    with pytest.raises(UnsupportedOnRestateError, match=reason):
        app([refused.named("refused")])


def test_name_that_no_service_can_have_is_refused():
    with pytest.raises(ValueError, match=r"'two words' cannot be a service.*use \.named"):
        app([two_words])


def test_two_versions_are_not_served_at_one_address():
    with pytest.raises(ValueError, match="two workflows are named 'len'"):
        app([length, step(name="len")(str)])


def test_application_takes_options():
    key = "publickeyv1_w7YHemBctH5Ck2nQRQ47iBBqhNHy4FV7t2Usbye2A6f"
    application = app(
        [length],
        retention=timedelta(days=7),
        inactivity_timeout=timedelta(minutes=5),
        identity_keys=[key],
    )
    assert callable(application)


@pytest.mark.anyio
async def test_code_in_the_document_runs(server, tmp_path, monkeypatch):
    document = (HERE.parent.parent / "docs" / "restate.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", document, re.DOTALL | re.MULTILINE)
    code = "\n".join(blocks).replace("http://localhost:8080", server.url)
    (tmp_path / "documented_shop.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with served(server, tmp_path, "documented_shop:application"):
        import documented_shop

        assert await documented_shop.main() == "charged 99.50"


@pytest.mark.anyio
@pytest.mark.parametrize("target", ["workflows", "application"])
async def test_command_serves_workflows(server, target, tmp_path):
    (tmp_path / "shop.py").write_text(SHOP)
    named = ["shop:pack", "shop:send"] if target == "workflows" else ["shop:application"]
    with served(server, tmp_path, *named):
        codec = EncryptedCodec(JsonCodec(), [KEY]) if target == "application" else None
        async with RestateClient(server.url, codec=codec) as client:
            assert await client.run(step(name="pack")(str.upper), "tea") == "TEA"


@contextmanager
def served(server, folder, *targets):
    """Served by the command, and registered; it ends by itself when it is told to."""
    plait = Path(sys.executable).parent / "plait"
    command = [plait, "serve", "--engine", "restate", "--port", "0", *targets]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=folder, text=True) as process:
        said = process.stdout.readline()
        address = said.removeprefix("serving to Restate at ").strip()
        server.register(address)
        yield
        process.terminate()
        assert process.wait(10) == 0


SHOP = f"""
from plait import step
from plait.durable import EncryptedCodec, JsonCodec
from plait.durable.restate import app

pack = step(name="pack")(str.upper)
send = step(name="send")(str.lower)
application = app([pack], codec=EncryptedCodec(JsonCodec(), ["{KEY}"]))
"""
