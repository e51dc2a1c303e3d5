"""Index the source of Python's standard library, kill the job half way, and see it go on.

    uv run examples/index_stdlib.py

tells the whole story: it starts the job in a process that sends itself SIGKILL when half of the
files are done, starts it again with the same run id, and compares the totals with those of a run
that nobody killed. One run by itself is

    uv run examples/index_stdlib.py --run-id nightly --kill-at 50%
    uv run examples/index_stdlib.py --run-id nightly

What to look at:

- `index_workflow`, the whole job: find the modules; for each, a few at once, parse it, count its
  tokens and collect its docstrings in parallel, merge the three and write its rows; fold what
  comes out into totals. The steps are functions, and none knows whether the run is durable.
- `write_rows`, which changes something outside of the journal. A step that was under way at a kill
  is executed again, so doing it twice has to be the same as doing it once.
- `run_job`, which runs it over a journal. After a kill that is the same call with the same run id.
- `check_effects`, which holds the run against `effects.log`, a file that the journal knows nothing
  of: every execution of a step adds a line to it, and every file that is done another one.
"""

from __future__ import annotations

import argparse
import ast
import os
import signal
import sqlite3
import subprocess
import sys
import sysconfig
import textwrap
import time
import tokenize
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TextIO, TypeAlias

import anyio

from plait import (
    MapPrimitive,
    Outcome,
    PermanentError,
    ReducePrimitive,
    Success,
    WorkflowContext,
    WorkflowPrimitive,
    step,
)
from plait.durable import DurableRunner

Definition: TypeAlias = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Job:
    source: str
    folder: str
    limit: int | None


@dataclass(frozen=True)
class Page:
    module: str
    counts: dict[str, int]
    docstrings: list[tuple[int, str, str]]  # line, name, text


@dataclass
class Totals:
    files: int = 0
    latest: str = ""
    counts: dict[str, int] = field(default_factory=dict[str, int])
    unreadable: list[str] = field(default_factory=list[str])


class UnreadableError(PermanentError):
    """A module that cannot be decoded or parsed, and why. What else goes wrong fails the run."""


# The steps. The journal keeps what they return as JSON: plain data, or dataclasses of it.


@step
def find_modules(job: Job, context: WorkflowContext) -> list[str]:
    # What a step puts into `context.data`, later steps see; those of a resumed run too.
    context.data.update(source=job.source, folder=job.folder)
    paths = (path.relative_to(job.source) for path in Path(job.source).rglob("*.py"))
    foreign = {"site-packages", "dist-packages"}
    return sorted(path.as_posix() for path in paths if path.parts[0] not in foreign)[: job.limit]


@step
def parse(module: str, context: WorkflowContext) -> dict[str, int]:
    with reading(module, context) as file:
        kinds = Counter(type(node) for _, node in definitions(ast.parse(file.read())))
    functions = kinds[ast.FunctionDef] + kinds[ast.AsyncFunctionDef]
    return {"classes": kinds[ast.ClassDef], "functions": functions}


@step
def count_tokens(module: str, context: WorkflowContext) -> dict[str, int]:
    with reading(module, context) as file:
        kinds = Counter(token.type for token in tokenize.generate_tokens(file.readline))
    lines = kinds[tokenize.NEWLINE] + kinds[tokenize.NL]
    return {"lines": lines, "tokens": kinds.total(), "comments": kinds[tokenize.COMMENT]}


@step
def collect_docstrings(module: str, context: WorkflowContext) -> Page:
    with reading(module, context) as file:
        docstrings = [
            (getattr(node, "lineno", 1), name, text)
            for name, node in definitions(ast.parse(file.read()))
            if (text := ast.get_docstring(node))
        ]
    return Page(module, {"docstrings": len(docstrings)}, docstrings)


@step
def merge(parts: tuple[dict[str, int], dict[str, int], Page], context: WorkflowContext) -> Page:
    parsed, tokens, page = parts
    log(context.data["folder"], context.label, page.module)
    return replace(page, counts=tokens | parsed | page.counts)


@step
def write_rows(page: Page, context: WorkflowContext) -> Page:
    log(context.data["folder"], context.label, page.module)
    # The row ids follow from the module's name, so that a second time replaces the same rows.
    first = int.from_bytes(blake2b(page.module.encode(), digest_size=5).digest()) << 20
    rows = [(first + n, page.module, *found) for n, found in enumerate(page.docstrings)]
    with closing(open_index(context.data["folder"])) as index, index:
        index.execute("DELETE FROM docs WHERE rowid BETWEEN ? AND ?", (first, first + 2**20 - 1))
        insert = "INSERT INTO docs (rowid, module, line, name, text) VALUES (?, ?, ?, ?, ?)"
        index.executemany(insert, rows)
    return replace(page, docstrings=[])


