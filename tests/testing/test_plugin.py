"""The pytest plugin, in sessions of its own."""

import subprocess
import sys
from textwrap import dedent

import pytest

import plait.testing

pytest_plugins = ["pytester"]

# Plugins that these sessions have no use for, and that take longer to import than all else.
LIGHT = [f"-pno:{plugin}" for plugin in ("cacheprovider", "hypothesispytest", "schemathesis")]

SETTINGS = {
    "anyio": ("", "pytestmark = pytest.mark.anyio"),
    "asyncio strict": ("asyncio_mode = strict", "pytestmark = pytest.mark.asyncio"),
    "asyncio auto": ("asyncio_mode = auto", ""),
}


@pytest.fixture
def session(pytester):
    """Runs tests in a process of their own."""

    def run(tests, *options, mode="asyncio auto"):
        ini, mark = SETTINGS[mode]
        scope = "asyncio_default_fixture_loop_scope = function"
        pytester.makefile(".ini", pytest=f"[pytest]\nfilterwarnings = error\n{scope}\n{ini}\n")
        head = "import anyio, pytest\nfrom plait import *\nfrom plait.testing import *\n"
        pytester.makepyfile(f"{head}{mark}\n{dedent(tests)}")
        return pytester.runpytest_subprocess(*LIGHT, *options)

    return run


FIXTURES = """
    @step
    async def charge(total):
        await anyio.sleep(60)
        return f"paid {total}"

    @workflow
    async def approval(total, context: WorkflowContext):
        await context.sleep(24 * 60 * 60)
        return await charge(total)

    async def test_context(context):
        assert await step(len).execute("abc", context) == 3

    async def test_clock(virtual_clock, context):
        await approval.execute(42, context)
        assert virtual_clock.elapsed == 24 * 60 * 60 + 60
        assert abs((context.now() - virtual_clock.now()).total_seconds()) < 1

    @pytest.mark.virtual_time
    async def test_marker():
        assert await approval(42) == "paid 42"

    @pytest.mark.parametrize("total", [1, 2])
    async def test_runner(context, runner, journal, virtual_clock, total):
        assert await runner.run(approval, total, run_id="run") == f"paid {total}"
        assert (await journal.find("run")).status == "completed"

    async def test_crash(crash, runner):
        report = await crash(approval, 42)
        assert report.kills == 5
        survival = await crash.at("charge", approval, 42, data={"a": 1})
        assert survival.outcome.value == "paid 42"
        assert survival.data == {"a": 1}
        assert survival.before == survival.after == ["approval/1:charge"]
        with pytest.raises(LookupError, match="was never recorded: executed was approval/1:charge"):
            await crash.at("approval/*:ship", approval, 42)

    class TestClass:
        async def test_method(self, virtual_clock):
            await anyio.sleep(3600)
"""


@pytest.mark.parametrize("mode", SETTINGS)
def test_fixtures_work_with_every_plugin(session, mode):
    result = session(FIXTURES, mode=mode)
    result.assert_outcomes(passed=14 if mode == "anyio" else 7)


def test_sync_tests_have_fixtures(session):
    result = session("""
        def test_clock(virtual_clock, context):
            virtual_clock.run(anyio.sleep, 3600)
            assert virtual_clock.elapsed == 3600
            assert abs((context.now() - virtual_clock.now()).total_seconds()) < 1

        def test_runner(runner):
            pass

        @pytest.mark.virtual_time
        @pytest.mark.skip
        def test_skipped():
            pass
    """)
    result.assert_outcomes(passed=1, errors=1, skipped=1)
    result.stdout.fnmatch_lines(["*TypeError: the fixture `runner` is for async tests*"])


def test_a_deadlock_fails_the_test_and_no_other(session):
    result = session("""
        async def test_stuck(virtual_clock):
            virtual_clock.patience_seconds = 0.05
            await anyio.Event().wait()

        async def test_next(virtual_clock):
            await anyio.sleep(3600)
            assert virtual_clock.elapsed == 3600
    """)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*DeadlockError: nothing can happen any more: *", "*await anyio.Event().wait()"]
    )


