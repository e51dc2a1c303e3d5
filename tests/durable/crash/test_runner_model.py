"""A runner held against a model of it: whatever is asked of it in whatever order, and killed amid.

PLAIT_MODEL_EXAMPLES says how many such lives of a runner are tried on each event loop.
"""

import itertools
import os
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from noticing import Steps

from plait import SleepPrimitive, WorkflowContext, step, workflow
from plait.durable import (
    DurableRunner,
    JournalError,
    RunCancelledError,
    RunEndedError,
    RunNotFoundError,
)

_EXAMPLES = int(os.environ.get("PLAIT_MODEL_EXAMPLES", "12"))
_PATIENCE_SECONDS = 10
_connect = sqlite3.connect


class Life:
    """Of a runner: it ends before or after a commit, as that of a killed process does."""

    def __init__(self):
        self.is_over = False
        self._commits = 0
        self._ends_at = None

    def end_at(self, commits, *, is_written):
        """End with a commit yet to come, which is or is not written."""
        self._ends_at, self._is_written = self._commits + commits, is_written

    def connect(self, *args, **kwargs):
        life = self

        class Connection(sqlite3.Connection):
            written = 0

            def execute(self, statement, *args):
                if life.is_over and statement != "ROLLBACK":
                    raise sqlite3.OperationalError("killed")
                if statement != "COMMIT" or self.total_changes == self.written:
                    return super().execute(statement, *args)
                self.written = self.total_changes
                life._commits += 1
                if life._commits != life._ends_at:
                    return super().execute(statement, *args)
                life.is_over = True
                if life._is_written:
                    super().execute(statement)
                raise sqlite3.OperationalError("killed")

        return _connect(*args, factory=Connection, **kwargs)


def workflows(steps):
    """A pipeline that sleeps, one that waits for two signals, and one that may fail."""

    @step
    async def work(number: int, context: WorkflowContext) -> int:
        steps.effect(context)
        return number + 1

    @step
    async def mendable(number: int, context: WorkflowContext) -> int:
        steps.effect(context)
        if steps.is_broken:
            raise ConnectionError("broken")
        return number + 1

    @workflow
    async def asking(number: int, context: WorkflowContext) -> list[int]:
        number = await work(number)
        first = await context.wait_for("answer", int)
        number = await work(number + first)
        return [number, await context.wait_for("answer", int)]

    return {
        "sleeping": (work >> SleepPrimitive(0.03) >> work).named("sleeping"),
        "asking": asking,
        "mendable": (work >> mendable >> work).named("mendable"),
    }


@dataclass
class Expected:
    """What the model says of a run.

    Attributes:
        kind: Its workflow.
        number: Its input.
        signals: What it was sent.
        end: How it ended, where something other than its workflow decided that.
    """

    kind: str
    number: int
    signals: list[int] = field(default_factory=list)
    end: str | None = None

    @property
    def status(self):
        if self.end is not None:
            return self.end
        return "open" if self.kind == "asking" and len(self.signals) < 2 else "completed"

    @property
    def result(self):
        if self.kind == "asking":
            return [self.number + 1 + self.signals[0] + 1, self.signals[1]]
        return self.number + (2 if self.kind == "sleeping" else 3)


