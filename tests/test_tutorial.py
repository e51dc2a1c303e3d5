"""The tutorial, done as its reader does it: in a new folder, with the wheel, line by line."""

import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TUTORIAL = (ROOT / "docs/tutorial.md").read_text()
BLOCK = re.compile(
    r'^```(?:python title="(?P<file>\S+)"|console)\n(?P<text>.*?)^```', re.DOTALL | re.MULTILINE
)
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)

# The reader's pip finds the packages in an index, the test's finds them where it runs itself.
PIP = 'pip() { "$UV" pip install --quiet --offline --no-deps --python .venv "$WHEEL"; }\n'
PYTEST = 'pytest() { python -m pytest -p no:asyncio "$@"; }\n'  # with the wheel's plait
VENV = 'python3() { "$UV" venv --quiet --offline --python "$PYTHON" .venv; }\n'
DONE = "\x1e"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    uv = shutil.which("uv") or pytest.fail("uv, which builds the wheel, is not there")
    folder = tmp_path_factory.mktemp("wheel")
    build = [uv, "build", "--wheel", "--quiet", "--out-dir", folder, ROOT]
    subprocess.run(build, check=True, stdin=subprocess.DEVNULL)
    (wheel,) = folder.glob("*.whl")
    return wheel


def read(tutorial):
    """What the page has its reader do: a script, its commands, and what each is to print."""
    script, commands, outputs = [], [], []
    for block in BLOCK.finditer(tutorial):
        if block["file"]:
            script.append(f"cat > {block['file']} <<'END'\n{block['text']}END")
            continue
        for command, output in COMMAND.findall(block["text"]):
            script.append(f"{command}\nprintf '{DONE}\\n'")
            commands.append(command)
            outputs.append(output)
    return "\n".join(script), commands, outputs


def alike(output):
    """An output without what differs each time: folders, moments, durations, notes of the shell."""
    output = re.sub(r"\S*/(?=wrong\.py)", "", output)
    output = re.sub(r"\d{4}-\d\d-\d\d[ T][\d:]{8}(\.\d+Z)?", "MOMENT", output)
    output = re.sub(r"in \d+\.\d+s", "in SECONDS", output)
    lines = [line.rstrip() for line in output.splitlines()]
    return [line for line in lines if not re.search(r": line \d+: +\d+ (Killed|Terminated)", line)]


@pytest.mark.timeout(300)
def test_each_command_prints_what_the_page_says(wheel, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    script, commands, outputs = read(TUTORIAL.replace(":8000", f":{port}"))
    script = script.replace("plait serve ", f"plait serve --port {port} ")
    # The wheel's plait is measured where it lies in this repository.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("COVERAGE_", "PLAIT_"))}
    site = sysconfig.get_path("purelib")
    bin = sysconfig.get_path("scripts")
    done = subprocess.run(
        ["bash", "-c", f'{VENV}{PIP}{PYTEST}export PATH="$PATH:{bin}"\n{script}'],
        cwd=tmp_path,
        env=environment
        | {
            "PYTHON": sys.executable,
            "PYTHONPATH": site,
            "UV": shutil.which("uv"),
            "WHEEL": str(wheel),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    printed = done.stdout.split(f"{DONE}\n")
    assert len(printed) == len(commands) + 1, done.stdout
    for command, expected, actual in zip(commands, outputs, printed, strict=False):
        assert alike(actual) == alike(expected), f"$ {command}\n{actual}"
