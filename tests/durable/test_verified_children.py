"""A replay that executes nothing starts no other runs either."""

import pytest

from plait import step, workflow
from plait.durable import DurableRunner

pytestmark = pytest.mark.anyio


@step
async def double(number: int) -> int:
    return 2 * number


async def test_a_replay_finds_the_children_that_were_started(journal):
    @workflow
    async def parent(number: int) -> int:
        child = await runner.start(double, number)
        return await child.result()

    runner = DurableRunner(journal, workflows=[parent, double])
    async with runner:
        assert await runner.run(parent, 4, run_id="run") == 8
        before = await runner.list()
        found = await runner.verify("run")
        assert (found.fits, found.stopped_at) == (True, None)
        assert await runner.list() == before


async def test_a_replay_stops_where_a_child_would_be_started(journal):
    starts = []

    @workflow
    async def parent(number: int) -> int:
        done = await double(number)
        if starts:
            await runner.start(double, number)
        return done

    runner = DurableRunner(journal, workflows=[parent, double])
    async with runner:
        await runner.run(parent, 4, run_id="run")
        before = await runner.list()
        starts.append("a child")
        found = await runner.verify("run")
        assert not found.fits
        assert found.stopped_at == "parent/1#start"
        assert await runner.list() == before
