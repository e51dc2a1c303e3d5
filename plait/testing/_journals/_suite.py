"""How the tests of journals are run: on each event loop, without a plugin for async tests."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import anyio
import pytest

from plait.durable import Journal
from plait.durable._opened import opened

if TYPE_CHECKING:
    from collections.abc import Coroutine

MakeJournal: TypeAlias = Callable[[], Journal]
SuiteT = TypeVar("SuiteT", bound="type[Suite]")


class Suite:
    """The fixtures of the tests.

    A test has `journal`, which is open, or `two`, which are open on one storage. `make_journal` and
    `reopen` make one that is not open; where a storage cannot be opened more than once, tests that
    have `two` or `reopen` are skipped.
    """

    @pytest.fixture
    def make_journal(self) -> MakeJournal:
        """Makes another journal object on the storage of this test, as another process would."""
        msg = f"{type(self).__name__} needs a fixture `make_journal`: see JournalConformance"
        raise NotImplementedError(msg)

    @pytest.fixture
    def is_shared(self) -> bool:
        """Whether several journal objects may have one storage, also one after the other."""
        return True

    @pytest.fixture(params=["asyncio", "trio"])
    def backend(self, request: pytest.FixtureRequest) -> str:
        """The event loop."""
        pytest.importorskip(request.param)
        return str(request.param)


def on_event_loops(suite: SuiteT) -> SuiteT:
    """Have the async tests of a class run on each event loop that the fixture `backend` names."""
    for name, test in list(vars(suite).items()):
        if name.startswith("test_") and inspect.iscoroutinefunction(test):
            setattr(suite, name, _run_on_a_loop(test))
    return suite


def _run_on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    wanted = dict(inspect.signature(test).parameters)
    given = {
        name for name in ("journal", "two", "make_journal", "reopen") if wanted.pop(name, None)
    }

    # Without functools.wraps: pytest would look through it, and take the test for an async one.
    def run(
        self: Suite, make_journal: MakeJournal, is_shared: bool, backend: str, **others: Any
    ) -> None:
        if given & {"two", "reopen"} and not is_shared:
            pytest.skip("nothing else can open this storage")

        async def main() -> None:
            async with AsyncExitStack() as stack:
                if "journal" in given:
                    others["journal"] = await stack.enter_async_context(opened(make_journal()))
                if "two" in given:
                    others["two"] = (
                        await stack.enter_async_context(opened(make_journal())),
                        await stack.enter_async_context(opened(make_journal())),
                    )
                for name in given & {"make_journal", "reopen"}:
                    others[name] = make_journal
                await test(self, **others)

        anyio.run(main, backend=backend)

    own = [each for each in inspect.signature(run).parameters.values() if each.name != "others"]
    asked = [each for each in wanted.values() if each.name != "self"]
    vars(run).update(vars(test), __signature__=inspect.Signature([*own, *asked]))
    run.__name__, run.__qualname__, run.__doc__ = test.__name__, test.__qualname__, test.__doc__
    run.__module__ = test.__module__
    return run