def add(totals: Totals, outcome: Outcome[Page]) -> Totals:
    totals.files += 1
    if isinstance(outcome, Success):
        totals.latest = outcome.value.module
        totals.counts = dict(Counter(totals.counts) + Counter(outcome.value.counts))
    elif isinstance(outcome.error, UnreadableError):
        totals.latest, reason = outcome.error.args
        totals.unreadable.append(f"{totals.latest}: {reason}")
    else:
        raise outcome.error
    return totals


index_file = ((parse | count_tokens | collect_docstrings) >> merge >> write_rows).named(
    "index_file"
)


def index_workflow(
    concurrency: int, fold: Callable[[Totals, Outcome[Page]], Totals] = add
) -> WorkflowPrimitive[Job, Totals]:
    index_files = MapPrimitive(index_file, max_concurrency=concurrency, errors="collect")
    return (find_modules >> index_files >> ReducePrimitive(fold, Totals())).named("index_stdlib")


# What the steps use.


@contextmanager
def reading(module: str, context: WorkflowContext) -> Generator[TextIO, None, None]:
    log(context.data["folder"], context.label, module)
    try:
        with tokenize.open(Path(context.data["source"], module)) as file:
            yield file
    except (SyntaxError, ValueError, RecursionError, tokenize.TokenError) as error:
        reason = getattr(error, "msg", error)
        raise UnreadableError(module, f"{type(error).__name__}: {reason}") from error


def definitions(node: ast.AST, name: str = "") -> Iterator[tuple[str, Definition]]:
    """The module, and the classes and functions in it with their qualified names."""
    if isinstance(node, Definition):
        yield name, node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from definitions(child, f"{name}.{child.name}".removeprefix("."))
        elif isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield from definitions(child, name)


def open_index(folder: str) -> sqlite3.Connection:
    index = sqlite3.connect(Path(folder, "index.db"), timeout=30)
    columns = "name, text, module UNINDEXED, line UNINDEXED"
    index.execute(f"CREATE VIRTUAL TABLE IF NOT EXISTS docs USING fts5 ({columns})")
    return index


def search(folder: str, query: str) -> list[str]:
    select = (
        "SELECT module || ':' || line || ' ' || name, snippet(docs, 1, '[', ']', ' ... ', 16)"
        " FROM docs WHERE docs MATCH ? ORDER BY rank LIMIT 5"
    )
    with closing(open_index(folder)) as index:
        found = index.execute(select, (query,)).fetchall()
    return [f"{place}: {' '.join(text.split())}" for place, text in found]


