"""Two runners on one journal, held against a simple model: whatever they do, in any order."""

import itertools
import math
import tempfile
from pathlib import Path

import anyio
import anyio.from_thread
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from journaling import ERROR, VALUE, new, record

from plait.durable import SqliteJournal
from plait.durable._stored import ENDED, QueueLimits, RunQuery, Wait
from plait.durable._turns import TURN_SECONDS, Turn

# Nothing is killed here: a disk that forgets is as good, and makes no one wait.
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
LIMITS = [QueueLimits("narrow", max_concurrent=1)]
RUNS = ("a", "b", "c")
ENTITY = ("cart", "1")

runs = st.sampled_from(RUNS)
names = st.sampled_from(["go", "stop"])
runners = st.sampled_from([0, 1])
numbers = st.integers(0, 2)
places = st.sampled_from(["flow/a", "flow/b"])
executing = precondition(lambda self: any(run.runner in (0, 1) for run in self.runs.values()))


class Modelled:
    """What a run should be."""

    def __init__(self, key, run_id, queue, number):
        self.key, self.run_id, self.queue, self.number = key, run_id, queue, number
        self.status = "queued" if queue else "running"
        self.runner = None
        self.has_begun = False
        self.is_cancelled = False
        self.is_due = bool(queue)
        self.in_line = bool(queue)
        self.wakes = None
        self.waits = ()
        self.records = []
        self.signals = []
        self.signal_ids = set()
        self.events = {}


class JournalMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=IN_MEMORY)
        self.file = Path(self.folder.name, "runs.db")
        self.portals = anyio.from_thread.start_blocking_portal("asyncio")
        self.portal = self.portals.__enter__()
        self.journals = [self.opened(), self.opened()]
        self.runs = {}
        self.holder = None
        self.state = b""
        self.line = []
        self.offered = {}
        self.now = 100.0
        self.numbers = itertools.count(1)

    def teardown(self):
        for journal in self.journals:
            self.portal.call(journal.close)
        self.portals.__exit__(None, None, None)
        self.folder.cleanup()

    def opened(self):
        async def opened():
            journal = SqliteJournal(self.file)
            await journal.open()
            return journal

        return self.portal.call(opened)

    def ask(self, runner, method, *arguments):
        async def ask():
            return await getattr(self.journals[runner], method)(*arguments)

        return self.portal.call(ask)

    def own(self, number):
        """One of the runs that are executed, and by which runner."""
        owned = [run for run in self.runs.values() if run.runner in (0, 1)]
        run = owned[number % len(owned)]
        return run, run.runner

    def wake(self, topic):
        for run in self.runs.values():
            if run.status == "waiting" and not run.in_line and topic in run.waits:
                run.wakes = self.now if run.wakes is None else min(run.wakes, self.now)

    def is_kept(self, turn):
        """Whether the entity is kept for one that waits for it."""
        return abs(self.offered.get(turn, math.inf) - self.now) < TURN_SECONDS

    def offer(self):
        """Who is told to be the next to have the entity, where that was not so before."""
        waiting = [turn for turn in self.line if turn not in self.offered]
        if self.holder or not waiting or any(map(self.is_kept, self.line)):
            return None
        turn = waiting[0]
        self.offered[turn] = self.now
        run = next(run for run in self.runs.values() if run.key == turn.run)
        if run.status == "waiting" and not run.in_line:
            run.wakes = self.now if run.wakes is None else min(run.wakes, self.now)
        return turn

    def leave(self, *turns):
        for turn in turns:
            self.line.remove(turn)
            self.offered.pop(turn, None)

    def written(self, run, payload=b"1", kind=VALUE, path=None):
        path = path or f"flow/{next(self.numbers)}"
        run.records.append((path, kind, payload))
        return record(run.key, path, payload, kind)

    @initialize(queues=st.permutations([None, "narrow", "narrow", "wide"]))
    def start(self, queues):
        for run_id, queue in zip(RUNS, queues, strict=False):
            self.create(0, run_id, queue)

    @rule(runner=runners, run_id=runs, queue=st.sampled_from([None, None, "narrow", "wide"]))
    def create(self, runner, run_id, queue):
        what = new(run_id, created=self.now, queue=queue)
        ((stored, is_new),) = self.ask(runner, "create", [what])
        assert is_new == (run_id not in self.runs)
        if is_new:
            run = self.runs[run_id] = Modelled(stored.key, run_id, queue, next(self.numbers))
            run.runner = None if queue else runner

    @executing
    @rule(number=numbers)
    def append(self, number):
        run, runner = self.own(number)
        self.ask(runner, "append", self.written(run))

    @executing
    @rule(number=numbers, many=st.integers(1, 3))
    def fold(self, number, many):
        run, runner = self.own(number)
        for n in range(many):
            self.ask(runner, "append", self.written(run, path=f"map[{n}]/leaf"))
        run.records = [found for found in run.records if not found[0].startswith("map[")]
        self.ask(runner, "fold", self.written(run, b"sum", path="map"))

    @executing
    @rule(number=numbers, fails=st.booleans())
    def transact(self, number, fails):
        run, runner = self.own(number)

        def work(connection):
            connection.execute("CREATE TABLE IF NOT EXISTS effects (run TEXT)")
            connection.execute("INSERT INTO effects VALUES (?)", (run.run_id,))
            if fails:
                raise LookupError(run.run_id)
            return connection.execute("SELECT count(*) FROM effects").fetchone()[0]

        written = record(run.key, f"flow/{next(self.numbers)}", b"paid")
        try:
            self.ask(runner, "transact", work, lambda _: written)
        except LookupError:
            assert fails
        else:
            assert not fails
            run.records.append((written.path, VALUE, b"paid"))

    @executing
    @rule(
        number=numbers,
        until=st.sampled_from([None, 0, 3]),
        topics=st.lists(
            st.sampled_from(["signal:go", "event", "run", "entity", ""]), min_size=1, max_size=2
        ),
        other=runs,
    )
    def suspend(self, number, until, topics, other):
        run, runner = self.own(number)
        names = {
            "signal:go": f"signal:{run.run_id}:go",
            "event": f"event:{other}:go",
            "run": f"run:{other}",
            "entity": ":".join(("entity", *ENTITY)),
            "": "",
        }
        what = [names[topic] for topic in topics]
        ends = None if until is None else self.now + until
        waits = [Wait("flow", topic, ends) for topic in what]
        self.ask(runner, "suspend", run.key, waits, self.now)
        seen, turns = self.runs.get(other), self.turns_of(run)
        news = {
            names["signal:go"]: any(name == "go" for name, _ in run.signals),
            names["event"]: seen is not None and "go" in seen.events,
            names["run"]: seen is None or seen.status in ENDED,
            names["entity"]: not turns or any(turn in self.offered for turn in turns),
        }
        run.status, run.runner, run.waits = "waiting", None, tuple(what)
        is_awake = run.is_cancelled or any(news.get(topic) for topic in what)
        run.wakes = self.now if is_awake else ends
        run.in_line = False

    @executing
    @rule(number=numbers, ended=st.sampled_from(ENDED))
    def finish(self, number, ended):
        run, runner = self.own(number)
        self.ask(runner, "finish", run.key, ended, b"outcome", [], self.now)
        run.status, run.runner = ended, None
        self.wake(f"run:{run.run_id}")
        if self.holder and self.holder.run == run.key:
            self.holder = None
        self.leave(*self.turns_of(run))
        self.offer()

    @rule(runner=runners, run_id=runs)
    def reopen(self, runner, run_id):
        run = self.runs.get(run_id)
        if not run:
            return
        is_reopened = run.status in ("failed", "cancelled")
        assert self.ask(runner, "reopen", run.key, self.now) == is_reopened
        if is_reopened:
            run.status, run.runner, run.is_cancelled = "running", runner, False

    @rule(runner=runners, run_id=runs)
    def cancel(self, runner, run_id):
        run = self.runs.get(run_id)
        is_open = run is not None and run.status not in ENDED
        assert self.ask(runner, "cancel", run_id, self.now) == is_open
        if is_open:
            run.is_cancelled = True
            run.in_line = False
            run.wakes = None if run.status == "running" else self.now

    @rule(runner=runners, run_id=runs, name=names, signal_id=st.sampled_from([None, "1", "2"]))
    def send(self, runner, run_id, name, signal_id):
        run = self.runs.get(run_id)
        payload = b"%d" % next(self.numbers)
        told = self.ask(runner, "send", run_id, name, payload, signal_id, self.now)
        assert told == (run and run.status)
        if run is None or run.status in ENDED or signal_id in run.signal_ids:
            return
        run.signals.append((name, payload))
        if signal_id:
            run.signal_ids.add(signal_id)
        self.wake(f"signal:{run_id}:{name}")

    @executing
    @rule(number=numbers, name=names)
    def receive(self, number, name):
        run, runner = self.own(number)
        found = next((signal for signal in run.signals if signal[0] == name), None)
        path = f"flow/{next(self.numbers)}"
        payload = self.ask(runner, "receive", run.key, name, path)
        assert payload == (found and found[1])
        if found:
            run.signals.remove(found)
            run.records.append((path, VALUE, payload))

    @executing
    @rule(number=numbers)
    def set_event(self, number):
        run, runner = self.own(number)
        run.events["go"] = b"%d" % next(self.numbers)
        self.ask(runner, "set_event", self.written(run, run.events["go"]), "go", self.now)
        self.wake(f"event:{run.run_id}:go")

    def turns_of(self, run):
        return [turn for turn in self.line if turn.run == run.key]

    @executing
    @rule(asking=st.lists(st.tuples(numbers, places), min_size=1, max_size=4))
    def acquire(self, asking):
        for number, place in asking:
            run, runner = self.own(number)
            turn = Turn(run.key, place)
            if turn != self.holder:
                got = self.ask(runner, "acquire", *ENTITY, record(*turn), self.now)
                assert got == self.acquired(run, turn)

    def acquired(self, run, turn):
        """What one that asks for the entity should get."""
        if not self.is_kept(turn):
            self.offered.pop(turn, None)
        present = [each for each in self.line if each not in self.offered]
        before = [each for each in self.line if self.is_kept(each)] or present
        if self.holder is None and (not before or before[0] == turn):
            self.holder = turn
            self.leave(*{turn}.intersection(self.line))
            run.records.append((turn.path, VALUE, self.state))
            return (self.state,)
        self.offered.pop(turn, None)
        if turn not in self.line:
            self.line.append(turn)
        self.offer()
        return None

    @precondition(lambda self: self.holding() is not None)
    @rule(is_changed=st.booleans())
    def release(self, is_changed):
        run = self.holding()
        state = b"%d" % next(self.numbers) if is_changed else None
        written = self.written(run, b"", ERROR)
        told = self.ask(run.runner, "release", *ENTITY, state, written, self.now)
        self.state = state or self.state
        self.holder = None
        assert told == self.offer()

    def holding(self):
        """The run that has the entity, where it is executed."""
        owned = (run for run in self.runs.values() if run.runner in (0, 1))
        return next((run for run in owned if self.holder and run.key == self.holder.run), None)

    @executing
    @rule(number=numbers, place=places)
    def withdraw(self, number, place):
        run, runner = self.own(number)
        turn = Turn(run.key, place)
        told = self.ask(runner, "withdraw", *ENTITY, turn, self.now)
        if self.holder == turn:
            self.holder = None
        elif turn in self.line:
            self.leave(turn)
        assert told == self.offer()

    @rule(runner=runners, limit=st.sampled_from([3, 3, 2, 1, 0]), passed=st.integers(0, 2))
    def claim(self, runner, limit, passed):
        self.now += passed
        found = self.ask(runner, "claim", ["flow"], LIMITS, self.now, limit)
        if self.offered:
            self.offer()
        expected = self.expected(limit)
        assert [run.start.run_id for run, _ in found.runs] == [run.run_id for run in expected]
        for (stored, records), run in zip(found.runs, expected, strict=True):
            assert stored.is_claimed
            assert stored.waits == ()
            assert [(r.path, r.kind, r.payload) for r in records] == run.records
            run.status, run.runner, run.waits = "running", runner, ()
            run.wakes, run.in_line, run.has_begun = None, False, True
        executed = [run.key for run in self.runs.values() if run.runner == runner]
        assert set(found.turns) == {turn for turn in self.offered if turn.run in executed}
        dates = [run.wakes for run in self.runs.values() if run.wakes is not None]
        if dates and min(dates) > self.now and len(expected) < limit:
            assert found.next_due == min(dates)

    def expected(self, limit):
        """What a claim should take, in its order; stands in line what is due."""
        due = []
        for run in self.runs.values():
            if run.wakes is not None and run.wakes <= self.now:
                if run.queue and not run.is_cancelled:
                    run.in_line, run.wakes = True, None
                else:
                    due.append(run)
        due.sort(key=lambda run: (run.wakes, run.number))
        interrupted = [run for run in self.runs.values() if run.runner == "gone"]
        taken = (interrupted + due)[:limit]
        for queue in ("narrow", "wide"):
            line = [run for run in self.runs.values() if run.in_line and run.queue == queue]
            line.sort(key=lambda run: (not run.has_begun, run.number))
            room = limit - len(taken)
            if queue == "narrow":
                busy = [
                    run
                    for run in self.runs.values()
                    if run.queue == queue and (run.status == "running" or run in taken)
                ]
                room = min(room, 1 - len(busy))
            taken += line[: max(0, room)]
        return taken

    @rule(runner=runners)
    def crash_and_start_again(self, runner):
        self.portal.call(self.journals[runner].close)
        self.journals[runner] = self.opened()
        for run in self.runs.values():
            if run.runner == runner:
                run.runner = "gone"

    @precondition(lambda self: self.runs and all(run.status in ENDED for run in self.runs.values()))
    @rule(runner=runners)
    def prune(self, runner):
        many = self.ask(runner, "prune", self.now + 1, (), 100)
        assert many == len(self.runs)
        self.runs.clear()

    @invariant()
    def every_run_is_as_it_should_be(self):
        for runner in (0, 1):
            for stored in self.ask(runner, "list", RunQuery()):
                run = self.runs[stored.start.run_id]
                assert stored.status == run.status
                assert stored.is_claimed == (run.runner == runner)
                assert stored.is_cancelled == run.is_cancelled
                assert tuple(wait.topic for wait in stored.waits) == run.waits
            stopping = [
                run.run_id
                for run in self.runs.values()
                if run.runner == runner and run.is_cancelled
            ]
            assert sorted(self.ask(runner, "cancelled")) == sorted(stopping)
        assert len(self.ask(0, "list", RunQuery())) == len(self.runs)
        for run in self.runs.values():
            found = self.ask(1, "records", run.key)
            assert [(r.path, r.kind, r.payload) for r in found] == run.records
            assert self.ask(0, "event", run.run_id, "go") == run.events.get("go")


TestJournalModel = JournalMachine.TestCase
TestJournalModel.settings = settings(
    max_examples=60,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
