"""When the nodes of a run began and ended, from the shell."""

import json
import sqlite3
import subprocess
import sys
from datetime import datetime

import errands
import pytest
from rich.cells import cell_len

from plait.cli._output import Exit

COMMAND = [sys.executable, "-c", "from plait.cli import main; main()"]
CREATED = 1_800_000_000.0
STARTED = "2027-01-15 08:00:00 UTC"


@pytest.fixture
def set_times(journal):
    """Say when a run began and ended, and for each of its records when, and how long it took."""

    def set_times(run_id, ended, **times):
        connection = sqlite3.connect(journal.removeprefix("sqlite:///"))
        connection.execute(
            "UPDATE runs SET created = ?, updated = ? WHERE run_id = ?",
            (CREATED, CREATED + ended, run_id),
        )
        for name, (at, seconds) in times.items():
            connection.execute(
                "UPDATE records SET at = ?, seconds = ? WHERE path LIKE ? AND run ="
                " (SELECT key FROM runs WHERE run_id = ?)",
                (CREATED + at, seconds, f"%{name.replace('_', ' ')}", run_id),
            )
        connection.commit()
        connection.close()

    return set_times


def lines(result):
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_a_run_is_a_tree_with_a_bar_for_the_time_of_each_node(plait, set_times):
    plait("run", "errands:errand", "-i", '{"what": "tea"}', "--run-id", "done")
    set_times("done", 4, fetch=(1, 1), join=(3, 2), bring=(4, 1))
    shown = lines(plait("trace", "done", env={"COLUMNS": "41"}))
    assert shown == [
        f"done  completed  errand  {STARTED}",
        "✓ errand    ━━━━━━━━━━━━━━━━━━━━ 4.00 s",
        "✓   1:fetch ━━━━━                1.00 s",
        "✓   2:join       ━━━━━━━━━━      2.00 s",
        "✓   3:bring                ━━━━━ 1.00 s",
    ]


def test_failed_attempts_say_why(plait):
    plait("run", "errands:stubborn", "--run-id", "failed")
    shown = lines(plait("trace", "failed"))
    assert shown[0].startswith("failed  failed  ")
    attempts = [number for number, line in enumerate(shown) if "attempt " in line]
    assert len(attempts) >= 2
    for number in attempts:
        assert shown[number].startswith("✗")
        assert shown[number + 1].strip() == "ValueError: no such thing"
    # Once for each attempt, and not again for the nodes above, which the last one passed.
    assert sum("no such thing" in line for line in shown) == len(attempts)


def test_what_has_not_ended_has_a_bar_up_to_now(plait):
    plait("run", "errands:review", "-i", '"tea"', "--run-id", "waiting", "--no-wait")
    shown = lines(plait("trace", "waiting"))
    assert shown[1].startswith("waits for ")
    assert shown[2].startswith("◌ review")
    assert shown[2].endswith("waiting")
    assert shown[-1].startswith("◌")


def test_times_as_json(plait, set_times):
    plait("run", "errands:stubborn", "--run-id", "failed")
    told = json.loads(plait("trace", "failed", "--json").stdout)
    assert (told["run_id"], told["status"], told["trace_ids"]) == ("failed", "failed", [])
    root = told["nodes"]
    began, ended = (datetime.fromisoformat(root[name]) for name in ("began", "ended"))
    assert began <= ended
    assert root["error"]

    def walk(node):
        yield node
        for child in node["children"]:
            yield from walk(child)

    assert {node["attempt"] for node in walk(root)} >= {1, 2}


def test_an_unknown_run_and_journal_are_not_found(plait, tmp_path):
    plait("run", "errands:errand", "-i", '{"what": "tea"}', "--run-id", "done")
    refused = plait("trace", "nobody")
    assert refused.exit_code == Exit.NOT_FOUND
    assert "there is no run 'nobody'" in refused.stderr
    refused = plait("trace", "nobody", "--json")
    assert refused.exit_code == Exit.NOT_FOUND
    assert json.loads(refused.stdout)["exit_code"] == Exit.NOT_FOUND
    missing = plait("trace", "done", "--journal", f"sqlite:///{tmp_path}/none.db")
    assert missing.exit_code == Exit.NOT_FOUND


def test_names_and_errors_take_no_more_than_their_room(plait):
    plait("run", "errands:loud", "--run-id", "loud")
    for columns in (20, 40, 80):
        shown = lines(plait("trace", "loud", env={"COLUMNS": str(columns)}))
        assert "…" in shown[2]
        assert "…" in shown[3]
        assert not any("\x1b" in line for line in shown)
        assert all(cell_len(line) <= max(columns, 36) for line in shown[1:])


def test_a_run_that_was_traced_names_its_traces(journal, tmp_path):
    code = f"""
import anyio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
import errands
from plait.durable import DurableRunner

async def main():
    async with DurableRunner({journal!r}, workflows=[errands.errand]) as runner:
        with trace.get_tracer("test").start_as_current_span("outside") as span:
            await runner.run(errands.errand, errands.Errand("tea"), run_id="traced")
        print(f"{{span.get_span_context().trace_id:032x}}")

anyio.run(main)
"""
    folder = errands.__file__.rpartition("/")[0]
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    trace_id = made.stdout.strip()
    command = [*COMMAND, "trace", "traced", "--journal", journal]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == f"trace {trace_id}"
    told = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout
    assert json.loads(told)["trace_ids"] == [trace_id]
