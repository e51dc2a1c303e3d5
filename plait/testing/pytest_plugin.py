"""The pytest plugin: fixtures, and a report of what the tests have taken of the workflows.

Pytest imports it in every session: what it needs is imported by what needs it.
"""

from __future__ import annotations

import functools
import inspect
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from plait.durable import DurableRunner, MemoryJournal
    from plait.primitives import WorkflowContext
    from plait.testing._coverage import TreeCoverage
    from plait.testing._crash_fixture import Crash

_COVERAGE = pytest.StashKey["TreeCoverage"]()
_AROUND = pytest.StashKey["list[AbstractAsyncContextManager[Any]]"]()
_DATA = "plait_coverage"

pytest.register_assert_rewrite("plait.testing._journals")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("plait")
    group.addoption(
        "--plait-coverage",
        action="store_true",
        help="report which branches, routes and fallbacks of plait workflows the tests have taken",
    )
    group.addoption(
        "--plait-coverage-fail-under",
        type=float,
        metavar="PERCENT",
        help="as --plait-coverage, and fail where less of the workflows was taken",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, and start to take notes."""
    config.addinivalue_line(
        "markers",
        "virtual_time: run an async test in virtual time, as the fixture `virtual_clock` does",
    )
    fail_under = config.getoption("--plait-coverage-fail-under")
    if config.getoption("--plait-coverage") or fail_under is not None:
        from plait.testing._coverage import TreeCoverage

        config.stash[_COVERAGE] = TreeCoverage()
        config.stash[_COVERAGE].start()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Take no more notes."""
    coverage = config.stash.get(_COVERAGE, None)
    if coverage is not None:
        coverage.stop()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give tests with the marker the fixture."""
    names: list[str] | None = getattr(item, "fixturenames", None)
    is_marked = item.get_closest_marker("virtual_time") is not None
    if is_marked and names is not None and "virtual_clock" not in names:
        names.insert(0, "virtual_clock")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand on what a worker of pytest-xdist has noted; fail where too little was taken."""
    coverage = session.config.stash.get(_COVERAGE, None)
    if coverage is None:
        return
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_DATA] = coverage.taken
    elif _is_too_little(session.config, coverage) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker of pytest-xdist has noted."""
    coverage = node.config.stash.get(_COVERAGE, None)
    if coverage is not None:
        coverage.add(getattr(node, "workeroutput", {}).get(_DATA, {}))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Report what was noted."""
    coverage = config.stash.get(_COVERAGE, None)
    if coverage is None:
        return
    terminalreporter.section("plait: what was taken of the workflows")
    for line in coverage.report():
        terminalreporter.write_line(line)
    if _is_too_little(config, coverage):
        wanted = config.getoption("--plait-coverage-fail-under")
        terminalreporter.write_line(
            f"{coverage.percent():.1f}% were taken, less than the {wanted:g}% asked for", red=True
        )


@pytest.fixture
def virtual_clock(request: pytest.FixtureRequest) -> Any:
    """A `VirtualClock` that the test runs under, whichever plugin runs it."""
    from plait.testing import VirtualClock

    clock = VirtualClock()
    clock.install()
    if inspect.iscoroutinefunction(request.function):
        _run_inside(request, clock)
    yield clock
    clock.remove()


@pytest.fixture
def context(request: pytest.FixtureRequest) -> WorkflowContext:
    """A new `WorkflowContext`."""
    if "virtual_clock" in request.fixturenames:
        request.getfixturevalue("virtual_clock")
    from plait import WorkflowContext

    return WorkflowContext()


@pytest.fixture
def journal() -> MemoryJournal:
    """A new journal in memory."""
    from plait.durable import MemoryJournal

    return MemoryJournal()


@pytest.fixture
def runner(request: pytest.FixtureRequest, journal: MemoryJournal) -> DurableRunner:
    """A `DurableRunner` over `journal`, entered while the test runs; for async tests."""
    from plait.durable import DurableRunner

    if not inspect.iscoroutinefunction(request.function):
        msg = "the fixture `runner` is for async tests: entering a runner takes an event loop"
        raise TypeError(msg)
    if "virtual_clock" in request.fixturenames:
        request.getfixturevalue("virtual_clock")  # whose inside the runner is
    made = DurableRunner(journal, grace_seconds=0)
    _run_inside(request, made)
    return made


@pytest.fixture
def crash() -> Crash:
    """Kills durable runs and carries them on: everywhere, or at a node."""
    from plait.testing._crash_fixture import Crash

    return Crash()


def _is_too_little(config: pytest.Config, coverage: TreeCoverage) -> bool:
    fail_under: float | None = config.getoption("--plait-coverage-fail-under")
    return fail_under is not None and coverage.percent() < fail_under


def _run_inside(request: pytest.FixtureRequest, manager: AbstractAsyncContextManager[Any]) -> None:
    """Have a test enter a context manager when it runs, in its own task and event loop.

    An async fixture would need the plugin that runs async fixtures, and each has its own way.
    """
    item = request.node
    managers = item.stash.setdefault(_AROUND, [])
    managers.append(manager)
    if len(managers) > 1:
        return
    function = item.obj

    @functools.wraps(function)
    async def inside(*args: Any, **kwargs: Any) -> None:
        async with AsyncExitStack() as stack:
            for entered in managers:
                await stack.enter_async_context(entered)
            await function(*args, **kwargs)

    item.obj = inside
