"""A user's project, made from scratch with the wheel."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

# Plugins that these sessions have no use for, and that take longer to import than all else.
LIGHT = [f"-pno:{plugin}" for plugin in ("cacheprovider", "hypothesispytest", "schemathesis")]
ROOT = Path(__file__).parent.parent.parent

FAILING = """
import anyio
import pytest

from plait import MockPrimitive, RetryPrimitive, step
from plait.testing import VirtualClock, assert_crash_safe

pytestmark = pytest.mark.anyio
calls = []


@pytest.fixture
def anyio_backend():
    return "asyncio"


@step
async def charge(total):
    calls.append(total)


async def test_mock():
    mock = MockPrimitive("charge", side_effect=[OSError, "paid"])
    async with VirtualClock():
        await RetryPrimitive(mock)(42)
    mock.assert_called_once_with(42)


async def test_crash():
    await assert_crash_safe(charge.named("orders"), 42, setup=calls.clear, state=lambda: calls)


async def test_deadlock():
    gate = anyio.Event()

    @step
    async def ship(_):
        await gate.wait()

    async with VirtualClock(patience_seconds=0.05):
        await (step(str) >> ship).named("orders")(42)
"""

MESSAGES = [
    "AssertionError: charge was to be called once with 42; it was called 2 times, with",
    "  1. 42 at charge/attempt 1",
    "  2. 42 at charge/attempt 2",
    "plait.testing.CrashSafetyError: 'orders' is not crash-safe: 1 of 3 kills made a difference",
    "",
    "killed at write 2, the record of 'orders', and carried on:",
    "  without a kill the state is",
    "    [42]",
    "  with it",
    "    [42, 42]",
    "A step that was killed before its record was written is executed again, and so is its effect: "
    "pass context.idempotency_key to what drops a repeated request, look before, or make it "
    "at_most_once=True.",
    "plait.testing.DeadlockError: nothing can happen any more: no timer is set, no thread is at "
    "work, and",
    "  task 'Task-1' at 'orders/2:ship' waits in test_deadlock.<locals>.ship "
    "(test_failing.py:38): await gate.wait()",
]


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """A folder with the wheel installed in it: plain Python, so that unpacking installs it."""
    uv = shutil.which("uv") or pytest.fail("uv, which builds the wheel, is not there")
    folder = tmp_path_factory.mktemp("wheel")
    build = [uv, "build", "--wheel", "--quiet", "--out-dir", folder, ROOT]
    subprocess.run(build, check=True, stdin=subprocess.DEVNULL)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def project(tmp_path, site):
    """Runs pytest in a folder of its own, with the wheel's plait."""
    # What the wheel holds is measured where it lies in this repository.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}

    def run(tests, *options):
        (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
        for name, text in tests.items():
            (tmp_path / name).write_text(text)
        return subprocess.run(
            [sys.executable, "-m", "pytest", *LIGHT, *options],
            cwd=tmp_path,
            env=environment | {"PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_the_documented_tests_pass(project, site):
    text = (ROOT / "docs/testing.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    where = f"import plait\n\n\ndef test_wheel():\n    assert {str(site)!r} in plait.__file__\n"
    tests = {"test_documented.py": "\n\n".join(blocks), "test_wheel.py": where}
    done = project(tests, "-q", "-p", "no:asyncio")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d+ passed, \d+ skipped in", done.stdout, re.MULTILINE), done.stdout


def test_failure_messages_read_well(project):
    done = project({"test_failing.py": FAILING}, "-q", "-p", "no:asyncio", "--tb=short")
    told = [line[1:] for line in done.stdout.splitlines() if line.startswith("E ")]
    shown = [re.sub(r"'Task-\d+'", "'Task-1'", line) for line in told]
    assert [line.strip() for line in shown] == [line.strip() for line in MESSAGES]
