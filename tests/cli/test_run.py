"""Workflows are run from the shell."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import errands
import pytest

COMMAND = [sys.executable, "-c", "from plait.cli import main; main()"]
HERE = Path(__file__).parent


def test_a_workflow_is_run_in_process(plait):
    done = plait("run", "errands:errand", "-i", '{"what": "tea", "count": 2}', "--journal", "")
    assert (done.exit_code, done.stdout) == (0, '"brought tea tea"\n')
    assert plait("runs", "list").exit_code == 3


def test_an_input_comes_from_a_file_or_through_a_pipe(plait, tmp_path):
    file = tmp_path / "input.json"
    file.write_text('{"what": "salt"}')
    for given, stdin in ((f"@{file}", None), ("-", '{"what": "salt"}')):
        done = plait("run", "errands:errand", "-i", given, "--json", given=stdin)
        assert json.loads(done.stdout)["result"] == "brought salt"


@pytest.mark.parametrize("journal_options", [["--journal", ""], []])
def test_a_failure_says_what_and_where(plait, journal_options):
    done = plait("run", "errands:stubborn", "--run-id", "s", *journal_options)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "plait: ValueError: no such thing" in done.stderr
    assert "attempt 2 of 2" in done.stderr
    told = plait("run", "errands:stubborn", "--json", *journal_options)
    assert (told.exit_code, told.stderr) == (1, "")
    failed = json.loads(told.stdout)
    assert (failed["type"], failed["error"]) == ("ValueError", "no such thing")


@pytest.mark.parametrize(
    ("target", "given", "code", "message"),
    [
        ("errands:errand", "{", 2, "no input of 'errand'"),
        ("errands:errand", '{"what": 3}', 2, "what: Input should be a valid string"),
        ("errands:errand", "@missing.json", 3, "'missing.json' cannot be read: No such file"),
        ("errands:errand", "@.", 2, "'.' cannot be read"),
        ("errands", "1", 2, "not of the form module:name"),
        (":errand", "1", 2, "not of the form module:name"),
        ("errands:nothing", "1", 3, "has no 'nothing'"),
        ("nowhere:errand", "1", 3, "no module 'nowhere'"),
        ("errands:number", "1", 2, "cannot compose 3"),
        ("errands:runner", "1", 2, "is a runner; name a workflow, and the runner with --app"),
    ],
)
def test_what_is_wrong_is_said(plait, target, given, code, message):
    done = plait("run", target, "-i", given)
    assert done.exit_code == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("brittle_import", "\nimport not_installed_anywhere", "No module named"),
        ("brittle_code", "\nint('x')", "ValueError: invalid literal"),
        ("brittle_syntax", "\ndef (", "SyntaxError: invalid syntax"),
    ],
)
def test_a_module_that_fails_to_import_shows_where(
    plait, tmp_path, monkeypatch, name, code, message
):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"{name}.py"
    file.write_text(code)
    done = plait("run", f"{name}:flow")
    assert (done.exit_code, message in done.stderr) == (2, True)
    assert f"{file.name}, line 2)" in done.stderr


def test_a_run_goes_on_by_its_id(plait):
    arguments = ("run", "errands:errand", "-i", '{"what": "tea"}', "--run-id", "e1")
    errands.is_down[0] = True
    assert plait(*arguments).exit_code == 1
    errands.is_down[0] = False
    assert plait(*arguments).exit_code == 1
    resumed = plait("runs", "resume", "e1", "--app", "errands:errand")
    assert resumed.stdout == '"brought tea"\n'
    assert plait(*arguments, "--json").stdout == (
        '{"run_id": "e1", "status": "completed", "result": "brought tea"}\n'
    )
    other = plait("run", "errands:errand", "-i", '{"what": "salt"}', "--run-id", "e1")
    assert (other.exit_code, "another input" in other.stderr) == (2, True)


def test_a_run_that_waits_is_left(plait):
    arguments = ("run", "errands:ask", "-i", '"why?"', "--run-id", "a", "--no-wait")
    done = plait(*arguments)
    assert (done.exit_code, "has not ended yet" in done.stderr) == (4, True)
    assert plait("runs", "signal", "a", "answered", '"because"').exit_code == 0
    done = plait(*arguments)
    assert (done.exit_code, done.stdout) == (0, '"why? because"\n')


def test_a_broken_journal_has_an_exit_code_of_its_own(plait, tmp_path):
    (tmp_path / "runs.db").write_text("this is no journal, and never was one" * 100)
    done = plait("run", "errands:errand", "-i", '{"what": "tea"}')
    assert done.exit_code == 5
    assert plait("run", "errands:errand", "-i", "{}", "--journal", "redis://x").exit_code == 2


@pytest.mark.parametrize(
    ("target", "given", "shown"),
    [
        ("errands:errand", '{"what": "tea"}', ["✓ errand", "✓ 1:fetch", "✓ 3:bring"]),
        ("errands:stubborn", "1", ["✗ stubborn", "attempt 2", "ValueError: no such thing"]),
        ("errands:walk", "20", ["✓ walk", "… 8 before", "20:one"]),
        ("errands:dawdle", "0.3", ["● dawdle", "✓ dawdle"]),
    ],
)
@pytest.mark.parametrize("journal_options", [["--journal", ""], []])
def test_a_person_sees_a_tree(plait, target, given, shown, journal_options):
    env = {"FORCE_COLOR": "1", "NO_COLOR": "1", "COLUMNS": "100"}
    done = plait("run", target, "-i", given, *journal_options, env=env)
    for text in shown:
        assert text in done.stderr
    quiet = plait("run", target, "-i", given, "-q", *journal_options, env=env)
    assert "✓" not in quiet.stderr


def test_a_person_sees_what_is_waited_for_and_how_far_it_is(plait):
    from rich.console import Console

    from plait.cli._watching import Watcher, watching
    from plait.primitives import WorkflowContext

    watcher = Watcher(None)
    console = Console(width=100, force_terminal=True, no_color=True, record=True)

    async def look(_: object) -> None:
        console.print(watcher)

    from plait import step, workflow

    @workflow
    async def trip(_: object, context: WorkflowContext) -> str:
        context.progress(1, 4, "packing")
        await context.step("look", step(look), None)
        context.progress(2)
        context.report("retry", attempt=1, wait_seconds=2.0)
        context.report("other")
        await context.step("look", step(look), None)
        return await context.wait_for("here", str)

    context = WorkflowContext()
    context._runtime = watcher
    context.signal("here", "home")
    assert trip.run_sync(None, context) == "home"
    text = console.export_text()
    assert "packing" in text
    assert "1 of 4" in text
    assert "retry in 2.0 s" in text
    with watching(Console(), is_shown=True):
        assert WorkflowContext()._runtime is None


def test_an_interrupted_run_is_suspended_and_goes_on(plait, journal):
    arguments = ["run", "errands:ask", "-i", '"why?"', "--run-id", "a", "--json"]
    with subprocess.Popen(
        [*COMMAND, *arguments, "--journal", journal], cwd=HERE, stdout=subprocess.PIPE, text=True
    ) as process:
        _until_begun(plait)
        process.send_signal(signal.SIGTERM)
        told, _ = process.communicate(timeout=60)
    assert process.returncode == 4
    assert json.loads(told)["status"] == "suspended"
    assert plait("runs", "signal", "a", "answered", '"because"').exit_code == 0
    assert json.loads(plait(*arguments).stdout)["result"] == "why? because"


def test_a_pipe_gets_no_colours(journal):
    done = subprocess.run(
        [*COMMAND, "run", "errands:stubborn"], cwd=HERE, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "\x1b" not in done.stderr


def test_it_completes_and_tells_its_version(plait):
    assert plait("--version").stdout.startswith("plait ")
    assert "serve" in plait("--help").stdout
    shown = subprocess.run(
        [*COMMAND, "--show-completion", "bash"], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0


def test_without_its_extra_it_says_what_to_install(monkeypatch):
    from plait.cli import main

    monkeypatch.setitem(sys.modules, "plait.cli._app", None)
    with pytest.raises(SystemExit, match="pip install"):
        main()


def _until_begun(plait):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = plait("runs", "list", "--json")
        if found.exit_code == 0 and json.loads(found.stdout):
            return
        time.sleep(0.1)
    pytest.fail("it never began")