COVERAGE = """
    flow = (
        step(len)
        >> FallbackPrimitive(str, [repr])
        >> ConditionalPrimitive(lambda text: text == "3", str.strip, step(str.upper) >> str.lower)
        >> RouterPrimitive({"a": str, "b": str}, lambda _: "a")
    ).named("flow")

    @workflow
    async def imperative(n):
        return await flow(n)

    async def test_flow():
        await flow("abc")

    async def test_with_mocks():
        await flow.with_mocks({"flow/2:str/primary": MockPrimitive(side_effect=KeyError)})("abc")

    async def test_imperative(runner):
        await runner.run(imperative, "abc")

    @pytest.mark.parametrize("n", range(4))
    def test_alone(n):
        step(str).run_sync(n)
        (step(str) >> MapPrimitive(RetryPrimitive(str, 2))).run_sync("ab")
"""

REPORT = [
    "*= plait: what was taken of the workflows =*",
    "workflow *nodes *taken *not taken",
    "flow * 14 * 71%  /3:conditional/else, /4:router/b",
    "imperative * 10 * 100%",
    "str >> map(retry(str)) * 4 * 100%",
]


@pytest.mark.parametrize("options", [(), ("-n2",)], ids=["one process", "xdist"])
def test_what_was_taken_is_reported(session, options):
    result = session(COVERAGE, "--plait-coverage", *options)
    result.assert_outcomes(passed=7)
    result.stdout.fnmatch_lines(REPORT)


def test_too_little_taken_fails_the_session(session):
    result = session(COVERAGE, "--plait-coverage-fail-under=99.5")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*% were taken, less than the 99.5% asked for"])
    result = session(COVERAGE, "--plait-coverage-fail-under=50", "-n1")
    assert result.ret == pytest.ExitCode.OK


def test_without_the_option_nothing_is_reported(session):
    result = session("def test(): pass", "-n1")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*plait: what was taken*")


def test_where_nothing_ran_nothing_is_missing(session):
    result = session("def test(): pass", "--plait-coverage-fail-under=100")
    assert result.ret == pytest.ExitCode.OK


def test_the_suite_for_journals_says_what_it_needs(session):
    result = session("""
        class TestJournal(JournalConformance):
            pass
    """)
    assert result.parseoutcomes()["errors"] > 10
    result.stdout.fnmatch_lines(["*TestJournal needs a fixture `make_journal`*"])


def test_the_suite_for_journals_tells_what_is_wrong(session):
    result = session("""
        from plait.durable import MemoryJournal

        class Forgetful(MemoryJournal):
            async def records(self, key):
                return (await super().records(key))[:-1]

        class TestJournal(JournalConformance):
            @pytest.fixture
            def make_journal(self):
                return Forgetful

            @pytest.fixture
            def is_shared(self):
                return False
    """)
    assert result.parseoutcomes()["skipped"] > 10
    result.stdout.fnmatch_lines(["*Right contains one more item: Record(run=1, path='a/4:big'*"])


def test_the_suite_for_journals_has_several_of_them_by_default(session):
    result = session(
        """
        from plait.durable import SqliteJournal

        class TestJournal(JournalConformance):
            @pytest.fixture
            def make_journal(self, tmp_path):
                return lambda: SqliteJournal(tmp_path / "runs.db")
        """,
        "-k",
        "test_two_runners_never_claim_one_run",
    )
    result.assert_outcomes(passed=2, deselected=result.parseoutcomes()["deselected"])


def test_the_package_has_the_names_that_it_says_it_has():
    for name in plait.testing.__all__:
        assert getattr(plait.testing, name).__module__ in ("plait.testing", "plait")
    with pytest.raises(AttributeError, match="has no attribute 'Mock'"):
        _ = plait.testing.Mock


def test_the_plugin_brings_no_more_than_plait_itself():
    code = (
        "import plait, sys; before = set(sys.modules); import plait.testing.pytest_plugin;"
        "print(*(m for m in set(sys.modules) - before if m.startswith('plait.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["plait.testing.pytest_plugin"]
