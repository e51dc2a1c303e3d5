"""Runs and workflows are looked at, and acted on, from the shell."""

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

import errands
import httpx
import pytest
from cryptography.fernet import Fernet
from rich.text import Text
from typer.testing import CliRunner

from plait.cli._app import app
from plait.cli._durations import seconds_in
from plait.durable import DurableRunner, EncryptedCodec, FolderBlobStore, JsonCodec

COMMAND = [sys.executable, "-c", "from plait.cli import main; main()"]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A journal with a run that completed, one that failed, and one that waits."""
    file = tmp_path_factory.mktemp("kept") / "runs.db"
    for arguments in (
        ("errands:errand", "-i", '{"what": "tea"}', "--run-id", "done"),
        ("errands:stubborn", "--run-id", "failed"),
        ("errands:review", "-i", '"tea"', "--run-id", "waiting", "--no-wait"),
    ):
        CliRunner().invoke(app, ["run", *arguments, "--journal", f"sqlite:///{file}"])
    return file


@pytest.fixture
def runs(plait, kept, tmp_path):
    """The command, with a journal of its own that has those runs."""
    shutil.copy(kept, tmp_path / "runs.db")
    return plait


def test_runs_are_listed(runs):
    table = runs("runs", "list").stdout
    assert table.splitlines()[0].split() == ["RUN", "WORKFLOW", "STATUS", "STARTED", "WAITS", "FOR"]
    assert "seen" in table
    listed = json.loads(runs("runs", "list", "--json").stdout)
    assert [run["run_id"] for run in listed] == ["waiting", "failed", "done"]

    def found(*options):
        return [
            run["run_id"] for run in json.loads(runs("runs", "list", "--json", *options).stdout)
        ]

    assert found("--status", "failed", "--status", "completed") == ["failed", "done"]
    assert found("--workflow", "review", "--limit", 1) == ["waiting"]
    assert found("--before", "failed") == ["done"]
    assert found("--metadata", "user=ada") == []
    assert runs("runs", "list", "--status", "odd").exit_code == 2
    assert runs("runs", "list", "--limit", 0).exit_code == 2


def test_what_goes_through_a_pipe_is_not_cut_off(plait):
    run_id = "a-long-id-" * 12
    plait("run", "errands:bring", "-i", f'"{"tea " * 20}"', "--run-id", run_id)
    heading, line = plait("runs", "list").stdout.splitlines()
    assert line.split()[:3] == [run_id, "bring", "completed"]
    assert heading.endswith("WAITS FOR")
    assert line == line.rstrip()
    assert f'"brought {"tea " * 20}"' in plait("runs", "show", run_id).stdout


def test_on_a_terminal_long_ids_are_folded_and_lines_of_a_tree_cut(plait):
    run_id = "0123456789" * 9
    plait("run", "errands:bring", "-i", f'"{"tea " * 20}"', "--run-id", run_id)
    env = {"FORCE_COLOR": "1", "NO_COLOR": "1", "COLUMNS": "80"}

    def lines(*arguments):
        return Text.from_ansi(plait(*arguments, env=env).stdout).plain.splitlines()

    _, first, *others = lines("runs", "list")
    assert max(map(len, [first, *others])) <= 80
    assert "completed" in first
    assert "".join(line.split()[0] for line in [first, *others]) == run_id
    tree = lines("runs", "show", run_id)[-1]
    assert (len(tree), tree[-1]) == (80, "…")


def test_a_run_is_shown(runs):
    shown = runs("runs", "show", "waiting").stdout
    assert "waits for seen" in shown
    assert 'input  "tea"' in shown
    done = runs("runs", "show", "done").stdout
    assert 'input  {"what": "tea", "count": 1}' in done
    assert 'result "brought tea"' in done
    many = runs("run", "errands:fetch", "-i", '{"what": "tea", "count": 2}', "--run-id", "many")
    assert (many.exit_code, 'result ["tea", "tea"]' in runs("runs", "show", "many").stdout) == (
        0,
        True,
    )
    assert '1:bring  "brought tea"' in shown
    assert "ValueError: no such thing" in runs("runs", "show", "failed").stdout
    told = json.loads(runs("runs", "show", "failed", "--json").stdout)
    assert (told["status"], told["nodes"]["state"]) == ("failed", "failed")
    assert told["nodes"]["children"][0]["error"]["message"] == "no such thing"
    assert runs("runs", "show", "other").exit_code == 3


def test_a_run_is_followed_to_its_end(runs):
    done = runs("runs", "tail", "done")
    assert (done.exit_code, done.stdout.count("✓")) == (0, 3)
    failed = runs("runs", "tail", "failed")
    assert (failed.exit_code, "has failed" in failed.stderr) == (1, True)
    lines = [
        json.loads(line) for line in runs("runs", "tail", "done", "--json").stdout.splitlines()
    ]
    assert [line["order"] for line in lines] == [1, 2, 3]
    assert lines[0] == {"path": "errand/1:fetch", "state": "done", "order": 1, "result": ["tea"]}
    assert runs("runs", "tail", "other").exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["tail", "other"], 3),
        (["fork", "done", "--app", "errands:errand"], 0),
    ],
)
def test_a_shell_is_told_how_it_ended(runs, journal, arguments, code):
    command = [*COMMAND, "runs", *arguments, "--journal", journal]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "\x1b" not in done.stdout + done.stderr


def test_a_run_that_goes_on_is_followed_and_each_node_told_once(runs, journal):
    command = [*COMMAND, "runs", "tail", "waiting", "--journal", journal]
    with subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, text=True) as process:
        begin = process.stdout.readline()
        runs("runs", "signal", "waiting", "seen", "true")
        runs("run", "errands:review", "-i", '"tea"', "--run-id", "waiting")
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    told = [line.split()[1] for line in (begin + rest).splitlines()]
    assert (told.count("review/1:bring"), told[-1]) == (1, "review/2:seen#signal:seen")


def test_a_run_that_is_followed_may_be_left(runs, journal):
    command = [*COMMAND, "runs", "tail", "waiting", "--journal", journal]
    with subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, text=True) as process:
        assert "review/1:bring" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 4


def test_a_signal_is_sent(runs):
    sent = runs("runs", "signal", "waiting", "seen", "true", "--id", "s", "--json")
    assert json.loads(sent.stdout) == {"run_id": "waiting", "signal": "seen"}
    assert runs("runs", "signal", "done", "seen", "true").exit_code == 1
    assert runs("runs", "signal", "other", "seen").exit_code == 3
    assert runs("runs", "signal", "waiting", "seen", "{").exit_code == 2
    done = runs("run", "errands:review", "-i", '"tea"', "--run-id", "waiting")
    assert done.stdout == "true\n"


@pytest.fixture
def sealed(plait, journal, monkeypatch, tmp_path):
    """The command, told of a runner with a key and a blob store."""
    key = Fernet.generate_key()

    def invoke(*arguments):
        runner = DurableRunner(
            journal,
            codec=EncryptedCodec(JsonCodec(), [key]),
            blobs=FolderBlobStore(tmp_path / "blobs"),
            suspend_after=0.01,
            grace_seconds=0,
        )
        monkeypatch.setattr(errands, "sealed", runner, raising=False)
        return plait(*arguments, "--app", "errands:sealed")

    return invoke


def test_what_is_encrypted_is_read_with_the_runner_that_has_the_key(plait, sealed):
    question = f'"why{"?" * 100_000}"'
    command = ("run", "errands:ask", "-i", question, "--run-id", "a")
    assert sealed(*command, "--no-wait").exit_code == 4
    blind = plait("runs", "show", "a")
    assert (blind.exit_code, "no blob store" in blind.stderr) == (5, True)
    shown = sealed("runs", "show", "a")
    assert shown.stdout.startswith("a  waiting  ask\nwaits for answered\n")
    assert '"why???' in shown.stdout
    assert sealed("trace", "a").exit_code == 0

    # Nothing is written to the run that it could not read.
    assert "the payload is not JSON: " in plait("runs", "signal", "a", "answered", "because").stderr
    refused = plait("runs", "signal", "a", "answered", '"because"')
    assert (refused.exit_code, "only a runner with the codec" in refused.stderr) == (2, True)
    assert sealed("runs", "signal", "a", "answered", '"because"').exit_code == 0
    assert json.loads(sealed(*command).stdout).endswith("?? because")
    (tail,) = sealed("runs", "tail", "a").stdout.splitlines()
    assert tail.endswith('"because"')


def test_all_runs_under_way_are_held_against_the_code(plait, sealed, monkeypatch):
    monkeypatch.setattr("plait.cli._inspecting._AT_ONCE", 1)
    for run_id, invoke in (("a", plait), ("b", sealed), ("c", plait)):
        invoke("run", "errands:ask", "-i", '"why?"', "--run-id", run_id, "--no-wait")
    found = plait("verify", "errands:ask")
    # One that cannot be read hides none of the others.
    c, b, a = found.stdout.splitlines()
    assert (found.exit_code, c[:7], a[:7]) == (1, "c: fits", "a: fits")
    assert b.startswith("b: what run 'b' was started with cannot be decoded")


def test_what_only_another_codec_can_read_is_said_to_be(plait, sealed):
    sealed("run", "errands:walk", "-i", "1", "--run-id", "a")
    lines = plait("runs", "show", "a").stdout.splitlines()
    assert all("it is not JSON" in line for line in (lines[1], lines[2], lines[4]))


def test_a_run_is_cancelled(runs):
    assert "was asked to stop" in runs("runs", "cancel", "waiting").stdout
    assert "had ended" in runs("runs", "cancel", "done").stdout
    assert json.loads(runs("runs", "cancel", "done", "--json").stdout)["was_under_way"] is False
    stopped = runs("run", "errands:review", "-i", '"tea"', "--run-id", "waiting")
    assert "RunCancelledError" in stopped.stderr
    assert "was cancelled" in runs("runs", "tail", "waiting").stderr


def test_a_run_is_forked(runs):
    done = runs("runs", "fork", "done", "--app", "errands:errand", "--as", "again")
    assert done.stdout == '"brought tea"\n'
    before = ("--before", "errand/3:bring")
    done = runs("runs", "fork", "done", "--app", "errands:errand", "--json", *before)
    assert json.loads(done.stdout)["result"] == "brought tea"
    taken = runs("runs", "fork", "done", "--app", "errands:errand", "--as", "again")
    assert taken.exit_code == 2
    assert runs("runs", "fork", "other", "--app", "errands:errand").exit_code == 3
    assert runs("runs", "resume", "done", "--app", "errands:fail").exit_code == 2


def test_runs_are_exported(runs, tmp_path):
    lines = [json.loads(line) for line in runs("runs", "export", "done").stdout.splitlines()]
    assert [line["type"] for line in lines] == ["run", "record", "record", "record"]
    file = tmp_path / "all.jsonl"
    assert "lines in" in runs("runs", "export", "-o", file).stderr
    assert {json.loads(line)["run_id"] for line in file.read_text().splitlines()} == {
        "done",
        "failed",
        "waiting",
    }


def test_runs_are_pruned(runs):
    assert "0 runs" in runs("runs", "prune", "--older-than", "1d").stdout
    pruned = runs("runs", "prune", "--older-than", "0s", "--status", "failed", "--json")
    assert json.loads(pruned.stdout) == {"removed": 1}
    assert runs("runs", "prune", "--older-than", "long ago").exit_code == 2
    assert runs("runs", "prune", "--older-than", "1d", "--status", "running").exit_code == 2


def test_lengths_of_time():
    assert [seconds_in(text) for text in ("90s", "1.5h", "2w")] == [90, 5400, 1_209_600]


def test_without_a_journal_it_says_how_to_name_one(monkeypatch):
    monkeypatch.delenv("PLAIT_JOURNAL", raising=False)
    for arguments in (["runs", "list"], ["verify", "errands:errand"]):
        done = CliRunner().invoke(app, arguments)
        assert (done.exit_code, "--journal or PLAIT_JOURNAL" in done.stderr) == (2, True)


def test_a_shape_is_drawn(plait, tmp_path):
    text = plait("graph", "errands:review").stdout
    assert "├── bring  step" in text
    assert "└── seen  signal" in text
    assert plait("graph", "errands:review", "-f", "mermaid").stdout.startswith("flowchart TD")
    assert json.loads(plait("graph", "errands:review", "--json").stdout)["name"] == "review"
    file = tmp_path / "shape.svg"
    assert plait("graph", "errands:review", "-f", "svg", "-o", file).exit_code == 0
    assert ElementTree.parse(file).getroot().tag.endswith("svg")
    assert plait("graph", "errands:review", "-o", file).exit_code == 2


def test_code_is_held_against_runs(runs, monkeypatch):
    assert runs("verify", "errands:review").stdout.startswith("waiting: fits, 1 replayed, next is")
    assert "done: fits, 3 replayed\n" in runs("verify", "errands:errand", "done").stdout
    told = json.loads(runs("verify", "errands:review", "--json").stdout)
    assert told["fits"] is True
    assert "no run is under way" in runs("verify", "errands:errand").stderr
    changed = (errands.fail >> errands.bring).named("review")
    monkeypatch.setattr(errands, "review", changed)
    found = runs("verify", "errands:review")
    assert (found.exit_code, "review/1:" in found.stdout) == (1, True)
    told = json.loads(runs("verify", "errands:review", "--json").stdout)
    assert "review/1:" in told["error"]


def test_a_run_that_no_longer_fits_is_left_as_it_is(runs, monkeypatch):
    changed = (errands.fail >> errands.bring).named("review")
    monkeypatch.setattr(errands, "review", changed)
    done = runs("runs", "signal", "waiting", "seen", "true")
    done = runs("run", "errands:review", "-i", '"tea"', "--run-id", "waiting")
    assert (done.exit_code, "review/1:" in done.stderr) == (1, True)


def test_schedules_are_told(plait):
    table = plait("schedules", "errands:runner").stdout
    assert "hourly" in table
    told = json.loads(plait("schedules", "errands:runner", "--json").stdout)
    assert (told[0]["workflow"], len(told[0]["next"])) == ("bring", 3)
    assert plait("schedules", "errands:errand").exit_code == 2


def test_it_tells_what_is_installed_and_whether_the_journal_is_in_order(runs, tmp_path):
    told = runs("doctor").stdout
    assert "1 completed, 1 failed, 1 waiting" in told
    assert "cronsim" in told
    well = json.loads(runs("doctor", "--json").stdout)
    assert well["journal"]["problems"] == []
    (tmp_path / "runs.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    broken = runs("doctor")
    assert broken.exit_code == 1
    assert runs("doctor", "--journal", "sqlite:///nowhere.db").exit_code == 3
    assert runs("doctor", "--journal", "").exit_code == 0


def test_it_tells_what_to_install(runs, monkeypatch):
    def version(name):
        if name == "cronsim":
            raise metadata.PackageNotFoundError(name)
        return found(name)

    found = metadata.version
    monkeypatch.setattr(metadata, "version", version)
    assert 'missing cronsim: pip install "plait[schedules]"' in runs("doctor").stdout


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["errands:errand", "errands:runner"], "name one runner"),
        (["errands:number"], "cannot compose"),
    ],
)
def test_what_cannot_be_executed_is_refused(plait, targets, message):
    done = plait("worker", *targets)
    assert (done.exit_code, message in done.stderr) == (2, True)


def test_a_worker_is_not_given_what_its_runner_has_not(plait):
    done = plait("worker", "errands:runner", "--capability", "gpu")
    message = "the runner 'errands:runner' has no 'gpu' among its capabilities="
    assert (done.exit_code, message in done.stderr) == (2, True)


def test_an_app_is_wanted_where_a_run_is_to_be_executed(plait, journal):
    from plait.cli._loading import runner_at
    from plait.cli._output import CommandError

    with pytest.raises(CommandError, match="name the workflows"):
        runner_at([], journal)
    assert runner_at(["errands:runner"], "") is errands.runner


def test_a_token_is_made(plait, tmp_path):
    file = tmp_path / "tokens.json"
    made = plait("token", "ci", "--scope", "read", "--file", file)
    assert len(made.stdout.strip()) >= 32
    assert made.stdout.strip() not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    again = plait("token", "ci", "--file", file)
    assert (again.exit_code, "already" in again.stderr) == (2, True)
    told = json.loads(plait("token", "cd", "--expires-in", "90d", "--json").stdout)
    assert told["entry"]["expires_at"] is not None
    assert "sha256" in plait("token", "x").stderr
    assert plait("token", "x", "--scope", "all").exit_code == 2


def test_a_server_that_others_can_reach_wants_tokens(plait):
    done = plait("serve", "errands:errand", "--host", "0.0.0.0")
    assert (done.exit_code, "no tokens are configured" in done.stderr) == (2, True)


def test_a_runner_is_served_until_it_is_asked_to_end(plait, journal, tmp_path):
    tokens = tmp_path / "tokens.json"
    secret = plait("token", "ci", "--file", tokens).stdout.strip()
    command = [*COMMAND, "serve", "errands:ask", "errands:dawdle", "--port", "0"]
    command += ["--journal", journal, "--tokens", str(tokens)]
    with _started(command) as process:
        address = process.stdout.readline().split()[-1]
        headers = {"Authorization": f"Bearer {secret}", "Prefer": "wait=20"}
        with httpx.Client(base_url=address, headers=headers) as client:
            done = client.post("/api/workflows/dawdle/runs", json=0.01)
            assert done.json()["result"] == "at last"
            asked = client.post("/api/workflows/ask/runs", json="why?", headers={"Prefer": "none"})
            assert asked.status_code == 202
            slow = client.post(
                "/api/workflows/dawdle/runs", json=1.0, headers={"Prefer": "respond-async"}
            )
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    statuses = {run["run_id"]: run["status"] for run in _listed(plait)}
    assert statuses[slow.json()["run_id"]] == "completed"
    assert statuses[asked.json()["run_id"]] in ("running", "waiting")


def test_a_server_whose_journal_is_broken_ends(tmp_path):
    file = tmp_path / "runs.db"
    file.write_text("this is no journal, and never was one" * 100)
    command = [*COMMAND, "serve", "errands:errand", "--port", "0", "--journal", f"sqlite:///{file}"]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (5, "")


def test_a_reader_may_stop_reading(runs, journal):
    with _started([*COMMAND, "runs", "export", "--journal", journal]) as process:
        process.stdout.close()
        assert process.stderr.read() == ""


def test_an_application_is_served(tmp_path):
    with _started([*COMMAND, "serve", "errands:served", "--port", "0", "--json"]) as process:
        address = json.loads(process.stdout.readline())["address"]
        assert httpx.get(f"{address}/health").json()["status"] == "ok"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "only this machine is let in" in errors


def test_a_worker_executes_what_others_started(plait, journal):
    plait("run", "errands:ask", "-i", '"why?"', "--run-id", "a", "--no-wait")
    with _started([*COMMAND, "worker", "errands:ask", "--journal", journal, "--json"]) as process:
        assert json.loads(process.stdout.readline()) == {"workflows": ["ask"]}
        plait("runs", "signal", "a", "answered", '"because"')
        assert plait("runs", "tail", "a").exit_code == 0
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "taking no more runs\n")


def test_a_worker_says_what_it_has_that_steps_need(plait, journal):
    plait("run", "errands:draw", "-i", '"a tree"', "--run-id", "a", "--no-wait")
    assert "waits for a runner with gpu" in plait("runs", "show", "a").stdout
    assert json.loads(plait("runs", "show", "a", "--json").stdout)["waits"][0]["needs"] == ["gpu"]
    command = [*COMMAND, "worker", "errands:draw", "--journal", journal, "--capability", "gpu"]
    with _started(command) as process:
        assert plait("runs", "tail", "a").exit_code == 0
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert json.loads(plait("runs", "show", "a", "--json").stdout)["outcome"] == "drew a tree"


def _started(command):
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=HERE, env=env, stdout=pipe, stderr=pipe, text=True)


def _listed(plait):
    return json.loads(plait("runs", "list", "--json").stdout)