def log(folder: str, what: str, module: str) -> None:
    file = os.open(Path(folder, "effects.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{what}\t{module}\n".encode())
    os.close(file)


def read_effects(folder: str) -> list[tuple[str, str]]:
    file = Path(folder, "effects.log")
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    return [(what, module) for what, _, module in (line.partition("\t") for line in lines)]


# One run of the job.


@dataclass
class Progress:
    folder: str
    total: int
    found_done: set[str]
    kill_at: float | None

    def add(self, totals: Totals, outcome: Outcome[Page]) -> Totals:
        """Fold, and show how far the run is: the steps of a file that gets here are recorded."""
        totals = add(totals, outcome)
        if totals.latest not in self.found_done:
            log(self.folder, "done", totals.latest)
            self.show(totals.files, totals.latest)
            if self.kill_at and totals.files == max(1, round(self.kill_at * self.total)):
                print(f"\n{totals.files} of {self.total} files: SIGKILL", file=sys.stderr)
                os.kill(os.getpid(), signal.SIGKILL)
        return totals

    def show(self, done: int, module: str) -> None:
        tenth, last_tenth = 10 * done // self.total, 10 * (done - 1) // self.total
        if sys.stderr.isatty():
            bar = "#" * (30 * done // self.total)
            text = f"\r[{bar:<30}] {done}/{self.total} {module[-40:]:<40}"
            print(text, end="\n" if done == self.total else "", file=sys.stderr, flush=True)
        elif tenth > last_tenth:
            print(f"{10 * tenth:3} %  {done}/{self.total} {module}", file=sys.stderr)


async def run_job(
    job: Job, run_id: str, concurrency: int, query: str, kill_at: float | None
) -> None:
    before = read_effects(job.folder)
    found_done = {module for what, module in before if what == "done"}
    progress = Progress(job.folder, len(await find_modules(job)), found_done, kill_at)
    workflow = index_workflow(concurrency, progress.add)
    async with DurableRunner(f"sqlite:///{job.folder}/journal.db", workflows=[workflow]) as runner:
        run = await runner.start(workflow, job, run_id=run_id)
        run = await run.resume()  # Where it has failed, on a full disk say, it goes on as well.
        totals = await run.result()
    print(f"journal: {run.replayed} steps found done, {run.executed} executed")
    check_effects(before, read_effects(job.folder), totals)
    counts = ", ".join(f"{count:,} {what}" for what, count in totals.counts.items())
    print(f"totals: {totals.files:,} files, {len(totals.unreadable)} unreadable; {counts}")
    print("".join(f"unreadable: {file}\n" for file in totals.unreadable), end="")
    print("\n  ".join([f"query: {query}", *search(job.folder, query)]))


def check_effects(
    before: list[tuple[str, str]], after: list[tuple[str, str]], totals: Totals
) -> None:
    """No step of a file that was done is executed again; one that a kill interrupted may be."""
    done = {module for what, module in before if what == "done"}
    again = {module for _, module in after[len(before) :]} & done
    twice = [effect for effect, times in Counter(after).items() if times > 1]
    print(f"effects: {len(done)} of {totals.files} files found done, {len(again)} done twice;")
    print(f"         {len(twice)} steps that were under way at a kill executed again")
    if again:
        sys.exit(f"done twice: {sorted(again)}")


# The whole story, and the command line.


def tell_story(folder: str) -> None:
    command = [sys.executable, __file__, *sys.argv[1:], "--folder", folder, "--run-id"]
    to_pipe = partial(subprocess.Popen[str], stdout=subprocess.PIPE, text=True)
    with to_pipe([*command, "alone"], stderr=subprocess.DEVNULL) as alone:
        print("1. A run that kills itself half way; beside it, one that is left alone.", flush=True)
        killed = subprocess.run([*command, "killed", "--kill-at", "50%"], check=False)
        if killed.returncode != -signal.SIGKILL:
            sys.exit("It was not killed.")
        print("2. The process is gone. The same command with the same run id:", flush=True)
        with to_pipe([*command, "killed"]) as again:
            result = again.communicate()[0]
        print(textwrap.indent(result, "   "), flush=True)
        expected = alone.communicate()[0]
    if again.returncode or result.partition("totals:")[2] != expected.partition("totals:")[2]:
        sys.exit(f"The run that was left alone came to something else:\n{expected}")
    print("3. The run that was left alone came to the same totals and the same answer.")
    print(f"   The journals, indexes and effects of both are in {folder}.")


def percent(text: str) -> float:
    return float(text.removesuffix("%")) / 100


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    option = parser.add_argument
    option("--run-id", help="make one run, or go on with it (without, the whole story is told)")
    option("--kill-at", type=percent, help="when the run sends itself SIGKILL, such as 50%%")
    option("--query", default="compare two sequences", help="in the syntax of SQLite's FTS5")
    option("--folder", default=".index_stdlib", help="where journals, indexes and effects go")
    option("--source", default=sysconfig.get_path("stdlib"), help="the Python source to index")
    option("--limit", type=int, help="index so many files and no more")
    option("--concurrency", type=int, default=8, help="how many files are under way at once")
    args = parser.parse_args()
    if args.run_id is None and args.kill_at is None:
        # A new folder each time, so that the story starts at its beginning.
        tell_story(time.strftime(f"{args.folder}/story-%Y%m%d-%H%M%S"))
        return
    warnings.simplefilter("ignore")  # What the compiler says of the files it is given.
    run_id = args.run_id or "stdlib"
    folder = Path(args.folder, run_id)
    folder.mkdir(parents=True, exist_ok=True)
    job = Job(str(Path(args.source).resolve()), str(folder.resolve()), args.limit)
    try:
        search(job.folder, args.query)
    except sqlite3.OperationalError as error:
        parser.error(f"--query {args.query!r}: {error}")
    anyio.run(run_job, job, run_id, args.concurrency, args.query, args.kill_at)


if __name__ == "__main__":
    main()