class Runner(RuleBasedStateMachine):
    """Does to a runner what applications do, and to its process what the world does."""

    backend = "asyncio"

    def __init__(self):
        super().__init__()
        memory = Path("/dev/shm")
        self._folder = TemporaryDirectory(dir=memory if memory.is_dir() else None)
        self.file = Path(self._folder.name) / "runs.db"
        self.steps = Steps(self.file)
        self.steps.is_broken = False
        self.workflows = workflows(self.steps)
        self.expected = {}
        self.numbers = itertools.count(1)
        self.runner = None
        self._portal = start_blocking_portal(self.backend)
        self.portal = self._portal.__enter__()

    @initialize()
    def enter(self):
        self.life = Life()
        sqlite3.connect = self.life.connect
        try:
            runner = DurableRunner(
                f"sqlite:///{self.file}",
                workflows=list(self.workflows.values()),
                listeners={"news": [self.workflows["sleeping"], self.workflows["asking"]]},
                suspend_after=0.01,
                grace_seconds=0,
            )
            entered = self.portal.wrap_async_context_manager(runner)
            entered.__enter__()
        finally:
            sqlite3.connect = _connect
        self.runner, self._entered = runner, entered

    def leave(self):
        if self.runner is not None:
            self.runner = None
            self._entered.__exit__(None, None, None)

    def die(self):
        """Nothing more is written, and the process is gone."""
        self.life.is_over = True
        self.leave()
        with closing(_connect(self.file)) as journal:
            journal.execute("UPDATE runners SET is_gone = 1")
            journal.commit()

    def teardown(self):
        self.leave()
        self._portal.__exit__(None, None, None)
        self._folder.cleanup()

    def ask(self, method, *args, **kwargs):
        """Call a method of the runner."""

        async def call():
            return await getattr(self.runner, method)(*args, **kwargs)

        return self.portal.call(call)

    def run_to(self, death, ask):
        """Ask for something, perhaps of a runner that is killed amid; then of the next one too."""
        if death is None:
            return ask()
        commits, is_written, seconds = death
        self.life.end_at(commits, is_written=is_written)
        with suppress(JournalError):
            ask()
            time.sleep(seconds)
        self.die()
        self.enter()
        return ask()

    def of(self, *kinds, status):
        return sorted(
            run_id
            for run_id, run in self.expected.items()
            if run.status == status and (not kinds or run.kind in kinds)
        )

    deaths = st.none() | st.tuples(
        st.integers(1, 6), st.booleans(), st.sampled_from([0, 0.005, 0.02, 0.05])
    )
    choices = st.integers(0, 1000)

    def chosen(self, choice, found):
        return found[choice % len(found)]

    @rule(kind=st.sampled_from(["sleeping", "asking", "mendable"]), death=deaths)
    def start(self, kind, death):
        number = next(self.numbers)
        self.start_run(f"run {number}", kind, number, death)

    @precondition(lambda self: self.expected)
    @rule(choice=choices, death=deaths)
    def start_again(self, choice, death):
        """A run of that id is there: it is the same one."""
        run_id = self.chosen(choice, sorted(self.expected))
        run = self.expected[run_id]
        self.run_to(
            death,
            lambda: self.ask("start", self.workflows[run.kind], run.number, run_id=run_id),
        )

    def start_run(self, run_id, kind, number, death):
        self.expected[run_id] = Expected(
            kind, number, end="failed" if kind == "mendable" and self.steps.is_broken else None
        )
        self.run_to(death, lambda: self.ask("start", self.workflows[kind], number, run_id=run_id))

    @rule(death=deaths, times=st.integers(1, 2))
    def publish(self, death, times):
        number = next(self.numbers)
        for kind in ("sleeping", "asking"):
            self.expected[f"news:{number}:{kind}"] = Expected(kind, number)
        for _ in range(times):
            runs = self.run_to(
                death, lambda: self.ask("publish", "news", number, event_id=str(number))
            )
            assert [run.run_id for run in runs] == [
                f"news:{number}:sleeping",
                f"news:{number}:asking",
            ]

    @precondition(lambda self: self.of("asking", status="open"))
    @rule(choice=choices, death=deaths)
    def signal(self, choice, death):
        run_id = self.chosen(choice, self.of("asking", status="open"))
        number = next(self.numbers)
        signals = self.expected[run_id].signals
        signals.append(number)

        def send():
            # Sent again where it is not known whether it was; by then the run may have ended.
            with suppress(RunEndedError):
                self.ask("signal", run_id, "answer", number, signal_id=str(number))

        self.run_to(death, send)

    @precondition(lambda self: self.of("asking", status="open"))
    @rule(choice=choices, death=deaths)
    def cancel(self, choice, death):
        run_id = self.chosen(choice, self.of("asking", status="open"))
        self.expected[run_id].end = "cancelled"
        self.run_to(death, lambda: self.ask("cancel", run_id))

    @rule(is_broken=st.booleans())
    def break_or_mend(self, is_broken):
        self.steps.is_broken = is_broken

    @precondition(lambda self: self.of(status="failed"))
    @rule(choice=choices)
    def resume(self, choice):
        run_id = self.chosen(choice, self.of(status="failed"))
        if not self.steps.is_broken:
            self.expected[run_id].end = None
        self.ask("resume", run_id)

    @precondition(lambda self: self.of("sleeping", status="completed"))
    @rule(choice=choices)
    def fork(self, choice):
        run_id = self.chosen(choice, self.of("sleeping", status="completed"))
        forked = f"fork {next(self.numbers)}"
        self.expected[forked] = Expected("sleeping", self.expected[run_id].number)
        self.ask("fork", run_id, before="sleeping/3:work", new_run_id=forked)

    @rule()
    def prune(self):
        ended = [r for s in ("completed", "failed", "cancelled") for r in self.of(status=s)]
        assert self.ask("prune", 0) == len(ended)
        for run_id in ended:
            del self.expected[run_id]
            with pytest.raises(RunNotFoundError):
                self.ask("info", run_id)

    @rule(is_killed=st.booleans())
    def restart(self, is_killed):
        self.die() if is_killed else self.leave()
        self.enter()

    @invariant()
    def is_as_expected(self):
        """Every run comes to where the model says, and is known to have."""
        if self.runner is None:
            return
        for run_id, run in self.expected.items():
            self.settled(run_id, run)
        listed = self.ask("list", limit=1000)
        assert {info.run_id for info in listed} == set(self.expected)
        assert not self.steps.done_again, "executed again, though recorded"

    def settled(self, run_id, run):
        give_up = time.monotonic() + _PATIENCE_SECONDS
        wanted = {"waiting"} if run.status == "open" else {run.status}
        while (status := self.ask("info", run_id).status) not in wanted:
            assert time.monotonic() < give_up, f"{run_id} is {status}, and should be {run.status}"
            time.sleep(0.002)
        if run.status == "completed":
            assert self.result(run_id) == run.result
        elif run.status != "open":
            error = RunCancelledError if run.status == "cancelled" else ConnectionError
            with pytest.raises(error):
                self.result(run_id)

    def result(self, run_id):
        async def call():
            return await (await self.runner.get(run_id)).result()

        return self.portal.call(call)


@pytest.mark.timeout(60 + 20 * _EXAMPLES)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_runner_does_what_its_model_says(backend):
    machine = type("Runner", (Runner,), {"backend": backend})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=_EXAMPLES,
            stateful_step_count=15,
            deadline=None,
            # A run that is stuck is waited for: there is no time to find the shortest way to it.
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
            derandomize="PLAIT_MODEL_EXAMPLES" not in os.environ,
            suppress_health_check=list(HealthCheck),
        ),
    )
