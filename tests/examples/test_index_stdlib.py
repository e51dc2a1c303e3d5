"""The example `index_stdlib.py`, run as its user runs it: each run is a process of its own."""

import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import anyio
import pytest

from plait.durable import SqliteJournal

EXAMPLE = Path(__file__).parents[2] / "examples" / "index_stdlib.py"
STDLIB = Path(sysconfig.get_path("stdlib"))
PACKAGES = ["asyncio", "collections", "concurrent", "email", "json", "logging", "unittest", "xml"]
UNREADABLE = {
    "broken/bytes.py": b"name = 'caf\xe9'\n",
    "broken/coding.py": b"# coding: no-such-coding\n",
    "broken/null.py": b"name = 1\0\n",
    "broken/syntax.py": b"def broken(:\n",
    "broken/unfinished.py": b"name = (\n",
    "zzz.py": b"print 'to be'\n",
}
BRANCHES = {"parse", "count_tokens", "collect_docstrings"}
STEPS = BRANCHES | {"merge", "write_rows"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Some packages of the standard library, and files that nobody can read."""
    root = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "test", "tests", "mock.py")
        shutil.copytree(STDLIB / package, root / package, ignore=ignored)
    (root / "broken").mkdir()
    for module, text in UNREADABLE.items():
        (root / module).write_bytes(text)
    return root


@pytest.fixture(scope="module")
def modules(source):
    return sorted(path.relative_to(source).as_posix() for path in source.rglob("*.py"))


@pytest.fixture(scope="module")
def uninterrupted(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    finished = index(folder, "--source", source)
    assert finished.returncode == 0, finished.stderr
    return folder, finished


def index(folder, *options, run_id="job"):
    chosen = [] if run_id is None else ["--run-id", run_id]
    query = ["--query", "event loop"]
    command = [sys.executable, EXAMPLE, "--folder", folder, *chosen, *query, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


def totals(finished):
    """The totals, the files that cannot be read, and the query's answer: how the output ends."""
    _, found, after = finished.stdout.partition("totals:")
    assert found, finished.stderr
    return after


def effects(folder):
    lines = (folder / "job" / "effects.log").read_text("utf-8").splitlines()
    return [tuple(line.split("\t")) for line in lines]


def recorded(folder, modules):
    """The steps of files, as (step, module), that the journal has the results of."""

    async def read():
        journal = SqliteJournal(folder / "job" / "journal.db")
        await journal.open()
        run = await journal.find("job")
        records = await journal.records(run.key)
        await journal.close()
        return [record.path for record in records]

    found = (re.search(r"\[(\d+)\].*:(\w+)$", path) for path in anyio.run(read))
    # A parallel that failed has a record of its own, so that it is not started again.
    return {(step[2], modules[int(step[1])]) for step in found if step and step[2] != "parallel"}


def test_an_uninterrupted_run_executes_each_step_once(uninterrupted, modules):
    folder, finished = uninterrupted
    expected = Counter(
        (step, module)
        for module in modules
        for step in (BRANCHES if module in UNREADABLE else STEPS) | {"done"}
    )
    assert Counter(effects(folder)) == expected
    assert f"effects: 0 of {len(modules)} files found done" in finished.stdout
    assert recorded(folder, modules) == {effect for effect in expected if effect[0] != "done"}


def test_reports_what_cannot_be_decoded_or_parsed(uninterrupted, modules):
    _, finished = uninterrupted
    assert f"totals: {len(modules)} files, {len(UNREADABLE)} unreadable;" in finished.stdout
    assert set(re.findall(r"^unreadable: (\S+): ", finished.stdout, re.MULTILINE)) == set(
        UNREADABLE
    )


def test_answers_the_query_from_the_index(uninterrupted):
    _, finished = uninterrupted
    answers = totals(finished).partition("query: event loop\n")[2].splitlines()
    assert len(answers) == 5
    assert all(re.match(r"  asyncio/\w+\.py:\d+ \S*: ", answer) for answer in answers)


def test_shows_progress(uninterrupted, modules):
    _, finished = uninterrupted
    lines = finished.stderr.splitlines()
    assert [line.split()[0] for line in lines] == [str(tenth) for tenth in range(10, 101, 10)]
    assert f"{len(modules)}/{len(modules)}" in lines[-1]


def test_goes_on_after_two_kills_and_does_nothing_twice(source, modules, uninterrupted, tmp_path):
    kills = []
    for share in (0.5, 0.8):
        killed = index(tmp_path, "--source", source, "--kill-at", f"{share:.0%}")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        kills.append((effects(tmp_path), recorded(tmp_path, modules)))
        done = [module for what, module in effects(tmp_path) if what == "done"]
        assert done == modules[: round(share * len(modules))]
    finished = index(tmp_path, "--source", source)
    assert finished.returncode == 0, finished.stderr

    assert totals(finished) == totals(uninterrupted[1])
    assert (
        f"effects: {len(done)} of {len(modules)} files found done, 0 done twice" in finished.stdout
    )
    executed = Counter(effects(tmp_path))
    assert executed.keys() == set(effects(uninterrupted[0]))
    under_way = set()
    for before, in_journal in kills:
        assert not in_journal & set(effects(tmp_path)[len(before) :])
        steps = {effect for effect in before if effect[0] != "done"}
        assert in_journal <= steps
        under_way |= steps - in_journal
    assert {effect for effect, times in executed.items() if times > 1} <= under_way
    assert max(executed.values()) <= len(kills) + 1


def test_a_run_that_is_complete_answers_at_once(source, modules, uninterrupted):
    folder, finished = uninterrupted
    executed = effects(folder)
    again = index(folder, "--source", source)
    assert again.returncode == 0, again.stderr
    assert totals(again) == totals(finished)
    assert "journal: 0 steps found done, 0 executed" in again.stdout
    assert f"effects: {len(modules)} of {len(modules)} files found done, 0 done" in again.stdout
    assert again.stderr == ""
    assert effects(folder) == executed


def test_a_run_id_stands_for_one_job(source, modules, uninterrupted):
    folder, _ = uninterrupted
    refused = index(folder, "--source", source, "--limit", "7")
    assert refused.returncode == 1
    assert "run 'job' of 'index_stdlib' was started with another input" in refused.stderr


def test_a_query_that_cannot_be_answered_is_refused_before_the_work(source, tmp_path):
    refused = index(tmp_path, "--source", source, "--query", '"event')
    assert refused.returncode == 2
    assert "--query '\"event': unterminated string" in refused.stderr
    assert not (tmp_path / "job" / "journal.db").exists()


def test_indexes_the_standard_library_unless_told_otherwise(tmp_path):
    finished = index(tmp_path, "--limit", "40")
    assert finished.returncode == 0, finished.stderr
    assert "totals: 40 files" in finished.stdout
    answers = re.findall(r"^  (\S+\.py):\d+ ", totals(finished), re.MULTILINE)
    assert answers
    assert all((STDLIB / module).is_file() for module in answers)


def test_without_options_tells_the_story_from_kill_to_the_same_totals(source, tmp_path):
    story = index(tmp_path, "--source", source, run_id=None)
    assert story.returncode == 0, story.stderr
    assert "files: SIGKILL" in story.stderr
    assert " 0 done twice" in story.stdout
    assert "the same totals and the same answer" in story.stdout
